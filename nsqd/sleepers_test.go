package nsqd

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Consumers come and go while messages come, in memory, on disk and both: once all
// is quiet, no message waits beside a consumer that has room for it.
func TestNoConsumerSleepsBesideMessages(t *testing.T) {
	for _, test := range []struct {
		memory    int64
		configure func(*Options)
	}{
		{10000, func(*Options) {}},
		{3, func(*Options) {}},
		{0, func(*Options) {}},
		{10000, near},
		{3, near},
	} {
		t.Run(fmt.Sprintf("mem-queue-size %d", test.memory), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBubble(t, func(o *Options) {
					test.configure(o)
					o.MemQueueSize = test.memory
				})
				b.connect().Sub("t", "ch").Rdy(2500) // and not another word: only messages wake it
				wavering := b.connect().Sub("t", "ch")
				for range 60 {
					var all sync.WaitGroup
					for range 2 {
						all.Go(func() {
							p := b.connect()
							for range 10 {
								p.Pub("t", "a")
							}
							p.Close()
						})
						all.Go(func() {
							for range 10 {
								b.connect().Sub("t", "ch").Rdy(1).Close()
							}
						})
					}
					all.Go(func() {
						for i := range 10 {
							wavering.Rdy(2500 * (i % 2))
						}
					})
					all.Wait()
					wavering.Rdy(0)
					synctest.Wait()
					if n := b.channel("t", "ch").queue.depth(); n > 0 {
						t.Fatalf("%d messages wait beside a consumer with room for them", n)
					}
				}
				b.balance("t", "ch", 0)
			})
		})
	}
}

// A consumer that has nothing to do costs the goroutine of its IOLoop, and no other.
func TestSleepingConsumersHaveNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		const consumers = 10 * maxIdle
		before := runtime.NumGoroutine()
		for range consumers {
			b.connect().Sub("t", "ch").Rdy(1)
		}
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > consumers+maxIdle {
			t.Errorf("%d goroutines for %d consumers", n, consumers)
		}
	})
}

// A token that was handed to a consumer on its way out goes to the next one.
func TestTokenOfOneWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		b.connect().Sub("t", "ch")
		b.connect().Sub("t", "ch")
		synctest.Wait()
		ch := b.channel("t", "ch")
		list := ch.consumerList()
		leaving, next := list[0], list[1]
		for _, con := range []*consumer{leaving, next} {
			con.rdy.Store(1)
		}
		ch.paused.Store(true) // no pump takes the message below
		b.connect().Pub("t", "a")
		synctest.Wait()
		ch.paused.Store(false)

		leaving.pump.leaving.Store(true)
		<-ch.queue.memory.Ready()
		leaving.pump.give(memoryToken)
		synctest.Wait()
		leaving.pump.end()
		if len(ch.queue.memory.Ready()) != 1 {
			t.Error("a token given before it ended is gone")
		}

		ch.queue.sleepers.join(&leaving.pump)
		ch.queue.sleepers.join(&next.pump)
		next.pump.asleep = true
		ch.queue.memory.Wake()
		synctest.Wait()
		if n := next.inFlight.Len(); n != 1 {
			t.Errorf("%d messages in flight, want 1: a token given after it ended is gone", n)
		}
	})
}
