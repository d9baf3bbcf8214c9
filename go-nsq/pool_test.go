package nsq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	_ Publisher = (*Producer)(nil)
	_ Publisher = (*ProducerPool)(nil)
)

// A poolTest is a pool of three nsqds: a, b and c.
type poolTest struct {
	*bubble
	pool    *ProducerPool
	servers map[string]*fakeNSQD
}

var poolAddrs = []string{"a:4150", "b:4150", "c:4150"}

// inPool runs f with a pool of three nsqds in a bubble.
func inPool(t *testing.T, strategy PoolStrategy, f func(p *poolTest)) {
	t.Helper()
	inBubble(t, func(b *bubble) {
		p := &poolTest{bubble: b, servers: make(map[string]*fakeNSQD)}
		for _, addr := range poolAddrs {
			p.servers[addr] = b.server(addr, nil)
		}
		p.pool = newTestPool(b, poolAddrs...)
		p.pool.SetStrategy(strategy)
		f(p)
	})
}

func newTestPool(b *bubble, addrs ...string) *ProducerPool {
	b.Helper()
	pool, err := NewProducerPool(addrs, b.config())
	if err != nil {
		b.Fatal(err)
	}
	pool.SetLogger(nil, LogLevelError)
	b.Cleanup(pool.Stop)
	return pool
}

// published returns how many messages of topic each nsqd has, as "a:1 b:2 c:0".
func (p *poolTest) published(topic string) string {
	var texts []string
	for _, addr := range poolAddrs {
		texts = append(texts, fmt.Sprintf("%s:%d", addr[:1], p.servers[addr].backlog(topic)))
	}
	return strings.Join(texts, " ")
}

func (p *poolTest) publish(topic string, n int) {
	p.Helper()
	for range n {
		if err := p.pool.Publish(topic, []byte("x")); err != nil {
			p.Error(err)
		}
	}
}

// stop takes an nsqd away: nothing listens there any more.
func (p *poolTest) stop(addr string) {
	p.listen(addr, nil)
	p.servers[addr].dropConnections()
	synctest.Wait()
}

func TestPoolRoundRobin(t *testing.T) {
	inPool(t, PoolRoundRobin, func(p *poolTest) {
		p.publish("t", 30)
		if got := p.published("t"); got != "a:10 b:10 c:10" {
			p.Errorf("got %s", got)
		}
		if err := p.pool.MultiPublish("m", testBodies(4)); err != nil {
			p.Error(err)
		}
		if got := p.published("m"); !strings.Contains(got, ":4") {
			p.Errorf("an MPUB went to %s", got)
		}
		if err := p.pool.DeferredPublish("d", time.Minute, []byte("x")); err != nil {
			p.Error(err)
		}
		p.pass(61 * time.Second)
		if got := p.published("d"); strings.Count(got, ":0") != 2 {
			p.Errorf("a DPUB went to %s", got)
		}
	})
}

// TestPoolFailsOver: what an nsqd certainly did not accept goes to another; the
// failed one is left alone until it is back, which is soon noticed.
func TestPoolFailsOver(t *testing.T) {
	inPool(t, PoolFirstHealthy, func(p *poolTest) {
		p.publish("t", 10)
		p.stop("a:4150")
		p.publish("t", 10)
		if got := p.published("t"); got != "a:10 b:10 c:0" {
			p.Errorf("got %s", got)
		}
		if nodes := p.pool.Nodes(); nodes[0].Healthy || !nodes[1].Healthy || nodes[1].Stats.Published != 10 ||
			!errors.Is(nodes[0].LastError, syscall.ECONNREFUSED) || nodes[1].State != StateConnected {
			p.Errorf("got %+v", nodes)
		}
		p.pass(time.Hour)
		before := len(p.dialTimes())
		p.pass(time.Minute)
		if n := len(p.dialTimes()) - before; n < 4 || n > 8 {
			p.Errorf("%d attempts in a minute", n)
		}
		p.server("a:4150", func(s *fakeNSQD) { p.servers["a:4150"] = s })
		p.pass(maxRecoveryDelay)
		p.publish("t", 10)
		if got := p.published("t"); got != "a:10 b:10 c:0" { // the new a
			p.Errorf("got %s", got)
		}
	})
}

