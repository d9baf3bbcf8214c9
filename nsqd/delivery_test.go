package nsqd

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// took fails the test unless exactly want has passed since start.
func took(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func TestTimeoutRequeuesExactlyWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("orders", "billing").Rdy(1)
		b.connect().Pub("orders", "a")
		first := c.ReadMessage()
		start := time.Now()
		again := c.ReadMessage()
		took(t, start, time.Minute)
		if again.Attempts != 2 || again.ID != first.ID || again.Nanos != first.Nanos || again.Body != "a" {
			t.Errorf("came again as %+v, was %+v", again, first)
		}
		ch := b.channel("orders", "billing")
		nsqtest.Equal(t, ch.timeouts.Load(), uint64(1))
		nsqtest.Equal(t, ch.requeued.Load(), uint64(0))
		c.Fin(again.ID)
		c.Fin(again.ID).ExpectError(fmt.Sprintf("E_FIN_FAILED FIN %s failed ID not in flight", again.ID))
		b.balance("orders", "billing", 1)
	})
}

func TestClientsOwnTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect()
		c.Identify(`{"msg_timeout":1500}`)
		c.Sub("t", "ch").Rdy(1)
		b.connect().Pub("t", "a")
		c.ReadMessage()
		start := time.Now()
		c.ReadMessage()
		took(t, start, 1500*time.Millisecond)
	})
}

func TestTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MaxMsgTimeout = 150 * time.Second })
		c := b.connect().Sub("t", "ch").Rdy(1)
		b.connect().Pub("t", "a")
		m := c.ReadMessage()
		start := time.Now()
		for range 3 { // at 50, 100 and 140 s
			time.Sleep(50 * time.Second)
			if time.Since(start) == 150*time.Second {
				t.Fatal("the message should have come back by now")
			}
			c.Touch(m.ID).Nop()
			if time.Since(start) == 100*time.Second {
				break
			}
		}
		again := c.ReadMessage()
		took(t, start, 150*time.Second) // not 160: the limit counts from delivery
		nsqtest.Equal(t, again.Attempts, uint16(2))
		c.Fin(again.ID)
		c.Touch(m.ID).ExpectError(fmt.Sprintf("E_TOUCH_FAILED TOUCH %s failed ID not in flight", m.ID))
	})
}

func TestRequeue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(1)
		b.connect().Pub("t", "a")
		m := c.ReadMessage()
		for attempt, delay := range []time.Duration{0, 3 * time.Second, 2 * time.Hour} {
			nsqtest.Equal(t, int(m.Attempts), attempt+1)
			start := time.Now()
			c.Req(m.ID, delay)
			if delay > 0 {
				synctest.Wait()
				nsqtest.Equal(t, b.channel("t", "ch").deferred.Len(), int64(1))
				b.balance("t", "ch", 0)
			}
			m = c.ReadMessage()
			took(t, start, min(delay, time.Hour)) // clamped to --max-req-timeout
		}
		nsqtest.Equal(t, b.channel("t", "ch").requeued.Load(), uint64(3))
		c.Fin(m.ID)
		c.Req(m.ID, 0).ExpectError(fmt.Sprintf("E_REQ_FAILED REQ %s failed ID not in flight", m.ID))
		b.balance("t", "ch", 1)
	})
}

func TestDeferredPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		one := b.connect().Sub("t", "one").Rdy(1)
		two := b.connect().Sub("t", "two").Rdy(1)
		start := time.Now()
		b.connect().Dpub("t", time.Second, "a")
		synctest.Wait()
		ch := b.channel("t", "one")
		nsqtest.Equal(t, ch.deferred.Len(), int64(1))
		nsqtest.Equal(t, ch.messages.Load(), uint64(1))
		nsqtest.Equal(t, ch.queue.depth(), int64(0))
		for _, c := range []*nsqtest.Conn{one, two} {
			m := c.ReadMessage()
			took(t, start, time.Second)
			nsqtest.Equal(t, m.Attempts, uint16(1))
		}
	})
}

// The delay of a message begins when it leaves its topic.
func TestDeferredInPausedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(1)
		b.topic("t").pause(true)
		b.connect().Dpub("t", time.Second, "a")
		time.Sleep(time.Minute)
		start := time.Now()
		b.topic("t").pause(false)
		c.ReadMessage()
		took(t, start, time.Second)
	})
}

