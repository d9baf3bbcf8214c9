package nsqd

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// The weaknesses of queueing that the daemon whose protocol this is is known for,
// by their numbers in nsqd semantics, "Known weaknesses, queueing", and the tests
// that show them gone.
//
//	22  deferred messages forget their time at a restart    TestDeferredOverRestart
//	    and are lost in a crash                             kept: as all that is in memory
//	23  … or when they go to disk                           TestDeferredInFullTopic, TestWeakness23
//	24  late timeouts on new and on many channels           TestDeadlinesOfManyNewChannels, TestDeadlinesOnTheRealClock
//	25  one slow channel stalls its topic                   TestSlowDiskDelaysNobodyElse, TestFailingChannel
//	26  failed writes lose messages of a channel            TestFailingChannel, TestTimeoutsWhileDiskFails, TestBooksWhileDiskFails
//	27  … and so does REQ, also at shutdown                 TestTimeoutsWhileDiskFails, TestWeakness27
//	28  new topics ask nsqlookupd in a publisher's way      TestWeakness28; its first publisher waits, by contract
//	29  a bad reply of nsqlookupd crashes nsqd              TestLookupBadReplies
//	30  a hanging nsqlookupd delays others and metadata     TestLookupHangingPeerDelaysNobody, TestWeakness30
//	31  announcements come out of order                     TestLookupAnnouncesChangesInOrder
//	32  each new topic rewrites the metadata                TestWeakness32
//	33  a clock that is set back stops publishing           TestWeakness33
//	34  IDs are unique per topic only                       TestWeakness34; per node: by --node-id, as the format has it
//	35  a negative --mem-queue-size panics                  TestWeakness35; the bound is in messages, by contract
//	36  memory and disk are merged at random                TestWeakness36; in a channel kept, see the package comment

// No memory, and no channel: the deferred message is on disk at once.
func TestWeakness23(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 0; withPatience(o) })
		b.connect().Dpub("t", time.Minute, "a")
		nsqtest.Equal(t, b.topic("t").queue.diskDepth(), int64(1))
		start := time.Now()
		expectAt(t, patient(b.connect()).Sub("t", "ch").Rdy(1), start, "a at 1m0s, attempts 1")
	})
}

// A consumer requeues everything it gets while the daemon stops.
func TestWeakness27(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		configure := func(o *Options) { o.DataPath, o.MemQueueSize = dir, 10 }
		for range 5 {
			b := startBubble(t, configure)
			c := b.connect().Sub("t", "ch")
			if b.channel("t", "ch").queue.depth() == 0 {
				b.connect().Mpub("t", numbered(100)...)
			}
			c.Rdy(20)
			for range 20 {
				c.Req(c.ReadMessage().ID, time.Duration(rand.IntN(2))*time.Second)
			}
			if err := b.stop(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		b := startBubble(t, configure)
		if n := b.channel("t", "ch").queue.depth(); n != 100 {
			t.Fatalf("%d of 100 messages are left", n)
		}
		nsqtest.Equal(t, strings.Join(drain(b.connect().Sub("t", "ch").Rdy(100), 100), ","), strings.Join(numbered(100), ","))
	})
}

// nsqlookupd does not answer when it is asked for the channels of a new topic:
// that is the first publisher's trouble only.
func TestWeakness28(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d := startDaemon(t, func(o *Options) {
		o.NSQLookupdTCPAddresses = []string{silent.Addr().String()}
		o.HTTPClientRequestTimeout = time.Hour
	})
	d.lookup.peers[0].info.Store(&lookupPeerInfo{BroadcastAddress: "127.0.0.1", HTTPPort: silent.Addr().(*net.TCPAddr).Port})
	first := make(chan error, 1)
	go func() {
		_, err := d.GetTopic("t")
		first <- err
	}()
	for d.existingTopic("t") == nil {
		select {
		case err := <-first:
			t.Fatalf("GetTopic has returned (%v): nsqlookupd was not asked", err)
		case <-time.After(time.Millisecond):
		}
	}
	d.dial().Pub("t", "a").Pub("t", "b")
	select {
	case <-first:
		t.Error("nsqlookupd was not asked")
	default:
	}
	d.shutdown() // ends the question
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// Nobody listens to what is announced, and the metadata is written all the same.
func TestWeakness30(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d := startDaemon(t, func(o *Options) { o.NSQLookupdTCPAddresses = []string{silent.Addr().String()} })
	begin := time.Now()
	d.post("/topic/create?topic=t", "", "")
	d.post("/channel/create?topic=t&channel=ch", "", "")
	for !strings.Contains(d.metadataFile(), `"ch"`) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("the metadata says %s", d.metadataFile())
		}
		time.Sleep(time.Millisecond)
	}
}

