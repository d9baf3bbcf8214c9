// Package null is the limit: a server that understands what nsqd understands of TCP
// protocol V2 and of POST /pub, and moves the same bytes over the same kinds of
// sockets with the same batching, but queues nothing. What a machine reaches with it
// is what nsqd would reach there if keeping messages were free.
//
//	server.go   both listeners, and the topics
//	conn.go     the commands of one client
//	topic.go    a topic and its channels: numbers of messages
//	deliver.go  frames for a consumer
//
// A body is read and forgotten. Each channel delivers as many messages as have been
// published to its topic since that came into being, all of them of the size that was
// published last, with a body of zeros, and one ID for all. FIN makes room, REQ makes
// one more message, TOUCH does nothing. There are no timeouts, delays, heartbeats or
// statistics, no TLS or compression, nothing can be deleted, and what a consumer has
// in flight when it leaves is gone.
package null

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/internal/httpapi"
)

// The limits of nsqd's defaults, in bytes.
const (
	maxMessageSize = 1 << 20
	maxBodySize    = 5 << 20
)

// A Server is one null server.
type Server struct {
	tcp, http net.Listener
	log       *slog.Logger

	mu      sync.Mutex // guards both below
	topics  map[string]*topic
	sockets map[net.Conn]struct{} // of the clients

	active sync.WaitGroup // those who serve clients
}

// Listen opens both listeners, on host:port each; port 0 is any free one. Run must
// follow. What happens is logged to log, in the words of nsqd.
func Listen(tcpAddr, httpAddr string, log *slog.Logger) (*Server, error) {
	tcp, err := net.Listen("tcp", tcpAddr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", tcpAddr, err)
	}
	web, err := net.Listen("tcp", httpAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", httpAddr, err), tcp.Close())
	}
	return &Server{
		tcp: tcp, http: web, log: log,
		topics:  make(map[string]*topic),
		sockets: make(map[net.Conn]struct{}),
	}, nil
}

// TCPAddr is where clients connect.
func (s *Server) TCPAddr() net.Addr { return s.tcp.Addr() }

// HTTPAddr is where HTTP is served.
func (s *Server) HTTPAddr() net.Addr { return s.http.Addr() }

// Run serves until ctx ends, and then disconnects everybody. It returns nil, or why a
// listener failed.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.serveTCP(ctx) })
	g.Go(func() error {
		return httpapi.Serve(ctx, httpapi.Listener{Listener: s.http, Name: "HTTP", Log: s.log}, s.routes())
	})
	return g.Wait()
}

func (s *Server) serveTCP(ctx context.Context) error {
	s.log.Info(fmt.Sprintf("TCP: listening on %s", s.tcp.Addr()))
	stop := context.AfterFunc(ctx, func() { _ = s.tcp.Close() }) // Accept returns, and reports
	err := s.accept()
	if !stop() {
		err = nil // ctx has ended
	}
	s.disconnect()
	return err
}

// accept serves each client on a goroutine that ends when its socket is closed. It
// returns why the listener failed.
func (s *Server) accept() error {
	for {
		socket, err := s.tcp.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		s.mu.Lock()
		s.sockets[socket] = struct{}{}
		s.mu.Unlock()
		s.active.Go(func() {
			newConn(s, socket).serve()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.sockets, socket)
		})
	}
}

// disconnect closes all connections and waits until nobody serves them.
func (s *Server) disconnect() {
	_ = s.tcp.Close() // it may be closed
	s.mu.Lock()
	for socket := range s.sockets {
		_ = socket.Close() // its client is served no longer, and cleaned up after
	}
	s.mu.Unlock()
	s.active.Wait()
}

// topic returns the topic of that name, which comes into being if need be. Names are
// not checked.
func (s *Server) topic(name string) *topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[name]
	if t == nil {
		t = new(topic)
		s.topics[name] = t
	}
	return t
}

// routes answers POST /pub as nsqd does, and whatever else with an empty 200, as
// topics and channels need not be created.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pub", func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxMessageSize))
		if err != nil {
			http.Error(w, "MSG_TOO_BIG", http.StatusRequestEntityTooLarge)
			return
		}
		s.topic(r.URL.Query().Get("topic")).add(1, int(size))
		_, _ = io.WriteString(w, "OK") // the client may be gone
	})
	mux.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "OK")
	})
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	return mux
}
