package nsqd

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A failingStorage is one whose queues fail, or take their time, when they are
// told to.
type failingStorage struct {
	storage
	mu    sync.Mutex
	all   error
	only  map[string]error         // by queue
	until map[string]chan struct{} // writes wait until it is closed
	told  map[string]func(error)   // how syncs go
}

// useFailing puts a failingStorage between a daemon and its disk.
func useFailing(n *NSQD) *failingStorage {
	s := &failingStorage{
		storage: n.env.storage,
		only:    make(map[string]error),
		until:   make(map[string]chan struct{}),
		told:    make(map[string]func(error)),
	}
	n.env.storage = s
	return s
}

func (s *failingStorage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = err
}

func (s *failingStorage) failOnly(queue string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.only[queue] = err
}

// block makes writes of one queue wait until the returned function is called.
func (s *failingStorage) block(queue string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	released := make(chan struct{})
	s.until[queue] = released
	return sync.OnceFunc(func() { close(released) })
}

func (s *failingStorage) open(name string, tell events) (backend, error) {
	s.mu.Lock()
	s.told[name] = tell.synced
	s.mu.Unlock()
	b, err := s.storage.open(name, tell)
	return &failingBackend{b, s, name}, err
}

// synced tells a queue how a sync in the background went.
func (s *failingStorage) synced(queue string, err error) {
	s.mu.Lock()
	told := s.told[queue]
	s.mu.Unlock()
	told(err)
}

type failingBackend struct {
	backend
	storage *failingStorage
	name    string
}

func (b *failingBackend) Put(batch *diskqueue.Batch) error {
	if err := b.fate(); err != nil {
		return err
	}
	return b.backend.Put(batch)
}

func (b *failingBackend) Keep(batch *diskqueue.Batch) (diskqueue.Ticket, error) {
	if err := b.fate(); err != nil {
		return 0, err
	}
	return b.backend.Keep(batch)
}

func (b *failingBackend) Try(size int) error {
	if err := b.fate(); err != nil {
		return err
	}
	return b.backend.Try(size)
}

// fate waits as it is told and returns what becomes of a write.
func (b *failingBackend) fate() error {
	b.storage.mu.Lock()
	err, until := b.storage.all, b.storage.until[b.name]
	if err == nil {
		err = b.storage.only[b.name]
	}
	b.storage.mu.Unlock()
	if until != nil {
		<-until
	}
	return err
}

func fullDisk(queue string) error {
	return &os.PathError{Op: "write", Path: queue + ".diskqueue.000000.dat", Err: syscall.ENOSPC}
}

// The disk of one channel fails. Its topic goes on serving the other at once, as
// far as the failing one's memory goes; then messages wait in the topic. No
// publisher sees any of it, and when the disk works again all get everything.
func TestFailingChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10
		b := startBubble(t, func(o *Options) { o.MemQueueSize = limit; withPatience(o) })
		disk := useFailing(b.NSQD)
		healthy := patient(b.connect()).Sub("t", "healthy").Rdy(1000)
		b.connect().Sub("t", "failing")
		synctest.Wait()
		failing := b.channel("t", "failing")
		topic := b.topic("t")
		disk.failOnly("t:failing", fullDisk("t:failing"))
		p := patient(b.connect())
		const held = limit + pumpBatch // what the failing channel may have in memory
		for i := range held {
			p.Pub("t", fmt.Sprint(i))
			start := time.Now()
			nsqtest.Equal(t, healthy.ReadMessage().Body, fmt.Sprint(i))
			took(t, start, 0)
		}
		synctest.Wait()
		nsqtest.Equal(t, failing.queue.depth(), int64(held))
		nsqtest.Equal(t, topic.direct.Load() == nil, true)
		nsqtest.Equal(t, b.health.String(), "NOK - "+fullDisk("t:failing").Error())
		p.Mpub("t", numbered(500)...) // these wait
		time.Sleep(time.Minute)
		if n := failing.queue.memory.Len(); n > 2*limit+2*pumpBatch {
			t.Errorf("%d messages in memory, limit %d", n, limit)
		}
		nsqtest.Equal(t, topic.queue.depth()+failing.queue.depth(), int64(held+500))

		disk.failOnly("t:failing", nil)
		nsqtest.Equal(t, len(drain(healthy, 500)), 500)
		time.Sleep(2 * time.Second)
		nsqtest.Equal(t, failing.queue.memory.Len(), limit)
		nsqtest.Equal(t, failing.queue.depth(), int64(held+500))
		nsqtest.Equal(t, topic.direct.Load() != nil, true)
		nsqtest.Equal(t, b.health.String(), "OK")
		nsqtest.Equal(t, len(drain(patient(b.connect()).Sub("t", "failing").Rdy(100), held+500)), held+500)
		synctest.Wait()
		b.balance("t", "failing", held+500)
	})
}

