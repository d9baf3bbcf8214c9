package nsqd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// closeAtOnce is how many topics are closed at a time. Most of them wait, to share a
// sync of the file system; how many write is less (storeAtOnce).
const closeAtOnce = 1024

// closeTopics stores everything. Nobody publishes or consumes any more.
func (n *NSQD) closeTopics() error {
	persisted := n.metadata.persist()
	n.log.Info("NSQ: closing topics")
	topics := n.topicList()
	n.unstored.set(topics)
	errs := make([]error, len(topics))
	var g errgroup.Group
	g.SetLimit(closeAtOnce)
	for i, t := range topics {
		g.Go(func() error {
			errs[i] = t.close()
			n.unstored.done(t)
			return nil
		})
	}
	return errors.Join(persisted, g.Wait(), errors.Join(errs...))
}

// unstored holds the topics that a stop has still to store.
type unstored struct {
	mu    sync.Mutex
	begun bool
	left  map[string]struct{}
}

func (u *unstored) set(topics []*Topic) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begun = true
	u.left = make(map[string]struct{}, len(topics))
	for _, t := range topics {
		u.left[t.name] = struct{}{}
	}
}

func (u *unstored) done(t *Topic) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.left, t.name)
}

// names returns the topics by name, and whether they are being stored yet.
func (u *unstored) names() (left []string, begun bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.left)), u.begun
}

// remainingShown is how many topics Remaining names.
const remainingShown = 20

// Remaining says what a stop is waiting for: requests, or topics whose messages
// are not stored yet.
func (n *NSQD) Remaining() string {
	left, begun := n.unstored.names()
	if !begun {
		return "clients or HTTP requests; no topic is stored yet"
	}
	if len(left) == 0 {
		return "what runs in the background; all topics are stored"
	}
	text := fmt.Sprintf("%d topics to be stored: %s", len(left), strings.Join(left[:min(len(left), remainingShown)], ", "))
	if len(left) > remainingShown {
		text += ", ..."
	}
	return text
}
