package nsqd

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A bubble is a daemon in a synctest bubble: its clients are connected in memory,
// and a minute costs nothing.
type bubble struct {
	*NSQD
	t     *testing.T
	stop  func() error
	ended chan struct{} // closed when Run has returned
}

// startBubble runs a daemon with a data directory of its own, or of opts, after
// prepare has seen it.
func startBubble(t *testing.T, configure func(*Options), prepare ...func(*NSQD)) *bubble {
	t.Helper()
	opts := NewOptions()
	opts.DataPath = t.TempDir()
	if configure != nil {
		configure(opts)
	}
	n, err := newNSQD(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b := &bubble{NSQD: n, t: t, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		done <- n.Run(ctx)
	}()
	synctest.Wait() // what was stored is loaded
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("the daemon stopped with %v", err)
		}
	})
	return b
}

// connect returns the client's side of a new connection; the magic is sent.
func (b *bubble) connect() *nsqtest.Conn {
	b.t.Helper()
	client, server := nsqtest.Pipe()
	if !b.conns.join(server, 0, func() { b.handle(server) }) {
		b.t.Fatal("the daemon takes no connections any more")
	}
	return nsqtest.Wrap(b.t, client).Timeout(time.Hour).Send(protocol.MagicV2)
}

// topic returns a topic that exists.
func (b *bubble) topic(name string) *Topic {
	b.t.Helper()
	t := b.existingTopic(name)
	if t == nil {
		b.t.Fatalf("no topic %q", name)
	}
	return t
}

// channel returns a channel that exists.
func (b *bubble) channel(topic, name string) *Channel {
	b.t.Helper()
	c := b.topic(topic).existingChannel(name)
	if c == nil {
		b.t.Fatalf("no channel %q of topic %q", name, topic)
	}
	return c
}

// balance checks a channel's books: every message it received is finished, in
// flight, deferred, queued or discarded.
func (b *bubble) balance(topic, channel string, finished uint64) {
	b.t.Helper()
	c := b.channel(topic, channel)
	has := finished + uint64(c.inFlightCount()+c.deferred.Len()+c.queue.depth()) + c.queue.discarded.Load() + c.sampledOut.Load() + c.duplicates.Load()
	if got := c.messages.Load(); got != has {
		b.t.Errorf("%s:%s received %d messages; %d finished, in flight %d, deferred %d, depth %d, discarded %d, sampled out %d",
			topic, channel, got, finished, c.inFlightCount(), c.deferred.Len(), c.queue.depth(), c.queue.discarded.Load(), c.sampledOut.Load())
	}
}