// TestPoolReportsWhatIsUncertain: a publish that was written and not answered
// is not published again.
func TestPoolReportsWhatIsUncertain(t *testing.T) {
	inPool(t, PoolFirstHealthy, func(p *poolTest) {
		p.servers["a:4150"].setSilent(true)
		result := make(chan error, 1)
		go func() { result <- p.pool.Publish("t", []byte("x")) }()
		done := make(chan *ProducerTransaction, 1)
		if err := p.pool.PublishAsync("t", []byte("x"), done, "arg"); err != nil {
			p.Fatal(err)
		}
		synctest.Wait()
		p.stop("a:4150")
		err := <-result
		failure, ok := errors.AsType[*PublishError](err)
		if !ok || !failure.Uncertain || len(failure.Attempts) != 1 || failure.Attempts[0].Address != "a:4150" ||
			failure.Attempts[0].Cause == nil || !errors.Is(err, ErrNotConnected) ||
			!strings.HasPrefix(err.Error(), "publish (may have been stored): (a:4150) not connected (") {
			p.Errorf("got %v", err)
		}
		out := <-done
		if !out.Uncertain() || !errors.Is(out.Error, ErrNotConnected) || out.Cause() == nil || out.Args[0] != "arg" {
			p.Errorf("got %+v", out)
		}
		if got := p.published("t"); got != "a:2 b:0 c:0" {
			p.Errorf("got %s", got)
		}
	})
}

// TestPoolAsync: every accepted publish has one outcome, while nsqds fail and
// come back; those without an error are stored once, those that are certainly
// not stored are nowhere.
func TestPoolAsync(t *testing.T) {
	inPool(t, PoolRoundRobin, func(p *poolTest) {
		done := make(chan *ProducerTransaction, 100)
		const n = 3000
		var uncertain, failed int
		var receiver sync.WaitGroup
		receiver.Go(func() {
			seen := make(map[int]bool)
			for range n {
				out := <-done
				if i := out.Args[0].(int); seen[i] {
					p.Errorf("two outcomes of %d", i)
				} else {
					seen[i] = true
				}
				switch {
				case out.Error == nil:
				case out.Uncertain():
					uncertain++
				default:
					failed++
				}
			}
		})
		for i := range n {
			if i%500 == 250 {
				p.servers[poolAddrs[i/500%3]].dropConnections()
			}
			if err := p.pool.PublishAsync("t", []byte("x"), done, i); err != nil {
				p.Fatal(err)
			}
		}
		receiver.Wait()
		stored := 0
		for _, s := range p.servers {
			stored += s.backlog("t")
		}
		if failed != 0 || stored < n-uncertain || stored > n {
			p.Errorf("%d stored, %d uncertain, %d failed, of %d", stored, uncertain, failed, n)
		}
	})
}

// TestPoolAsyncFailsOver: publishes that wait for an nsqd that goes away, and
// are certainly not written, go to another.
func TestPoolAsyncFailsOver(t *testing.T) {
	inPool(t, PoolFirstHealthy, func(p *poolTest) {
		release := make(chan struct{})
		a := p.servers["a:4150"]
		a.mu.Lock()
		a.intercept = func(_ *fakeConn, params []string) (bool, string) {
			if params[0] == "PUB" {
				<-release // reads nothing, so that writes wait
			}
			return false, ""
		}
		a.mu.Unlock()
		done := make(chan *ProducerTransaction, 100)
		for i := range 20 {
			if err := p.pool.PublishAsync("t", make([]byte, 200<<10), done, i); err != nil {
				p.Fatal(err)
			}
			if i < 3 {
				synctest.Wait()
			}
			if i == 4 { // the next one waits for room; the connection times out meanwhile
				p.listen("a:4150", nil)
			}
		}
		uncertain := 0
		for range 20 {
			if out := <-done; out.Uncertain() {
				uncertain++
			} else if out.Error != nil {
				p.Errorf("got %+v", out)
			}
		}
		if uncertain == 0 || uncertain > 6 {
			p.Errorf("%d uncertain", uncertain)
		}
		if n := p.servers["b:4150"].backlog("t"); n != 20-uncertain {
			p.Errorf("%d stored elsewhere, %d uncertain", n, uncertain)
		}
		close(release)
	})
}