// 300 channels made a moment ago, each with a message whose time runs out.
func TestDeadlinesOfManyNewChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		var consumers []*nsqtest.Conn
		for i := range 300 {
			c := b.connect()
			c.Identify(fmt.Sprintf(`{"msg_timeout":%d}`, 1000+i))
			consumers = append(consumers, c.Sub("t", fmt.Sprintf("ch%d", i)).Rdy(1))
		}
		b.connect().Pub("t", "a")
		for _, c := range consumers {
			c.ReadMessage()
		}
		start := time.Now()
		for i, c := range consumers {
			c.ReadMessage()
			took(t, start, time.Second+time.Duration(i)*time.Millisecond)
		}
	})
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect()
		start := time.Now()
		c.Identify(`{"heartbeat_interval":1000}`)
		c.Sub("t", "ch")
		for i := range 5 {
			c.ExpectHeartbeat()
			took(t, start, time.Duration(i+1)*time.Second)
			c.Nop()
		}
		// From here on silent: dropped after two intervals, or a little later.
		last := time.Now()
		c.ExpectHeartbeat()
		synctest.Wait()
		c.ReadFrame() // the second heartbeat and the end are close together
		c.ExpectClosed()
		if d := time.Since(last); d < 2*time.Second || d > 2100*time.Millisecond {
			t.Errorf("dropped after %v, want 2 s", d)
		}
		synctest.Wait()
		nsqtest.Equal(t, len(b.channel("t", "ch").consumerList()), 0)
	})
}

func TestHeartbeatsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect()
		c.Identify(`{"heartbeat_interval":-1}`)
		time.Sleep(time.Hour)
		c.Pub("t", "a")
		c.Command("SUB", "t", "ch").ExpectError("E_INVALID cannot SUB with heartbeats disabled").ExpectClosed()
	})
}

// A client that left the output buffer alone gets a message at once; one that
// asked for batching waits for its time, unless it can take no more.
func TestOutputBuffering(t *testing.T) {
	for name, c := range map[string]struct {
		identify string
		rdy      int
		want     time.Duration
	}{
		"default":               {`{}`, 10, 0},
		"the default, asked":    {`{"output_buffer_timeout":250}`, 10, 0},
		"asked for 500 ms":      {`{"output_buffer_timeout":500,"output_buffer_size":262144}`, 10, 500 * time.Millisecond},
		"asked, but RDY is 1":   {`{"output_buffer_timeout":500,"output_buffer_size":262144}`, 1, 0},
		"no timer: a heartbeat": {`{"output_buffer_timeout":-1,"output_buffer_size":262144,"heartbeat_interval":7000}`, 10, 7 * time.Second},
		"no buffer":             {`{"output_buffer_size":-1}`, 10, 0},
		"does not fit":          {`{"output_buffer_timeout":500,"output_buffer_size":1024}`, 10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBubble(t, func(o *Options) { o.MaxOutputBufferSize = 512 << 10 })
				con := b.connect()
				start := time.Now()
				con.Identify(c.identify)
				con.Sub("t", "ch").Rdy(c.rdy)
				synctest.Wait()
				body := strings.Repeat("x", 261120)
				b.connect().Pub("t", body)
				m := con.ReadMessage()
				took(t, start, c.want)
				nsqtest.Equal(t, m.Body, body)
			})
		})
	}
}

func TestRdyIsAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(3)
		p := b.connect()
		for range 5 {
			p.Pub("t", "a")
		}
		first := c.ReadMessage()
		c.ReadMessage()
		c.ReadMessage()
		synctest.Wait()
		nsqtest.Equal(t, b.channel("t", "ch").queue.depth(), int64(2))
		c.Fin(first.ID)
		last := c.ReadMessage()
		c.Rdy(1).Fin(last.ID)
		synctest.Wait()
		nsqtest.Equal(t, b.channel("t", "ch").queue.depth(), int64(1))
		b.balance("t", "ch", 2)
		c.Rdy(0)
		time.Sleep(2 * time.Minute) // all time out, none comes back
		synctest.Wait()
		nsqtest.Equal(t, b.channel("t", "ch").queue.depth(), int64(3))
	})
}

func TestPauseChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(10)
		p := b.connect().Pub("t", "a")
		m := c.ReadMessage()
		ch := b.channel("t", "ch")
		ch.pause(true)
		p.Pub("t", "b")
		c.Req(m.ID, 0)
		time.Sleep(50 * time.Millisecond)
		nsqtest.Equal(t, ch.queue.depth(), int64(2))
		start := time.Now()
		ch.pause(false)
		nsqtest.Equal(t, c.ReadMessage().Body+c.ReadMessage().Body, "ba")
		took(t, start, 0)
	})
}

