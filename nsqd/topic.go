package nsqd

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

func isEphemeral(name string) bool { return protocol.IsEphemeral(name) }

// env is what all topics and channels of one daemon share.
type env struct {
	log          *slog.Logger
	keeper       *timekeeper
	storage      storage
	health       *health
	memQueueSize int
	topology     *topology // nil without the experiment

	latencyWindow time.Duration // of which latencies are kept; 0 for none
	quantiles     []float64     // of latencies, each in (0,1]

	// changed is told when a topic or a channel of it (channel != "") has come
	// into being or has gone, in that order for each name.
	changed func(topic, channel string, exists bool)
	// abandoned is told when an ephemeral topic has lost its last channel.
	abandoned func(*Topic)
}

// A Topic takes messages from producers and copies each to all its channels.
//
// As a rule a message goes to the channels at once, on the goroutine of its
// publisher. Where it cannot — there is no channel, the topic is paused or not
// started, or earlier messages still wait — it waits in the topic's own queue,
// and a pump that lives only as long as there is something to move passes it on.
type Topic struct {
	name      string
	ephemeral bool
	env       *env
	queue     *queue

	messages atomic.Uint64 // accepted publishes
	bytes    atomic.Uint64 // of their bodies
	closing  atomic.Bool   // closed or deleted: publishes are refused

	// direct is the channels while messages may go straight to them, nil
	// otherwise. Written under mu.
	direct atomic.Pointer[[]*Channel]
	// nudge holds a token when how messages go may have changed.
	nudge chan struct{}
	loans loans
	// flowing is whether the topic is started, not paused and has a channel.
	// Written under mu.
	flowing atomic.Bool

	mu       sync.Mutex
	channels map[string]*Channel
	deleting map[string]chan struct{} // channels on their way out, until their files are gone
	started  bool
	paused   bool
	pumping  bool // the pump is running
	pump     sync.WaitGroup
}

func newTopic(env *env, name string) *Topic {
	return &Topic{
		name:      name,
		ephemeral: isEphemeral(name),
		env:       env,
		queue:     newQueue(env, name, isEphemeral(name)),
		channels:  make(map[string]*Channel),
		deleting:  make(map[string]chan struct{}),
		nudge:     make(chan struct{}, 1),
	}
}

// PutMessages accepts all entries, in order, or none: then it returns
// [errExiting], or why they could not be stored. Entries stay the caller's.
//
// It reports whether messages are kept in memory; if not, they are all on disk, and
// nobody refers to them any more.
func (t *Topic) PutMessages(entries []entry) (kept bool, err error) {
	if t.closing.Load() {
		return false, errExiting
	}
	if channels := t.direct.Load(); channels != nil {
		kept = true
		if !handOver(*channels, entries) {
			t.reflow() // not on this way until that channel is well again
		}
	} else {
		kept, err = t.queue.put(entries)
		if t.flowing.Load() {
			t.reflow()
		}
		if err != nil {
			return false, err
		}
	}
	size := 0
	for _, e := range entries {
		size += e.bodySize()
	}
	t.messages.Add(uint64(countOf(entries)))
	t.bytes.Add(uint64(size))
	return kept, nil
}

// handOver gives entries to all channels and reports whether each could store
// its share; what one could not, it keeps in memory. Memory comes first, so that
// no channel waits for another's disk, and disks are waited for together.
func handOver(channels []*Channel, entries []entry) (stored bool) {
	var shares []share
	for _, c := range channels {
		if rest := c.accept(entries); len(rest) > 0 {
			shares = append(shares, share{c.queue, rest})
		}
	}
	if len(shares) == 0 {
		return true
	}
	var failed atomic.Bool
	var others sync.WaitGroup
	for _, s := range shares[1:] {
		others.Go(func() {
			if !s.queue.keepRest(s.entries) {
				failed.Store(true)
			}
		})
	}
	stored = shares[0].queue.keepRest(shares[0].entries)
	others.Wait()
	return stored && !failed.Load()
}

// A share is what a channel's queue has to store.
type share struct {
	queue   *queue
	entries []entry
}

func (t *Topic) reflow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reflowLocked()
}

// reflowLocked decides how messages go after something has changed: straight to
// the channels, or through the queue, with a pump if there is something to move.
//
// A publisher that saw the way closed and has queued a message calls it too: so
// either the publisher sees that the topic flows and comes here, or its message
// was queued before the topic began to flow, and is found here then.
func (t *Topic) reflowLocked() {
	flowing := t.started && !t.paused && len(t.channels) > 0 && !t.closing.Load()
	t.flowing.Store(flowing)
	select {
	case t.nudge <- struct{}{}: // the pump may be waiting for this change
	default:
	}
	backlog := t.queue.depth() > 0
	if !flowing || t.pumping || backlog || t.failingLocked() {
		t.direct.Store(nil)
		if flowing && backlog && !t.pumping {
			t.pumping = true
			t.pump.Go(t.messagePump)
		}
		return
	}
	channels := t.channelListLocked()
	t.direct.Store(&channels)
}

// failingLocked reports whether the disk of some channel does not take what that
// channel has too much of.
func (t *Topic) failingLocked() bool {
	for _, c := range t.channels {
		if c.queue.excess.failing.Load() {
			return true
		}
	}
	return false
}

const (
	pumpBatch = 256                    // messages a topic's pump moves at a time
	pumpPause = 100 * time.Millisecond // before it looks again at a disk that fails
)

