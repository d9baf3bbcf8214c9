package nsqlookupd

import (
	"maps"
	"slices"
	"strings"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// A topic is a topic registration. Guarded by the mutex of its shard but for name
// and shard.
type topic struct {
	name     string     // set once
	shard    *shard     // set once
	slots    []uint32   // producer.slot of the producers, these in the order of compareProducers
	channels []*channel // by name; their producers are among those of the topic

	unusedSince int64 // unix nanoseconds, while there is no producer

	// When producers of the topic were tombstoned, in unix nanoseconds; nil if
	// none was.
	tombstones map[*producer]int64

	// departed are tombstones whose connection has ended, until their time is
	// over: the nsqd is still to be hidden if it connects again.
	departed map[nodeAddress]int64
}

// A nodeAddress is what names an nsqd in a tombstone.
type nodeAddress struct {
	broadcast string
	httpPort  int
}

func (p *producer) address() nodeAddress { return nodeAddress{p.BroadcastAddress, p.HTTPPort} }

// A channel is a channel registration. Guarded by the mutex of the topic's shard
// but for the name.
type channel struct {
	name  string   // set once
	slots []uint32 // producer.slot of the producers, ascending
}

// isTombstoned reports whether the producer is tombstoned less than lifetime ago.
// Times are in nanoseconds.
func (t *topic) isTombstoned(p *producer, now, lifetime int64) bool {
	if len(t.tombstones) == 0 {
		return false
	}
	at, ok := t.tombstones[p]
	return ok && now-at < lifetime
}

// setTombstone hides the producer from now on.
func (t *topic) setTombstone(p *producer, now int64) {
	if t.tombstones == nil {
		t.tombstones = map[*producer]int64{}
	}
	t.tombstones[p] = now
}

// keepTombstone keeps the tombstone of a producer whose connection ends, if it
// has time left.
func (t *topic) keepTombstone(p *producer, now, lifetime int64) {
	if !t.isTombstoned(p, now, lifetime) {
		return
	}
	maps.DeleteFunc(t.departed, func(_ nodeAddress, at int64) bool { return now-at >= lifetime })
	if t.departed == nil {
		t.departed = map[nodeAddress]int64{}
	}
	t.departed[p.address()] = t.tombstones[p]
}

// restoreTombstone gives a new producer of the topic the tombstone that its
// former connection left, if it has time left.
func (t *topic) restoreTombstone(p *producer, now, lifetime int64) {
	at, ok := t.departed[p.address()]
	if !ok {
		return
	}
	delete(t.departed, p.address())
	if now-at < lifetime {
		t.setTombstone(p, at)
	}
}

func (t *topic) channelNames() []string {
	names := make([]string, len(t.channels))
	for i, c := range t.channels {
		names[i] = c.name
	}
	return names
}

// findChannel returns the place of the channel among those of the topic, and
// whether it is there.
func findChannel[S string | []byte](t *topic, name S) (int, bool) {
	return slices.BinarySearchFunc(t.channels, name, func(c *channel, name S) int {
		switch {
		case c.name < string(name): // compared without a copy
			return -1
		case c.name > string(name):
			return 1
		}
		return 0
	})
}

// addChannel returns the channel, which it adds if it is not there.
func addChannel[S string | []byte](t *topic, name S) *channel {
	i, ok := findChannel(t, name)
	if !ok {
		// A copy: one from HTTP would keep the text of its whole request.
		t.channels = slices.Insert(t.channels, i, &channel{name: strings.Clone(string(name))})
	}
	return t.channels[i]
}

// leaveChannels takes the producer out of all channels, and calls left, if it is
// not nil, with the names of those it was in. Ephemeral ones that have no
// producer left go. It returns how many it was in and how many are gone.
func (t *topic) leaveChannels(p *producer, left func(name string)) (was, gone int) {
	before := len(t.channels)
	t.channels = slices.DeleteFunc(t.channels, func(c *channel) bool {
		if !c.remove(p) {
			return false
		}
		was++
		if left != nil {
			left(c.name)
		}
		return c.isOver()
	})
	return was, before - len(t.channels)
}

func (c *channel) has(p *producer) bool {
	_, ok := slices.BinarySearch(c.slots, p.slot)
	return ok
}

// add enters a producer that is not there.
func (c *channel) add(p *producer) {
	i, _ := slices.BinarySearch(c.slots, p.slot)
	c.slots = slices.Insert(c.slots, i, p.slot)
}

// remove takes the producer out and reports whether it was there.
func (c *channel) remove(p *producer) bool {
	i, ok := slices.BinarySearch(c.slots, p.slot)
	if ok {
		c.slots = slices.Delete(c.slots, i, i+1)
	}
	return ok
}

// isOver reports whether the topic goes because nobody has it any more.
func (t *topic) isOver() bool { return len(t.slots) == 0 && protocol.IsEphemeral(t.name) }

// isOver reports whether the channel goes because nobody has it any more.
func (c *channel) isOver() bool { return len(c.slots) == 0 && protocol.IsEphemeral(c.name) }
