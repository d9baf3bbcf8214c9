package nsqd

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// near configures a daemon in zone z of region r that prefers consumers nearby.
func near(o *Options) {
	o.Experiments = []string{TopologyAwareConsumption}
	o.TopologyRegion, o.TopologyZone = "r", "z"
}

// consumerIn connects a consumer of t:ch that is in that region and zone.
func (b *bubble) consumerIn(region, zone string, rdy int) *nsqtest.Conn {
	b.t.Helper()
	c := b.connectIn(region, zone).Rdy(rdy)
	synctest.Wait() // RDY has no answer
	return c
}

func (b *bubble) connectIn(region, zone string) *nsqtest.Conn {
	b.t.Helper()
	c := b.connect()
	c.Identify(fmt.Sprintf(`{"topology_region":%q,"topology_zone":%q}`, region, zone))
	return c.Sub("t", "ch")
}

// deliveries are those of t:ch that did not come from disk.
func (b *bubble) deliveries() placeCounts {
	b.t.Helper()
	synctest.Wait()
	return b.channel("t", "ch").stats(statsFilter{}).placeCounts
}

// Of 21 messages to 4 consumers with RDY 10, two of them in the zone, 20 go to
// the zone, however they are published.
func TestTwentyOfTwentyOneMessagesGoToTheZone(t *testing.T) {
	publish := map[string]func(*nsqtest.Conn){
		"one by one": func(c *nsqtest.Conn) {
			for range 21 {
				c.Pub("t", "a")
			}
		},
		"pipelined": func(c *nsqtest.Conn) {
			c.Send(strings.Repeat("PUB t\n\x00\x00\x00\x01a", 21))
			for range 21 {
				c.ExpectOK()
			}
		},
		"at once": func(c *nsqtest.Conn) { c.Mpub("t", strings.Split(strings.Repeat("a", 21), "")...) },
		"deferred": func(c *nsqtest.Conn) {
			for range 21 {
				c.Dpub("t", time.Second, "a")
			}
			time.Sleep(time.Second)
		},
	}
	for name, publish := range publish {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startBubble(t, near)
				for _, zone := range []string{"elsewhere", "z", "elsewhere", "z"} {
					b.consumerIn("", zone, 10)
				}
				publish(b.connect())
				nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 20, Global: 1})
				clients := map[placeCounts]int{}
				for _, c := range b.channel("t", "ch").stats(statsFilter{clients: true}).Clients {
					clients[c.placeCounts]++
				}
				if clients[placeCounts{Zone: 10}] != 2 {
					t.Errorf("clients were counted %v", clients)
				}
			})
		})
	}
}

// The same over real sockets, where consumers are busy at any moment.
func TestZoneIsPreferredOverSockets(t *testing.T) {
	d := startDaemon(t, near)
	var consumers []*nsqtest.Conn
	for _, zone := range []string{"elsewhere", "z", "elsewhere", "z"} {
		c := d.dial()
		c.Identify(fmt.Sprintf(`{"topology_zone":%q}`, zone))
		consumers = append(consumers, c.Sub("t", "ch").Rdy(10))
	}
	for wanting := 0; wanting < 2; { // RDY has no answer
		nearest := d.existingTopic("t").existingChannel("ch").nearest
		nearest.mu.Lock()
		wanting = len(nearest.wanting[0])
		nearest.mu.Unlock()
		runtime.Gosched()
	}
	publisher := d.dial()
	for range 20 {
		publisher.Pub("t", "a")
	}
	for range 10 {
		consumers[1].ReadMessage()
		consumers[3].ReadMessage()
	}
	publisher.Pub("t", "last")
	stats, _ := d.gather("topic=t")
	for stats.Topics[0].Channels[0].InFlight < 21 {
		stats, _ = d.gather("topic=t")
	}
	if got := stats.Topics[0].Channels[0]; got.Zone != 20 || got.Global != 1 {
		t.Errorf("counted %+v", got.placeCounts)
	}
}

func TestZoneBeforeRegionBeforeTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, near)
		silent := b.connect().Sub("t", "ch").Rdy(1) // no IDENTIFY
		synctest.Wait()
		region := b.consumerIn("r", "y", 2)
		zone := b.consumerIn("other", "z", 2) // the zone's name decides
		publisher := b.connect()
		for i, want := range []placeCounts{
			{Zone: 1}, {Zone: 2}, {Zone: 2, Region: 1}, {Zone: 2, Region: 2}, {Zone: 2, Region: 2, Global: 1}, {Zone: 2, Region: 2, Global: 1},
		} {
			publisher.Pub("t", fmt.Sprint(i))
			nsqtest.Equal(t, b.deliveries(), want)
		}
		m := region.ReadMessage()
		nsqtest.Equal(t, m.Body+silent.ReadMessage().Body+zone.ReadMessage().Body, "240")
		// Who finishes gets the next one, the one given back by the region too.
		zone.Fin(zone.ReadMessage().ID)
		nsqtest.Equal(t, zone.ReadMessage().Body, "5")
		zone.Rdy(3)
		synctest.Wait()
		region.Req(m.ID, 0)
		nsqtest.Equal(t, zone.ReadMessage().Attempts, uint16(2))
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 4, Region: 2, Global: 1})
	})
}

// Messages for which the nearest consumers have no room go to others at once, and
// so does what lies there when the nearest one goes.
func TestOthersTakeWhatTheNearestCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, near)
		zone, far := b.consumerIn("r", "z", 10), b.consumerIn("", "", 1000)
		publisher := b.connect()
		start := time.Now()
		publisher.Mpub("t", strings.Split(strings.Repeat("a", 100), "")...)
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 10, Global: 90})
		took(t, start, 0)

		zone.Rdy(11) // room for one
		synctest.Wait()
		publisher.Pub("t", "b")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 11, Global: 90})
		zone.Rdy(20).Command("CLS")
		synctest.Wait()
		publisher.Pub("t", "c")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 11, Global: 91})
		zone.Close()
		synctest.Wait()

		zone = b.consumerIn("r", "z", 10)
		synctest.Wait()
		publisher.Pub("t", "d")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 12, Global: 91})
		b.channel("t", "ch").pause(true)
		publisher.Pub("t", "e").Pub("t", "f")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 12, Global: 91})
		zone.Close()
		synctest.Wait()
		b.channel("t", "ch").pause(false)
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 12, Global: 93})
		took(t, start, 0)
		far.Close()
	})
}

// A consumer in the zone that has stopped reading keeps nothing from the others.
func TestStuckConsumerIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, near)
		stuck, far := b.consumerIn("r", "z", 100), b.consumerIn("", "", 100)
		publisher := b.connect()
		large := strings.Repeat("a", 40<<10)
		publisher.Pub("t", large).Pub("t", large) // more than its connection takes
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 2})
		for i := range uint64(3) {
			start := time.Now()
			publisher.Pub("t", fmt.Sprint(i))
			nsqtest.Equal(t, far.ReadMessage().Body, fmt.Sprint(i))
			if d := time.Since(start); d > 2*patience {
				t.Errorf("it took %v", d)
			}
			nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 2, Global: 1 + i})
		}
		// When it reads again it is preferred again.
		stuck.ReadMessage()
		stuck.ReadMessage()
		synctest.Wait()
		publisher.Pub("t", "back")
		nsqtest.Equal(t, stuck.ReadMessage().Body, "back")
	})
}

// Where the daemon does not say where it is nobody is nearer, though a client
// without a zone is in the zone without a name.
func TestNobodyIsNearerToNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.Experiments = []string{TopologyAwareConsumption} })
		b.consumerIn("", "", 10)
		b.consumerIn("", "z", 10)
		b.consumerIn("r", "z", 10)
		publisher := b.connect()
		publisher.Mpub("t", strings.Split(strings.Repeat("a", 30), "")...)
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 10, Region: 10, Global: 10})
	})
}

func TestWithoutTheExperimentPlacesDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) {
			near(o)
			o.Experiments = nil
		})
		b.consumerIn("r", "z", 10)
		b.connect().Pub("t", "a")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Global: 1})
	})
}