// Everything fails: what was accepted is kept, publishers are told as soon as the
// topic has no room, and all recovers by itself.
func TestFailingTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 10; withPatience(o) })
		disk := useFailing(b.NSQD)
		b.connect().Sub("t", "ch")
		synctest.Wait()
		disk.fail(fullDisk("t"))
		accepted := 0
		refused := "E_PUB_FAILED PUB failed " + fullDisk("t").Error()
		p := patient(b.connect())
		for ; ; accepted++ {
			if accepted > 1000 {
				t.Fatal("the daemon accepts what it cannot keep")
			}
			frame := p.CommandBody("x", "PUB", "t").ReadFrame()
			synctest.Wait()
			if string(frame.Data) != "OK" {
				nsqtest.Equal(t, string(frame.Data), refused)
				break
			}
		}
		nsqtest.Equal(t, b.topic("t").messages.Load(), uint64(accepted))
		disk.fail(nil)
		time.Sleep(2 * time.Second)
		nsqtest.Equal(t, b.topic("t").queue.depth(), int64(0))
		nsqtest.Equal(t, b.health.String(), "OK")
		b.connect().Pub("t", "x")
		nsqtest.Equal(t, len(drain(patient(b.connect()).Sub("t", "ch").Rdy(100), accepted+1)), accepted+1)
	})
}

// Messages read from disk time out while the disk takes nothing: memory does not
// fill with them round by round.
func TestTimeoutsWhileDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rdy = 5
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 2; withPatience(o) })
		disk := useFailing(b.NSQD)
		b.connect().Sub("t", "ch")
		b.connect().Mpub("t", numbered(100)...).Dpub("t", time.Minute, "deferred")
		synctest.Wait()
		disk.fail(fullDisk("t:ch"))
		c := patient(b.connect()).Sub("t", "ch").Rdy(rdy)
		ch := b.channel("t", "ch")
		for range 30 * rdy { // thirty rounds of timeouts, and one REQ now and then
			m := c.ReadMessage()
			if m.Attempts%3 == 0 {
				c.Req(m.ID, 0)
			}
			if n := ch.queue.memory.Len(); n > 2+2*rdy+1 {
				t.Fatalf("%d messages in memory", n)
			}
		}
		c.Rdy(0)
		time.Sleep(2 * time.Minute)
		b.balance("t", "ch", 0)
		nsqtest.Equal(t, ch.queue.depth(), int64(101))
		disk.fail(nil)
		time.Sleep(2 * time.Second)
		nsqtest.Equal(t, ch.queue.memory.Len(), 2)
		nsqtest.Equal(t, len(drain(patient(b.connect()).Sub("t", "ch").Rdy(50), 101)), 101)
	})
}

