package nsqlookupd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// A tcpServer accepts connections and gives each a peer with a goroutine of its
// own.
type tcpServer struct {
	listener net.Listener
	limit    int // of connections; 0 for none
	config   *peerConfig
	log      *slog.Logger

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool // no connection is accepted any more
	full   bool // that the limit is reached has been logged, and there has been no room since

	peers sync.WaitGroup
}

func newTCPServer(listener net.Listener, limit int, config *peerConfig) *tcpServer {
	return &tcpServer{listener: listener, limit: limit, config: config, log: config.log, conns: map[net.Conn]struct{}{}}
}

// maxAcceptDelay is the longest pause after a failure to accept that may pass.
const maxAcceptDelay = time.Second

// serve accepts until close is called, and returns nil then; it does not wait
// for the peers. Another end of the listener is an error. A lack of descriptors
// or memory is not an end: serve tries again after a pause.
func (s *tcpServer) serve(ctx context.Context) error {
	s.log.Info("TCP: listening on " + s.listener.Addr().String())
	var delay time.Duration
	for {
		conn, err := s.listener.Accept()
		switch {
		case err == nil:
			delay = 0
			s.start(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case mayPass(err):
			delay = min(max(2*delay, 5*time.Millisecond), maxAcceptDelay)
			s.log.Warn("TCP: cannot accept connections for the moment", "err", err, "retry", delay)
			select {
			case <-ctx.Done():
			case <-time.After(delay):
			}
		default:
			return fmt.Errorf("listener.Accept() error - %w", err)
		}
	}
}

// mayPass reports whether accepting may work again later.
func mayPass(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// start serves the connection. It closes it if there are too many, or close has
// been called.
func (s *tcpServer) start(conn net.Conn) {
	s.mu.Lock()
	refused := s.limit > 0 && len(s.conns) >= s.limit
	first := refused && !s.full
	s.full = refused
	served := !refused && !s.closed
	if served {
		s.conns[conn] = struct{}{}
		s.peers.Go(func() { s.run(conn) })
	}
	s.mu.Unlock()
	if refused {
		s.config.counts.refusedConnections.Add(1)
	}
	if first {
		s.log.Warn("TCP: refusing clients", "max_connections", s.limit)
	}
	if !served {
		_ = conn.Close() // it was told nothing and has said nothing
	}
}

// run serves one connection to its end.
func (s *tcpServer) run(conn net.Conn) {
	newPeer(conn, s.config).serve()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// connections returns how many there are.
func (s *tcpServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// close ends the listener and all connections. It does not wait.
func (s *tcpServer) close() {
	s.log.Info("TCP: closing " + s.listener.Addr().String())
	// A listener or socket that is closed already is as closed as it can be.
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = map[net.Conn]struct{}{}
	s.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
}