// On its way to a consumer nearby a message is not written to disk, and one that
// has been there counts for no place.
func TestHandOverWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) {
			near(o)
			o.MemQueueSize = 0
		})
		publisher := b.connect()
		far := b.consumerIn("", "", 2)
		publisher.Pub("t", "disk")
		nsqtest.Equal(t, far.ReadMessage().Body, "disk")
		nsqtest.Equal(t, b.deliveries(), placeCounts{})
		zone := b.consumerIn("r", "z", 1)
		synctest.Wait()
		publisher.Pub("t", "memory")
		nsqtest.Equal(t, zone.ReadMessage().Body, "memory")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 1})
		publisher.Pub("t", "disk")
		nsqtest.Equal(t, far.ReadMessage().Body, "disk")
		nsqtest.Equal(t, b.deliveries(), placeCounts{Zone: 1})
		b.balance("t", "ch", 0)
	})
}

// Consumers of all ranks come, change their RDY, finish, give back, let time out
// and go, at random. If nobody is woken for a message, the test sees it lie there.
func TestPreferenceLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		b := startBubble(t, func(o *Options) {
			near(o)
			o.MemQueueSize = int64(r.IntN(50))
		})
		b.connectIn("", "") // the channel exists
		work := &randomWork{b: b, left: make(map[string]bool)}
		var bodies []string
		for i := range 3000 {
			body := fmt.Sprint(i)
			work.left[body] = true
			bodies = append(bodies, body)
		}
		var consumers sync.WaitGroup
		for i := range 12 {
			consumers.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i+1)))
				for !work.consume(r, i%ranks) {
				}
			})
		}
		publisher := b.connect()
		publisher.Identify(`{"heartbeat_interval":-1}`)
		for len(bodies) > 0 {
			n := min(1+r.IntN(40), len(bodies))
			publisher.Mpub("t", bodies[:n]...)
			bodies = bodies[n:]
			time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
			if len(bodies) > 0 && r.IntN(5) > 0 {
				continue
			}
			time.Sleep(10 * time.Minute) // there is always somebody with room
			if depth := b.channel("t", "ch").queue.depth(); depth != 0 {
				t.Fatalf("%d messages lie there and nobody takes them", depth)
			}
		}
		consumers.Wait()
		b.balance("t", "ch", work.finished)
	})
}

// randomWork is what the consumers of TestPreferenceLosesNothing share.
type randomWork struct {
	b *bubble

	mu       sync.Mutex
	left     map[string]bool // bodies not finished yet
	finished uint64
}

// consume connects a consumer, which works for a while and goes. It reports
// whether nothing is left to do.
func (w *randomWork) consume(r *rand.Rand, rank int) (done bool) {
	c := w.b.connectIn([]string{"", "r", "r"}[rank], []string{"", "", "z"}[rank]).Rdy(1 + r.IntN(8))
	defer c.Close()
	for n := r.IntN(60); n > 0 && !done; {
		frame := c.ReadFrame()
		if frame.IsHeartbeat() {
			c.Nop()
			done = w.done()
			continue
		}
		m, err := protocol.DecodeMessage([]byte(frame.Data))
		if err != nil {
			w.b.t.Error(err)
			return true
		}
		n--
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		switch r.IntN(20) {
		case 0:
			c.Req(m.ID, time.Duration(r.IntN(2))*time.Second)
		case 1: // forgets it
		default:
			c.Fin(m.ID)
			done = w.finish(string(m.Body))
		}
		c.Rdy(1 + r.IntN(8))
	}
	// What it finished is finished when the answer to another command is there.
	c.Rdy(0).Command("TOUCH", "0123456789abcdef")
	for c.ReadFrame().Type != protocol.FrameError {
	}
	return done
}

// finish counts a message as finished and reports whether all are.
func (w *randomWork) finish(body string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.left, body)
	w.finished++
	return len(w.left) == 0
}

// done reports whether all messages are finished.
func (w *randomWork) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.left) == 0
}