// messagePump moves what waits in the topic to the channels, and ends when
// nothing is left or the topic does not flow any more. While a channel has more
// in memory than it may, because its disk fails, messages stay in the topic: they
// go to all channels at the same time, and memory is not to grow.
func (t *Topic) messagePump() {
	entries := make([]entry, pumpBatch)
	records := make([][]byte, 0, pumpBatch)
	for {
		t.mu.Lock()
		if !t.flowing.Load() || t.queue.depth() == 0 {
			t.pumping = false
			t.reflowLocked()
			t.mu.Unlock()
			return
		}
		channels := t.channelListLocked()
		t.mu.Unlock()

		n := 0
		if !slices.ContainsFunc(channels, func(c *Channel) bool { return c.queue.overfull() }) {
			n = t.queue.takeOldest(entries, records)
		}
		if n == 0 { // or what there is cannot be read just now
			select {
			case <-t.nudge:
			case <-time.After(pumpPause):
			}
			continue
		}
		if entries[0].stored == storedHere {
			t.handOverStored(channels, entries[:n])
		} else {
			handOver(channels, entries[:n])
		}
		clear(entries[:n])
	}
}

// start lets messages flow: all channels known from before exist.
func (t *Topic) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = true
	t.reflowLocked()
}

// pause stops or resumes the flow and reports whether that changed anything.
func (t *Topic) pause(paused bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := t.paused != paused
	t.paused = paused
	t.reflowLocked()
	return changed
}

// isMoving reports whether the pump is running.
func (t *Topic) isMoving() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pumping
}

func (t *Topic) isPaused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.paused
}

// GetChannel returns the channel of that name, which it creates if need be. It
// returns [errExiting] when the topic is being deleted. While a channel of that
// name is being deleted it waits: the new one would share its files, and lose
// them. Consumers that connect again at once make this happen.
func (t *Topic) GetChannel(name string) (*Channel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.deleting[name] != nil {
		gone := t.deleting[name]
		t.mu.Unlock()
		<-gone
		t.mu.Lock()
	}
	if c := t.channels[name]; c != nil {
		return c, nil
	}
	if t.closing.Load() {
		return nil, errExiting
	}
	c := newChannel(t.env, t.name, name, t.reflow, t.giveBack)
	if err := c.queue.restore(); err != nil {
		return nil, err
	}
	t.channels[name] = c
	t.env.log.Info(fmt.Sprintf("TOPIC(%s): new channel(%s)", t.name, name))
	t.env.changed(t.name, name, true)
	t.reflowLocked()
	return c, nil
}

// existingChannel returns the channel of that name, or nil.
func (t *Topic) existingChannel(name string) *Channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.channels[name]
}

// channelList returns the channels by name.
func (t *Topic) channelList() []*Channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.channelListLocked()
}

func (t *Topic) channelListLocked() []*Channel {
	return slices.SortedFunc(maps.Values(t.channels), func(a, b *Channel) int { return strings.Compare(a.name, b.name) })
}

// deleteChannel removes c with all it holds, unless that has happened already. An
// ephemeral topic goes with its last channel.
func (t *Topic) deleteChannel(c *Channel) error {
	t.mu.Lock()
	if t.channels[c.name] != c {
		t.mu.Unlock()
		return nil
	}
	c.closing.Store(true) // nobody joins what is on its way out
	delete(t.channels, c.name)
	gone := make(chan struct{})
	t.deleting[c.name] = gone
	last := len(t.channels) == 0
	t.reflowLocked()
	t.env.changed(t.name, c.name, false)
	t.mu.Unlock()

	t.env.log.Info(fmt.Sprintf("TOPIC(%s): deleting channel %s", t.name, c.name))
	err := c.delete()
	t.mu.Lock()
	delete(t.deleting, c.name)
	close(gone)
	t.mu.Unlock()
	if last && t.ephemeral {
		t.env.abandoned(t)
	}
	return err
}

// empty drops what waits in the topic itself.
func (t *Topic) empty() error { return t.queue.empty() }

// close stops the flow and stores everything the topic and its channels hold.
// Nobody may publish or consume any more.
func (t *Topic) close() error {
	t.env.log.Info(fmt.Sprintf("TOPIC(%s): closing", t.name))
	t.stop()
	t.env.log.Info(fmt.Sprintf("TOPIC(%s): closing ... messagePump", t.name))
	inMemory := t.queue.memory.Len()
	var err error
	for _, c := range t.channelList() {
		err = errors.Join(err, c.close())
	}
	if inMemory > 0 && !t.ephemeral {
		t.env.log.Info(fmt.Sprintf("TOPIC(%s): flushing %d memory messages to backend", t.name, inMemory))
	}
	return errors.Join(err, t.queue.close(nil, nil))
}

// delete removes the topic's channels and everything they and it hold.
func (t *Topic) delete() error {
	t.env.log.Info(fmt.Sprintf("TOPIC(%s): deleting", t.name))
	t.stop()
	var err error
	for _, c := range t.channelList() {
		t.mu.Lock()
		delete(t.channels, c.name)
		t.env.changed(t.name, c.name, false)
		t.mu.Unlock()
		err = errors.Join(err, c.delete())
	}
	return errors.Join(err, t.queue.delete())
}

// stop refuses further messages and waits for the pump.
func (t *Topic) stop() {
	t.mu.Lock()
	t.closing.Store(true)
	t.reflowLocked()
	t.mu.Unlock()
	t.pump.Wait()
}