// TestPoolHash: a key stays with its nsqd; when that fails only its keys move.
func TestPoolHash(t *testing.T) {
	inPool(t, PoolHash, func(p *poolTest) {
		p.publish("t", 30)
		if got := p.published("t"); strings.Count(got, ":0") != 2 {
			p.Errorf("one topic went to %s", got)
		}
		p.pool.SetKey(func(_ string, body []byte) []byte { return body })
		home := make(map[string]string)
		const keys = 300
		place := func(key string) string {
			for _, addr := range poolAddrs {
				if p.servers[addr].backlog(key) == 1 {
					return addr
				}
			}
			return ""
		}
		for i := range keys {
			key := fmt.Sprintf("key%d", i)
			if err := p.pool.Publish(key, []byte(key)); err != nil {
				p.Fatal(err)
			}
			home[key] = place(key)
		}
		share := make(map[string]int)
		for _, addr := range home {
			share[addr]++
		}
		for _, addr := range poolAddrs {
			if share[addr] < keys/5 {
				p.Errorf("keys are spread %v", share)
			}
		}
		p.stop("b:4150")
		for key, addr := range home {
			moved := key + "-again"
			p.pool.SetKey(func(string, []byte) []byte { return []byte(key) })
			if err := p.pool.Publish(moved, []byte("x")); err != nil {
				p.Fatal(err)
			}
			if now := place(moved); (now != addr) != (addr == "b:4150") {
				p.Errorf("%s went from %s to %s", key, addr, now)
			}
		}
	})
}

// TestPoolRefusals: what one nsqd cannot store another may; what it may have
// stored in part is uncertain; what is invalid is invalid everywhere.
func TestPoolRefusals(t *testing.T) {
	inPool(t, PoolFirstHealthy, func(p *poolTest) {
		var answer string
		a := p.servers["a:4150"]
		a.mu.Lock()
		a.intercept = func(c *fakeConn, params []string) (bool, string) {
			if strings.HasSuffix(params[0], "PUB") {
				if _, err := c.body(); err != nil {
					p.Error(err)
				}
				return true, answer
			}
			return false, ""
		}
		a.mu.Unlock()
		body := []byte("x")
		for _, test := range []struct {
			answer    string
			publish   func() error
			uncertain bool
			want      error // nil for success elsewhere
		}{
			{"E_PUB_FAILED PUB failed disk full", func() error { return p.pool.Publish("t", body) }, false, nil},
			{"E_UNAUTHORIZED AUTH failed", func() error { return p.pool.Publish("t", body) }, false, nil},
			{"E_DPUB_FAILED DPUB failed", func() error { return p.pool.DeferredPublish("t", 0, body) }, false, nil},
			{"E_MPUB_FAILED MPUB failed", func() error { return p.pool.MultiPublish("t", testBodies(2)) }, true,
				ErrProtocol{"E_MPUB_FAILED MPUB failed"}},
			{"E_BAD_MESSAGE PUB message too big", func() error { return p.pool.Publish("t", body) }, false,
				ErrProtocol{"E_BAD_MESSAGE PUB message too big"}},
		} {
			p.pass(time.Minute) // until a is healthy again
			answer = test.answer
			err := test.publish()
			failure, isPublishError := errors.AsType[*PublishError](err)
			if !errors.Is(err, test.want) || (isPublishError && failure.Uncertain) != test.uncertain {
				p.Errorf("%s: got %v", test.answer, err)
			}
			if test.want != nil && !test.uncertain && err != test.want {
				p.Errorf("%s: got %v", test.answer, err)
			}
		}
		if err := p.pool.Publish("a b", body); err != (ErrProtocol{`E_BAD_TOPIC PUB topic name "a b" is not valid`}) {
			p.Error(err)
		}
		done := make(chan *ProducerTransaction, 1)
		if err := p.pool.MultiPublishAsync("t", nil, done); err != nil {
			p.Error(err)
		}
		if out := <-done; out.Error != (ErrProtocol{"E_BAD_BODY MPUB invalid message count 0"}) {
			p.Errorf("got %+v", out)
		}
	})
}

