package nsqd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// connSet holds the connected clients.
type connSet struct {
	mu     sync.Mutex
	closed bool // no client may join any more
	conns  map[net.Conn]*conn
	active sync.WaitGroup // their goroutines

	accepted, refused uint64 // so far
}

// join runs serve for a new connection on a goroutine of its own, unless the set
// is closed or has limit connections already; 0 is no limit.
func (s *connSet) join(c net.Conn, limit int, serve func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if limit > 0 && len(s.conns) >= limit {
		s.refused++
		return false
	}
	s.accepted++
	if s.conns == nil {
		s.conns = make(map[net.Conn]*conn)
	}
	s.conns[c] = nil
	s.active.Go(func() {
		serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	})
	return true
}

// identify records that a connection has become a client.
func (s *connSet) identify(c net.Conn, client *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = client
}

// counts returns how many connections there are, and how many have been accepted
// and refused so far.
func (s *connSet) counts() (open int, accepted, refused uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.accepted, s.refused
}

// clients returns those who have chosen the protocol.
func (s *connSet) clients() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		if c != nil {
			list = append(list, c)
		}
	}
	return list
}

// close disconnects everybody and waits until they are gone, which takes a moment
// at most.
func (s *connSet) close() {
	s.mu.Lock()
	s.closed = true
	for c, client := range s.conns {
		if client != nil {
			client.stop()
		} else {
			_ = c.Close() // it wakes who waits for the magic
		}
	}
	s.mu.Unlock()
	s.active.Wait()
}

// serveTCP accepts clients until ctx ends.
func (n *NSQD) serveTCP(ctx context.Context) error {
	n.log.Info(fmt.Sprintf("TCP: listening on %s", n.tcp.Addr()))
	stop := context.AfterFunc(ctx, func() { _ = n.tcp.Close() }) // accept returns, and reports
	defer stop()
	err := n.accept(ctx)
	n.log.Info(fmt.Sprintf("TCP: closing %s", n.tcp.Addr()))
	return err
}

// maxAcceptDelay bounds the pause after a failed accept.
const maxAcceptDelay = time.Second

func (n *NSQD) accept(ctx context.Context) error {
	delay := 5 * time.Millisecond
	for {
		c, err := n.tcp.Accept()
		if ctx.Err() != nil {
			if err == nil {
				return c.Close()
			}
			return nil
		}
		if err == nil {
			delay = 5 * time.Millisecond
			n.admit(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("listener.Accept() error - %w", err)
		}
		// Out of descriptors, or the client gave up: both pass.
		n.log.Error("accept", "err", err, "retry_in", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, maxAcceptDelay)
	}
}

// admit serves a new connection, or closes it where there are too many.
func (n *NSQD) admit(c net.Conn) {
	limit := n.options().MaxConnections
	if n.conns.join(c, limit, func() { n.handle(c) }) {
		return
	}
	n.log.Warn(fmt.Sprintf("TCP: refused client(%s)", remoteAddr(c)), "max_connections", limit)
	_ = c.Close() // it was told nothing and has said nothing
}

// handle serves one connection: the magic, then the protocol it asks for.
func (n *NSQD) handle(c net.Conn) {
	var client *conn
	aside(func() { client = n.greet(c) })
	if client != nil {
		client.serve()
	}
}

// greet reads the magic. It returns nil where the client does not ask for a protocol
// that it may have, and closes the connection then.
func (n *NSQD) greet(c net.Conn) *conn {
	addr := remoteAddr(c)
	n.log.Info("TCP: new client(" + addr + ")")
	var magic [4]byte
	err := c.SetDeadline(time.Now().Add(n.options().MagicTimeout))
	if err == nil {
		_, err = io.ReadFull(c, magic[:])
	}
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !hungUp(err) { // which probes of the port do
			n.log.Error(fmt.Sprintf("failed to read protocol version - %s", err), "client", addr)
		}
		_ = c.Close() // the client is gone or said nothing
		return nil
	}
	n.log.Info("CLIENT(" + addr + "): desired protocol magic '" + string(magic[:]) + "'")
	client := newConn(n.svc, c)
	if string(magic[:]) != protocol.MagicV2 {
		n.log.Error(fmt.Sprintf("client(%s) bad protocol magic '%s'", addr, magic[:]))
		_ = client.out.answer(protocol.FrameError, protocol.CodeBadProtocol)
		_ = client.out.flush() // the client may be gone
		client.hangUp(lingerError)
		return nil
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		_ = c.Close()
		return nil
	}
	n.conns.identify(c, client)
	return client
}
