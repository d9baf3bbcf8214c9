package nsq

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A bubble is a network in memory, with servers on it, on a fake clock: a test
// in it can wait for minutes. It ends only when no goroutine is left, and checks
// that every connection that was dialed is closed, and that no more RDY than
// limit was ever out at the same time.
type bubble struct {
	*testing.T

	mu        sync.Mutex // guards all below
	listeners map[string]*nsqtest.Network
	hanging   map[string]bool // addresses at which a dial has no end
	conns     []*bubbleConn
	dials     []time.Time
	limit     int // of the sum of RDY; 0 for none
}

// inBubble runs f in a bubble.
func inBubble(t *testing.T, f func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, listeners: make(map[string]*nsqtest.Network), hanging: make(map[string]bool)}
		t.Cleanup(func() {
			synctest.Wait()
			time.Sleep(3 * time.Hour) // whatever still runs has its time
			synctest.Wait()
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, c := range b.conns {
				if !c.closed {
					t.Errorf("a connection to %s was not closed", c.addr)
				}
			}
		})
		f(b)
	})
}

// pass lets d pass, and what is to happen then.
func (b *bubble) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// server starts a server at addr.
func (b *bubble) server(addr string, configure func(*fakeNSQD)) *fakeNSQD {
	b.Helper()
	listener := nsqtest.NewNetwork()
	s, err := startFakeNSQD("", func(s *fakeNSQD) {
		s.tcp = listener
		if configure != nil {
			configure(s)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.listen(addr, listener)
	b.Cleanup(s.close)
	return s
}

// listen makes listener what is dialed at addr; nil refuses.
func (b *bubble) listen(addr string, listener *nsqtest.Network) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners[addr] = listener
}

// hang makes dialing addr last until it is given up.
func (b *bubble) hang(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hanging[addr] = true
}

// config returns a Config that dials in the bubble.
func (b *bubble) config() *Config {
	config := NewConfig()
	config.Dialer = b
	config.DefaultRequeueDelay = 0
	return config
}

func (b *bubble) consumer(topic string, config *Config) *Consumer {
	return newTestConsumer(b.T, topic, config)
}

// setLimit makes more RDY than limit an error from now on.
func (b *bubble) setLimit(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
	b.checkLimitLocked()
}

func (b *bubble) checkLimitLocked() {
	sum := 0
	for _, c := range b.conns {
		sum += c.rdy
	}
	if b.limit > 0 && sum > b.limit {
		b.Errorf("RDY %d of at most %d", sum, b.limit)
	}
}

// rdy returns the RDY that each connection that is open was told last, by address.
func (b *bubble) rdy() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	rdy := make(map[string]int)
	for _, c := range b.conns {
		if !c.closed {
			rdy[c.addr] = c.rdy
		}
	}
	return rdy
}

// dialTimes returns when something was dialed.
func (b *bubble) dialTimes() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time(nil), b.dials...)
}

// DialContext makes the bubble a Dialer.
func (b *bubble) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	b.mu.Lock()
	listener, hangs := b.listeners[addr], b.hanging[addr]
	b.dials = append(b.dials, time.Now())
	b.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	if listener == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	socket, err := listener.Dial()
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	c := &bubbleConn{Conn: socket, bubble: b, addr: addr}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
	return c, nil
}

// bubbleConn reads along for RDY and CLS. Its fields are guarded by bubble.mu.
type bubbleConn struct {
	net.Conn
	bubble *bubble
	addr   string
	line   []byte // the line being written
	lines  []string
	writes int
	rdy    int
	closed bool
}

func (c *bubbleConn) Write(p []byte) (int, error) {
	c.bubble.mu.Lock()
	c.writes++
	c.line = append(c.line, p...)
	for {
		line, rest, found := bytes.Cut(c.line, []byte("\n"))
		if !found {
			break
		}
		c.readLocked(string(line))
		c.line = rest
	}
	c.bubble.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *bubbleConn) readLocked(line string) {
	c.lines = append(c.lines, line)
	if param, ok := strings.CutPrefix(line, "RDY "); ok {
		c.rdy, _ = strconv.Atoi(param)
		c.bubble.checkLimitLocked()
	}
	if line == "CLS" {
		c.rdy = 0
	}
}

func (c *bubbleConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (c *bubbleConn) Close() error {
	c.bubble.mu.Lock()
	c.closed, c.rdy = true, 0
	c.bubble.mu.Unlock()
	return c.Conn.Close()
}