// Messages of a client that is gone stay in flight until their time; nobody else
// can answer them.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		gone := b.connect().Sub("t", "ch").Rdy(1)
		b.connect().Pub("t", "a")
		m := gone.ReadMessage()
		start := time.Now()
		gone.Close()
		other := b.connect().Sub("t", "ch").Rdy(1)
		other.Fin(m.ID).ExpectError(fmt.Sprintf("E_FIN_FAILED FIN %s failed client does not own message", m.ID))
		nsqtest.Equal(t, b.channel("t", "ch").inFlightCount(), int64(1))
		nsqtest.Equal(t, other.ReadMessage().Attempts, uint16(2))
		took(t, start, time.Minute)
		synctest.Wait()
		nsqtest.Equal(t, len(b.channel("t", "ch").inFlightTables()), 1)
	})
}

// After a crash a message can be queued twice. A client that has it in flight
// does not get it again.
func TestDuplicateInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(10)
		ch := b.channel("t", "ch")
		e := recordOf(MessageID([]byte("0123456789abcdef")), 0, "a")
		ch.put([]entry{e, e})
		ch.put([]entry{e, recordOf(MessageID([]byte("another-message!")), 0, "b")})
		first, second := c.ReadMessage(), c.ReadMessage()
		nsqtest.Equal(t, first.Body+second.Body, "ab")
		c.Fin(first.ID).Fin(second.ID).Nop()
		synctest.Wait()
		nsqtest.Equal(t, ch.inFlightCount(), int64(0))
		nsqtest.Equal(t, ch.duplicates.Load(), uint64(2))
	})
}

// A message whose ID is in flight as that of another, since nsqd was restarted with the
// clock set back, is delivered once the other is answered.
func TestTwinInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(10)
		ch := b.channel("t", "ch")
		id := MessageID([]byte("0123456789abcdef"))
		ch.put([]entry{recordOf(id, 1, "a"), recordOf(id, 2, "b"), recordOf(id, 2, "a")})
		seen := []string{}
		for range 3 {
			m := c.ReadMessage()
			seen = append(seen, fmt.Sprint(m.Body, m.Nanos, m.Attempts))
			time.Sleep(time.Second)
			nsqtest.Equal(t, ch.inFlightCount(), int64(1))
			c.Fin(m.ID)
		}
		slices.Sort(seen)
		nsqtest.Equal(t, strings.Join(seen, ","), "a1 1,a2 1,b2 1")
		synctest.Wait()
		nsqtest.Equal(t, ch.inFlightCount()+ch.deferred.Len(), int64(0))
	})
}

func TestSampleRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MaxRdyCount = 10000 })
		c := b.connect()
		c.Identify(`{"sample_rate":42}`)
		c.Sub("t", "ch").Rdy(10000)
		p := b.connect()
		for range 8 { // what is delivered fits into the pipe's buffer
			p.Mpub("t", strings.Split(strings.Repeat("a,", 499)+"a", ",")...)
		}
		synctest.Wait()
		ch := b.channel("t", "ch")
		nsqtest.Equal(t, ch.queue.depth(), int64(0))
		if n := ch.inFlightCount(); n < 1480 || n > 1880 {
			t.Errorf("%d of 4000 messages in flight at a rate of 42 %%", n)
		}
		b.balance("t", "ch", 0)
	})
}

// Several consumers that are ready share what comes.
func TestConsumersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		const consumers, messages = 4, 400
		for range consumers {
			b.connect().Sub("t", "ch").Rdy(2500)
		}
		synctest.Wait()
		p := b.connect()
		for range messages / 20 {
			p.Mpub("t", strings.Split(strings.Repeat("a,", 19)+"a", ",")...)
			synctest.Wait()
		}
		for _, con := range b.channel("t", "ch").consumerList() {
			if n := con.inFlight.Len(); n < messages/consumers/2 {
				t.Errorf("one of %d consumers got %d of %d messages", consumers, n, messages)
			}
		}
		b.balance("t", "ch", 0)
	})
}

// How few messages at a time consumers get who share a batch depends on what they have
// asked for: many of them, with little RDY each, get their share at once; of those with
// room for thousands only some are written to, and the others have the next batches.
func TestConsumersShareByRoom(t *testing.T) {
	const consumers, messages = 64, 128
	for rdy, want := range map[int]struct{ least, most int }{
		100:  {consumers / 2, consumers},
		2500: {2, messages/9 + 1}, // 9 is a 256th of the room
	} {
		for _, inMemory := range []int64{10_000, 0} {
			synctest.Test(t, func(t *testing.T) {
				b := startBubble(t, func(o *Options) { o.MemQueueSize = inMemory })
				for range consumers {
					b.connect().Sub("t", "ch").Rdy(rdy)
				}
				synctest.Wait()
				b.connect().Mpub("t", slices.Repeat([]string{"a"}, messages)...)
				synctest.Wait()
				got, taking := int64(0), 0
				for _, con := range b.channel("t", "ch").consumerList() {
					if n := con.inFlight.Len(); n > 0 {
						got += n
						taking++
					}
				}
				if got != messages || taking < want.least || taking > want.most {
					t.Errorf("RDY %d, %d in memory: %d messages went to %d consumers", rdy, inMemory, got, taking)
				}
				b.balance("t", "ch", 0)
			})
		}
	}
}

func TestChannelEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 2 })
		c := b.connect().Sub("t", "ch").Rdy(2)
		p := b.connect().Dpub("t", time.Minute, "later")
		for range 10 {
			p.Pub("t", "a")
		}
		m := c.ReadMessage()
		c.ReadMessage()
		ch := b.channel("t", "ch")
		synctest.Wait()
		nsqtest.Equal(t, ch.queue.depth(), int64(8))
		if ch.queue.diskDepth() == 0 {
			t.Error("ten messages with room for two in memory, and none is on disk")
		}
		if err := ch.empty(); err != nil {
			t.Fatal(err)
		}
		nsqtest.Equal(t, ch.queue.depth()+ch.inFlightCount()+ch.deferred.Len(), int64(0))
		c.Fin(m.ID).ExpectError(fmt.Sprintf("E_FIN_FAILED FIN %s failed ID not in flight", m.ID))
		p.Pub("t", "b").Pub("t", "b")
		nsqtest.Equal(t, c.ReadMessage().Body+c.ReadMessage().Body, "bb")
	})
}

func TestMaxChannelConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MaxChannelConsumers = 1 })
		b.connect().Sub("t", "ch")
		b.connect().Command("SUB", "t", "ch").
			ExpectError("E_SUB_FAILED SUB failed consumers for t:ch exceeds limit of 1").ExpectClosed()
		b.connect().Sub("t", "other")
	})
}

func TestCloseWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(5)
		p := b.connect().Pub("t", "a")
		m := c.ReadMessage()
		c.Cls().Rdy(5)
		p.Pub("t", "b")
		c.Fin(m.ID).Pub("t", "from a consumer that closes")
		synctest.Wait()
		nsqtest.Equal(t, b.channel("t", "ch").queue.depth(), int64(2))
		c.Command("CLS").ExpectError("E_INVALID cannot CLS in current state").ExpectClosed()
		b.balance("t", "ch", 1)
	})
}

// A pipelined run of commands with an error in its middle is answered in order.
func TestPipelineAnswersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		b.connect().Sub("t", "ch")
		c := b.connect().Sub("t", "ch").Rdy(2)
		pub := string(protocol.AppendSized(protocol.AppendCommand(nil, "PUB", "t"), []byte("x")))
		c.Send("FIN 0123456789abcdef\n" + "FIN 0123456789abcdee\n" + pub + pub + "FIN 0123456789abcdef\nNOP\n" + pub + "BOGUS\n" + pub)
		c.ExpectError("E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight")
		c.ExpectError("E_FIN_FAILED FIN 0123456789abcdee failed ID not in flight")
		var got []string
		for len(got) < 5 {
			if f := c.ReadFrame(); f.Type != protocol.FrameMessage {
				got = append(got, f.Data)
			}
		}
		nsqtest.Equal(t, strings.Join(got, "|"), "OK|OK|E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight|OK|E_INVALID invalid command BOGUS")
		nsqtest.Equal(t, b.topic("t").messages.Load(), uint64(3))
	})
}

// Nothing is delivered after CLOSE_WAIT, also if CLS comes while a burst is on its
// way: a client that has nothing in flight then hangs up, and what it did not see
// would be missing until it times out.
func TestNothingAfterCloseWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(1)
		synctest.Wait()
		con := b.channel("t", "ch").consumerList()[0]
		con.pump.bursting.Lock()
		c.Command("CLS")
		for con.state.Load() != stateClosing {
			runtime.Gosched()
		}
		for range 100 {
			runtime.Gosched() // it would answer now
		}
		late := newEntry(b.svc.ids, []byte("a"), 0)
		if err := con.out.deliver([]entry{late}, []MessageID{late.id()}); err != nil {
			t.Error(err)
		}
		con.pump.bursting.Unlock()
		nsqtest.Equal(t, c.ReadMessage().Body, "a")
		c.ExpectResponse("CLOSE_WAIT")
	})
}
