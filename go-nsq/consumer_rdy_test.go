package nsq

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// startNsqds starts n servers and connects r to them.
func startNsqds(b *bubble, r *Consumer, n int, configure func(*fakeNSQD)) []*fakeNSQD {
	b.Helper()
	servers := make([]*fakeNSQD, n)
	for i := range servers {
		addr := fmt.Sprintf("%c:4150", 'a'+i)
		servers[i] = b.server(addr, configure)
		if err := r.ConnectToNSQD(addr); err != nil {
			b.Fatal(err)
		}
	}
	return servers
}

// TestRDYNeverExceedsMaxInFlight changes max in flight, drops connections, fails
// messages and disconnects at random. The bubble reads the RDY counts on their
// way to nsqd and allows no more than max in flight at any moment; afterwards all
// of it is used, and shared evenly.
func TestRDYNeverExceedsMaxInFlight(t *testing.T) {
	for range 6 {
		seed := rand.Int63()
		rng := rand.New(rand.NewSource(seed))
		inBubble(t, func(b *bubble) {
			defer func() {
				if b.Failed() {
					b.Logf("seed %d", seed)
				}
			}()
			config := b.config()
			config.MaxInFlight = 10
			config.LookupdPollInterval = 10 * time.Millisecond
			config.RDYRedistributeInterval = 3 * time.Millisecond
			config.BackoffMultiplier = time.Millisecond
			config.MaxBackoffDuration = 10 * time.Millisecond
			config.MaxAttempts = 0
			b.setLimit(10)
			r := b.consumer("endless", config)
			var failing atomic.Bool
			r.AddConcurrentHandlers(HandlerFunc(func(m *Message) error {
				time.Sleep(time.Millisecond) // of the fake clock, as everywhere here
				if failing.Load() && m.ID[MsgIDLength-1]%3 == 0 {
					return fmt.Errorf("bad")
				}
				return nil
			}), 3)
			servers := startNsqds(b, r, 4, nil)
			for range 100 {
				b.pass(time.Duration(rng.Intn(3000)) * time.Microsecond)
				switch i := rng.Intn(len(servers)); rng.Intn(8) {
				case 0:
					servers[i].dropConnections()
				case 1:
					failing.Store(rng.Intn(2) == 0)
				case 2:
					addr := fmt.Sprintf("%c:4150", 'a'+i)
					_ = r.DisconnectFromNSQD(addr) // it may be away
					go func() { _ = r.ConnectToNSQD(addr) }()
				default:
					n := 1 + rng.Intn(20)
					b.setLimit(max(n, int(r.getMaxInFlight())))
					r.ChangeMaxInFlight(n)
					b.setLimit(n)
				}
			}
			failing.Store(false)
			b.setLimit(20)
			r.ChangeMaxInFlight(18)
			b.setLimit(18)
			for len(r.rdyConns()) < len(servers) {
				for i := range servers {
					_ = r.ConnectToNSQD(fmt.Sprintf("%c:4150", 'a'+i)) // it may be there
				}
				b.pass(time.Second)
			}
			b.pass(3 * time.Second)
			got := slices.Sorted(maps.Values(b.rdy()))
			if want := []int{4, 4, 5, 5}; !slices.Equal(got, want) || r.State().RDY != 18 {
				b.Errorf("RDY %v, want %v; state %+v", got, want, r.State())
			}
		})
	}
}

// TestLoweringTakesEffectAtOnce: when ChangeMaxInFlight returns, nsqd has been
// told no more than the new value, in backoff as well.
func TestLoweringTakesEffectAtOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		config := b.config()
		config.MaxInFlight = 10
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(scriptedHandler))
		startNsqds(b, r, 2, nil)
		for _, step := range []struct {
			max  int
			want string
		}{{8, "a:4 b:4"}, {4, "a:2 b:2"}, {1, "a:1 b:0"}, {0, "a:0 b:0"}, {7, "a:4 b:3"}} {
			r.ChangeMaxInFlight(step.max)
			if got := rdyText(b); got != step.want {
				b.Errorf("max in flight %d: RDY %s, want %s", step.max, got, step.want)
			}
		}
	})
}

// rdyText is the RDY counts by the first letters of the addresses.
func rdyText(b *bubble) string {
	var texts []string
	rdy := b.rdy()
	for _, addr := range slices.Sorted(maps.Keys(rdy)) {
		texts = append(texts, fmt.Sprintf("%s:%d", strings.TrimSuffix(addr, ":4150"), rdy[addr]))
	}
	return strings.Join(texts, " ")
}

// TestSharesRespectMaxRDY: what one nsqd does not accept goes to the others.
func TestSharesRespectMaxRDY(t *testing.T) {
	inBubble(t, func(b *bubble) {
		config := b.config()
		config.MaxInFlight = 10
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(scriptedHandler))
		startNsqds(b, r, 3, nil)
		r.conns()[0].maxRdyCount.Store(2)
		r.shareRDY(nil)
		if got := rdyText(b); got != "a:2 b:4 c:4" {
			b.Errorf("RDY %s", got)
		}
	})
}

// TestIdleLeavesRDY: connections without messages leave their RDY to the one
// that has some, and get it back with their first message.
func TestIdleLeavesRDY(t *testing.T) {
	inBubble(t, func(b *bubble) {
		config := b.config()
		config.MaxInFlight = 10
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(scriptedHandler))
		servers := startNsqds(b, r, 3, nil)
		if got := rdyText(b); got != "a:4 b:3 c:3" {
			b.Fatalf("at first RDY %s", got)
		}
		for range 30 { // seconds
			servers[1].publish("t", testBodies(1)...)
			b.pass(time.Second)
		}
		if got := rdyText(b); got != "a:1 b:8 c:1" {
			b.Errorf("with two idle RDY %s", got)
		}
		servers[2].publish("t", testBodies(1)...)
		synctest.Wait()
		if got := rdyText(b); got != "a:1 b:5 c:4" {
			b.Errorf("with one idle RDY %s", got)
		}
		b.pass(time.Minute)
		if got := rdyText(b); got != "a:4 b:3 c:3" {
			b.Errorf("with all idle RDY %s", got)
		}
	})
}

// TestEveryNSQDGetsItsTurn: with more nsqds than max in flight each delivers
// within some rounds of redistribution, and a new one does not displace others.
func TestEveryNSQDGetsItsTurn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		config := b.config()
		config.MaxInFlight = 2
		b.setLimit(2)
		r := b.consumer("endless", config)
		lines := new(lineLogger)
		r.SetLogger(lines, LogLevelWarning)
		from := make(map[string]int) // used by the handler, then by the test
		r.AddHandler(HandlerFunc(func(m *Message) error {
			from[m.NSQDAddress]++
			time.Sleep(time.Second)
			return nil
		}))
		startNsqds(b, r, 7, nil)
		if got := rdyText(b); got != "a:1 b:1 c:0 d:0 e:0 f:0 g:0" {
			b.Errorf("RDY %s", got)
		}
		b.pass(10 * time.Minute)
		r.Stop()
		<-r.StopChan
		if len(from) != 7 {
			b.Errorf("messages came from %v", from)
		}
		if n := count(lines.lines, "WRN "); n > 60 { // joins and ends; not each turn
			b.Errorf("%d warnings", n)
		}
	})
}