// A write that hangs delays neither the deadlines of other channels nor what is
// published to them.
func TestSlowDiskDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 1; withPatience(o) })
		disk := useFailing(b.NSQD)
		slow := patient(b.connect()).Sub("t", "slow").Rdy(2)
		quick := patient(b.connect())
		quick.Identify(`{"msg_timeout":60000}`)
		quick.Sub("t", "quick").Rdy(10)
		p := b.connect().Mpub("t", "timeout", "timeout").Dpub("t", 30*time.Second, "deferred")
		start := time.Now()
		slow.ReadMessage()
		slow.ReadMessage()
		slow.Rdy(0)
		release := disk.block("t:slow")
		p.Pub("t", "fits") // into the slow channel's memory
		got := map[string]time.Duration{}
		for range 6 {
			m := quick.ReadMessage()
			got[fmt.Sprint(m.Body, m.Attempts)] = time.Since(start)
			if m.Body != "timeout" || m.Attempts > 1 {
				quick.Fin(m.ID)
			}
		}
		nsqtest.Equal(t, got["deferred1"], 30*time.Second)
		nsqtest.Equal(t, got["timeout2"], time.Minute)

		// Its publisher waits for the disk, the other channel's consumer does not.
		now := time.Now()
		p.CommandBody("published", "PUB", "t")
		nsqtest.Equal(t, quick.ReadMessage().Body, "published")
		took(t, now, 0)
		release()
		p.ExpectOK()
		synctest.Wait()
		nsqtest.Equal(t, len(drain(slow.Rdy(10), 5)), 5)
	})
}

// Emptied or deleted, a channel whose disk fails holds nothing up any more.
func TestFailingChannelEmptiedOrDeleted(t *testing.T) {
	for name, end := range map[string]func(*Topic, *Channel) error{
		"emptied": func(_ *Topic, c *Channel) error { return c.empty() },
		"deleted": (*Topic).deleteChannel,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBubble(t, func(o *Options) { o.MemQueueSize = 10; withPatience(o) })
				disk := useFailing(b.NSQD)
				healthy := patient(b.connect()).Sub("t", "healthy").Rdy(2000)
				b.connect().Sub("t", "failing")
				synctest.Wait()
				disk.failOnly("t:failing", fullDisk("t:failing"))
				p := b.connect()
				for range 8 {
					p.Mpub("t", numbered(50)...)
					synctest.Wait()
				}
				if b.topic("t").queue.depth() == 0 {
					t.Error("nothing waits for the failing channel")
				}
				if err := end(b.topic("t"), b.channel("t", "failing")); err != nil {
					t.Fatal(err)
				}
				drain(healthy, 400)
				disk.failOnly("t:failing", nil)
				time.Sleep(2 * time.Second)
				nsqtest.Equal(t, b.health.String(), "OK")
				nsqtest.Equal(t, b.topic("t").direct.Load() != nil, true)
			})
		})
	}
}

// One queue fails; what goes well elsewhere does not hide that.
func TestHealthIsThatOfEachQueue(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = 0 })
	disk := useFailing(d.NSQD)
	health := func(code int, want string) {
		t.Helper()
		resp, body := d.request(http.MethodGet, "/ping", "")
		if resp.StatusCode != code || body != want {
			t.Errorf("GET /ping: %d %q, want %d %q", resp.StatusCode, body, code, want)
		}
	}
	pub := func(topic string, code int) {
		t.Helper()
		if resp, body := d.request(http.MethodPost, "/pub?topic="+topic, "m"); resp.StatusCode != code {
			t.Errorf("publishing to %s: %d %q", topic, resp.StatusCode, body)
		}
	}
	nok := func(topic string) string { return "NOK - " + fullDisk(topic).Error() }
	pub("good", http.StatusOK)
	health(http.StatusOK, "OK")
	disk.failOnly("bad", fullDisk("bad"))
	disk.failOnly("worse", fullDisk("worse"))
	pub("bad", http.StatusServiceUnavailable)
	health(http.StatusInternalServerError, nok("bad"))
	pub("worse", http.StatusServiceUnavailable)
	health(http.StatusInternalServerError, nok("worse"))
	pub("good", http.StatusOK)
	pub("discarding#ephemeral", http.StatusOK)
	health(http.StatusInternalServerError, nok("worse"))
	disk.failOnly("worse", nil)
	pub("worse", http.StatusOK)
	health(http.StatusInternalServerError, nok("bad"))
	d.post("/topic/delete?topic=bad", "", "")
	health(http.StatusOK, "OK")

	// A queue that needs no disk any more does not keep the daemon ill for ever.
	disk.failOnly("worse", fullDisk("worse"))
	pub("worse", http.StatusServiceUnavailable)
	d.post("/topic/empty?topic=worse", "", "")
	health(http.StatusOK, "OK")
}

