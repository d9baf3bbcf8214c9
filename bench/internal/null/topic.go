package null

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A topic is how many messages have been published to it.
type topic struct {
	published atomic.Int64
	size      atomic.Int64 // of the last body, in bytes

	mu       sync.Mutex                 // held while channels changes
	channels atomic.Pointer[[]*channel] // replaced, never changed
}

// A channel is how many of its topic's messages have been taken.
type channel struct {
	name  string
	topic *topic
	taken atomic.Int64

	// ready holds a token while there may be messages that nobody is about to take.
	// Who receives it and leaves some must put it back.
	ready chan struct{}
}

// add publishes n messages of size bytes each.
func (t *topic) add(n, size int) {
	t.size.Store(int64(size))
	t.published.Add(int64(n))
	if channels := t.channels.Load(); channels != nil {
		for _, c := range *channels {
			c.wake()
		}
	}
}

// channel returns the channel of that name, which comes into being if need be.
func (t *topic) channel(name string) *channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	var channels []*channel
	if old := t.channels.Load(); old != nil {
		channels = slices.Clone(*old)
	}
	if i := slices.IndexFunc(channels, func(c *channel) bool { return c.name == name }); i >= 0 {
		return channels[i]
	}
	c := &channel{name: name, topic: t, ready: make(chan struct{}, 1)}
	channels = append(channels, c)
	t.channels.Store(&channels)
	c.wake() // for what was published before
	return c
}

// wake lets a consumer look for messages.
func (c *channel) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// take takes up to most messages. If more are left another consumer is woken, or the
// same one again.
func (c *channel) take(most int64) int64 {
	for {
		taken := c.taken.Load()
		have := c.topic.published.Load() - taken
		n := min(most, have)
		if n <= 0 {
			if have > 0 {
				c.wake()
			}
			return 0
		}
		if c.taken.CompareAndSwap(taken, taken+n) {
			if n < have {
				c.wake()
			}
			return n
		}
	}
}

// giveBack makes one message that was taken available again.
func (c *channel) giveBack() {
	c.taken.Add(-1)
	c.wake()
}
