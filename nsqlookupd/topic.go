package nsqlookupd

import (
	"slices"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// A topic is a topic registration. Guarded by registry.mu but for the name.
type topic struct {
	name       string              // set once
	producers  []*producer         // in the order of compareProducers
	channels   []*channel          // by name; their producers are among those of the topic
	tombstones map[*producer]int64 // unix nanoseconds when it was set; nil if there are none
}

// A channel is a channel registration. Guarded by registry.mu but for name and
// topic.
type channel struct {
	name      string // set once
	topic     *topic // set once
	producers []*producer
}

func (t *topic) isTombstoned(p *producer, now int64, lifetime time.Duration) bool {
	if len(t.tombstones) == 0 {
		return false
	}
	at, ok := t.tombstones[p]
	return ok && now-at < int64(lifetime)
}

func (t *topic) channelNames() []string {
	names := make([]string, len(t.channels))
	for i, c := range t.channels {
		names[i] = c.name
	}
	return names
}

func (t *topic) find(name string) (int, bool) {
	return slices.BinarySearchFunc(t.channels, name, func(c *channel, name string) int {
		return strings.Compare(c.name, name)
	})
}

// channel returns the channel, which it adds if it is not there.
func (t *topic) channel(name string) *channel {
	i, ok := t.find(name)
	if !ok {
		t.channels = slices.Insert(t.channels, i, &channel{name: strings.Clone(name), topic: t})
	}
	return t.channels[i]
}

// existingChannel returns the channel, or nil if it is not there.
func (t *topic) existingChannel(name string) *channel {
	i, ok := t.find(name)
	if !ok {
		return nil
	}
	return t.channels[i]
}

// remove takes the producer out of the channel, and the channel out of its
// topic if it is ephemeral and has no producer left. It reports whether the
// producer was there. The list of the producer is up to the caller.
func (c *channel) remove(p *producer) bool {
	producers, ok := removeProducer(c.producers, p)
	if !ok {
		return false
	}
	c.producers = producers
	if len(producers) == 0 && protocol.IsEphemeral(c.name) {
		c.topic.channels = drop(c.topic.channels, c)
	}
	return true
}

// insertProducer puts p in its place and reports whether it was missing.
func insertProducer(list []*producer, p *producer) ([]*producer, bool) {
	i, ok := slices.BinarySearchFunc(list, p, compareProducers)
	if ok {
		return list, false
	}
	return slices.Insert(list, i, p), true
}

// removeProducer takes p out of the list and reports whether it was there.
func removeProducer(list []*producer, p *producer) ([]*producer, bool) {
	i, ok := slices.BinarySearchFunc(list, p, compareProducers)
	if !ok {
		return list, false
	}
	if len(list) == 1 {
		return nil, true // gives the memory back
	}
	return slices.Delete(list, i, i+1), true
}

// drop takes x out of the list; the order stays.
func drop[T comparable](list []T, x T) []T {
	if i := slices.Index(list, x); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