// TestPoolWithoutNsqds: the error says so, or lists all that were tried.
func TestPoolWithoutNsqds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		pool := newTestPool(b)
		err := pool.Publish("t", []byte("x"))
		if !errors.Is(err, ErrNotConnected) || err.Error() != "publish: no nsqd" {
			b.Errorf("got %v", err)
		}
		pool.AddNSQD("a:4150")
		pool.AddNSQD("b:4150")
		pool.AddNSQD("a:4150")
		err = pool.Publish("t", []byte("x"))
		failure, ok := errors.AsType[*PublishError](err)
		if !ok || failure.Uncertain || len(failure.Attempts) != 2 || !errors.Is(err, syscall.ECONNREFUSED) {
			b.Errorf("got %v", err)
		}
		if err := pool.PublishAsync("t", []byte("x"), nil); !errors.Is(err, syscall.ECONNREFUSED) {
			b.Errorf("got %v", err)
		}
		if err := pool.RemoveNSQD("c:4150"); err != ErrNotConnected {
			b.Error(err)
		}
		b.hang("a:4150")
		b.hang("b:4150")
		ctx, cancel := context.WithTimeout(b.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := pool.PublishWithContext(ctx, "t", []byte("x")); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(start) != 100*time.Millisecond {
			b.Errorf("got %v after %s", err, time.Since(start))
		}
		pool.Stop()
		pool.Stop()
		for _, err := range []error{
			pool.Publish("t", []byte("x")), pool.Publish("a b", nil), pool.PublishAsync("t", []byte("x"), nil),
			pool.ConnectToNSQLookupd("l:4161"),
		} {
			if err != ErrStopped {
				b.Errorf("after Stop: %v", err)
			}
		}
	})
}

// TestPoolDiscovers: nsqds come and go as nsqlookupd names them; those that were
// given to the pool stay.
func TestPoolDiscovers(t *testing.T) {
	inBubble(t, func(b *bubble) {
		l := newBubbleLookupd(b)
		l.list("l1:4161", "a:4150", "x:4150")
		l.list("l2:4161", "b:4150")
		config := b.config()
		config.LookupdPollJitter = 0
		pool, err := NewProducerPool([]string{"c:4150"}, config)
		if err != nil {
			b.Fatal(err)
		}
		defer pool.Stop()
		pool.SetLogger(nil, LogLevelError)
		pool.SetLookupdHttpClient(l.client())
		pool.SetFilter(without("x:4150"))
		if err := pool.ConnectToNSQLookupds([]string{"l1:4161", "l2:4161"}); err != nil {
			b.Fatal(err)
		}
		names := func() []string {
			var names []string
			for _, node := range pool.Nodes() {
				names = append(names, fmt.Sprintf("%s %t", node.Address[:1], node.Discovered))
			}
			return names
		}
		if got := names(); !slices.Equal(got, []string{"c false", "a true"}) {
			b.Errorf("at once %q", got)
		}
		b.pass(time.Minute)
		if got := names(); !slices.Equal(got, []string{"c false", "a true", "b true"}) {
			b.Errorf("after a poll %q", got)
		}
		l.list("l1:4161")
		b.mu.Lock()
		l.listed["l2:4161"] = nil // down: b may still be there
		b.mu.Unlock()
		b.pass(10 * time.Minute)
		if got := names(); len(got) != 3 {
			b.Errorf("with one nsqlookupd down %q", got)
		}
		l.list("l2:4161", "b:4150")
		b.pass(2 * time.Minute)
		if got := names(); !slices.Equal(got, []string{"c false", "b true"}) {
			b.Errorf("in the end %q", got)
		}
		if err := pool.ConnectToNSQLookupd("l3"); err == nil || err.Error() != "missing port" {
			b.Error(err)
		}
	})
}

// TestPoolStopDrains: what was accepted before Stop is published.
func TestPoolStopDrains(t *testing.T) {
	inPool(t, PoolRoundRobin, func(p *poolTest) {
		done := make(chan *ProducerTransaction, 1000)
		for range 1000 {
			if err := p.pool.PublishAsync("t", []byte("x"), done); err != nil {
				p.Fatal(err)
			}
		}
		p.pool.Stop()
		for range 1000 {
			if out := <-done; out.Error != nil {
				p.Fatalf("got %+v", out)
			}
		}
	})
}