// /ping is good again by itself once messages could be stored, though nobody
// publishes: a load balancer would send no publishers before. And it is bad while
// what was stored does not reach the disk.
func TestHealthReturnsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 0 })
		disk := useFailing(b.NSQD)
		refuse := func(topic string) {
			b.connect().CommandBody("x", "PUB", topic).ExpectError("E_PUB_FAILED PUB failed " + fullDisk(topic).Error()).ExpectClosed()
		}
		disk.failOnly("a", fullDisk("a"))
		disk.failOnly("b", fullDisk("b"))
		refuse("a")
		refuse("b")
		time.Sleep(time.Minute)
		nsqtest.Equal(t, b.health.String(), "NOK - "+fullDisk("b").Error())
		disk.failOnly("b", nil)
		time.Sleep(2 * trialPause)
		nsqtest.Equal(t, b.health.String(), "NOK - "+fullDisk("a").Error())
		disk.failOnly("a", nil)
		time.Sleep(2 * trialPause)
		nsqtest.Equal(t, b.health.String(), "OK")

		b.connect().Pub("a", "m")
		disk.synced("a", errors.New("fsync fails"))
		b.connect().Pub("a", "m").Pub("b", "m")
		time.Sleep(500 * time.Millisecond) // the next sync in the background is later
		nsqtest.Equal(t, b.health.String(), "NOK - fsync fails")
		time.Sleep(2 * b.options().SyncTimeout)
		nsqtest.Equal(t, b.health.String(), "OK")
		disk.synced("a", errors.New("fsync fails"))
		if err := b.topic("a").empty(); err != nil {
			t.Fatal(err)
		}
		nsqtest.Equal(t, b.health.String(), "OK")
		for _, topic := range []string{"a", "b"} {
			nsqtest.Equal(t, b.topic(topic).queue.depth(), map[string]int64{"a": 0, "b": 1}[topic])
		}
	})
}

// Publishers, consumers that answer anyhow, and a disk that fails now and then:
// nothing accepted is lost.
func TestBooksWhileDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 20; withPatience(o) })
		disk := useFailing(b.NSQD)
		c := patient(b.connect()).Sub("t", "ch").Rdy(10)
		b.connect().Sub("t", "idle")
		synctest.Wait()
		topic := b.topic("t")
		var wg sync.WaitGroup
		done := make(chan struct{})
		var flicker sync.WaitGroup
		flicker.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					disk.fail(nil)
					return
				case <-time.After(70 * time.Millisecond):
				}
				disk.fail([]error{fullDisk("t"), nil}[i%2])
			}
		})
		var mu sync.Mutex
		accepted := make(map[string]int)
		for i := range 3 {
			wg.Go(func() {
				for k := range 200 {
					body := fmt.Sprintf("%d-%d", i, k)
					entries := []entry{newEntry(b.svc.ids, []byte(body), uint32(k%2*300))}
					if _, err := topic.PutMessages(entries); err == nil {
						mu.Lock()
						accepted[body]++
						mu.Unlock()
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		finished := 0
		for finished < 150 {
			m := c.ReadMessage()
			switch m.Body[len(m.Body)-1] % 3 {
			case 0:
				c.Fin(m.ID)
				finished++
			case 1:
				c.Req(m.ID, time.Duration(m.Attempts)*10*time.Millisecond)
				if m.Attempts > 3 {
					c.Rdy(10)
				}
			default:
				c.Req(m.ID, 0)
			}
			if m.Attempts > 50 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		close(done)
		flicker.Wait()
		time.Sleep(5 * time.Second)
		b.balance("t", "ch", uint64(finished))
		idle := patient(b.connect()).Sub("t", "idle").Rdy(100)
		for _, body := range drain(idle, len(accepted)) {
			accepted[body]--
		}
		for body, n := range accepted {
			if n != 0 {
				t.Errorf("%q: %d too few", body, n)
			}
		}
		nsqtest.Equal(t, strings.HasPrefix(b.health.String(), "OK"), true)
	})
}