// A thousand topics come into being while the metadata is written a few times.
func TestWeakness32(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(lookupLog)
		b := startBubble(t, func(o *Options) { o.Logger = logging.New(log, "", logging.LevelInfo) })
		start := time.Now()
		for i := range 1000 {
			b.connect().Pub(fmt.Sprint("t", i), "a").Close()
		}
		took(t, start, 0)
		time.Sleep(time.Second)
		if n := strings.Count(log.String(), "persisting topic/channel metadata"); n > 10 {
			t.Errorf("the metadata was written %d times", n)
		}
	})
}

// The clock is set back by a day, then goes on: IDs are given out all the time,
// rising and without one that comes twice.
func TestWeakness33(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	s := newIDSource(617, func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return now.UnixNano()
	})
	last := renderID(s.reserve(1, s.now()), 617)
	for _, step := range []time.Duration{0, time.Millisecond, -24 * time.Hour, time.Microsecond, time.Hour, 0, 24 * time.Hour, -60 * 365 * 24 * time.Hour} {
		mu.Lock()
		now = now.Add(step)
		mu.Unlock()
		for range 3 {
			first := s.reserve(5000, s.now()) // more than a tick holds
			for i := range uint64(5000) {
				id := renderID(first+i, 617)
				if id.String() <= last.String() {
					t.Fatalf("after a step of %v: %s follows %s", step, id, last)
				}
				last = id
			}
		}
	}
}

// Publishers to many topics, at the same instant of the fake clock.
func TestWeakness34(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		seen := make(map[MessageID]bool)
		for i := range 20 {
			topic := fmt.Sprint("t", i)
			c := b.connect().Sub(topic, "ch").Rdy(100)
			b.connect().Mpub(topic, numbered(50)...)
			for range 50 {
				m := c.ReadMessage()
				if seen[m.ID] {
					t.Fatalf("ID %s comes twice", m.ID)
				}
				seen[m.ID] = true
			}
		}
	})
}

func TestWeakness35(t *testing.T) {
	opts := NewOptions()
	opts.DataPath, opts.MemQueueSize = t.TempDir(), -1
	_, err := New(opts)
	if want := "--mem-queue-size is -1, must be from 0 to 2147483647"; err == nil || err.Error() != want {
		t.Errorf("New: %v, want %s", err, want)
	}
}

// What waits in a topic, part in memory and part on disk, leaves it nearly in the
// order in which it came, also while more comes: none is overtaken by more than is
// read from disk at a time.
func TestWeakness36(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 10; o.Logger = slog.New(slog.DiscardHandler) })
		q := newQueue(b.env, "order", false)
		defer func() {
			if err := q.delete(); err != nil {
				t.Error(err)
			}
		}()
		put := func(n int) {
			time.Sleep(time.Microsecond)
			if _, err := q.put(entriesOf(b.svc.ids, slices.Repeat([][]byte{[]byte("a")}, n))); err != nil {
				t.Fatal(err)
			}
		}
		put(100) // 10 in memory, 90 on disk
		put(3)
		var order []string
		into := make([]entry, 7)
		for taken := 0; q.depth() > 0; taken++ {
			n := q.takeOldest(into, nil)
			for _, e := range into[:n] {
				for _, one := range e.singly(nil) {
					order = append(order, one.id().String())
				}
			}
			if taken < 30 {
				put(rand.IntN(12)) // into memory where there is room
			}
		}
		if !slices.IsSorted(order[:103]) {
			t.Errorf("what waited at first left as %s", order[:103])
		}
		sorted := slices.Sorted(slices.Values(order))
		for i, id := range order {
			if at, _ := slices.BinarySearch(sorted, id); i-at > len(into) {
				t.Errorf("message %d left as number %d", at, i)
			}
		}
	})
}
