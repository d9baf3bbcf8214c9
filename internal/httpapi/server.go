package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Limits of the server that NewServer makes.
const (
	readHeaderTimeout = 10 * time.Second // from the first byte of a request to the end of its header
	readTimeout       = time.Minute      // to the end of its body
	writeTimeout      = 2 * time.Minute  // from the end of its header to that of the answer, or for the answer alone
	idleTimeout       = 5 * time.Minute  // between requests on a kept-alive connection; pollers ask every 60 s
	maxHeaderBytes    = 64 << 10
)

// NewServer returns a server for h, HTTP/1.1 only, that bounds the time to
// read a request, to send its answer and to wait for the next one, and the size of
// a header. Profiles take as long as they are asked to.
// What the library complains about goes to log as WARNING.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// A Listener is where an API is served, and how.
type Listener struct {
	net.Listener

	// Name, "HTTP" or "HTTPS", stands in the log lines that scripts look for:
	// "HTTP: listening on <addr>" and "HTTP: closing <addr>".
	Name string

	// Grace is how long requests in progress may go on when the server stops; 0 is
	// for ever.
	Grace time.Duration

	// MaxConnections is how many there may be at a time, 0 for no limit. One too
	// many is closed at once.
	MaxConnections int

	Log *slog.Logger
}

// Serve answers the requests that come to l with h until ctx ends. It then
// accepts no more connections, lets requests in progress finish, and cuts those
// that take longer than l.Grace; those that produce a profile end early. When it
// returns no handler is running any more. It returns nil if ctx has ended, and
// else why l failed.
func Serve(ctx context.Context, l Listener, h http.Handler) error {
	l.Announce()
	return ServeEarly(ctx, l, h)
}

// Announce logs that l is served.
func (l Listener) Announce() { l.Log.Info(fmt.Sprintf("%s: listening on %s", l.Name, l.Addr())) }

// ServeEarly is [Serve] for a program that has more to do before others are to
// come: it calls Announce then.
func ServeEarly(ctx context.Context, l Listener, h http.Handler) error {
	conns := connections{listener: l, unused: make(map[net.Conn]struct{})}
	server := NewServer(h, l.Log)
	server.ConnState = conns.changed
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	var err error
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Serve returns, and reports
	if e := server.Serve(l.Listener); stop() {
		err = e
	}
	l.Log.Info(fmt.Sprintf("%s: closing %s", l.Name, l.Addr()))

	// The server counts a connection without a request as busy for 5 s. Clients
	// have such: they open one too many when several requests start at once.
	conns.closeUnused()
	grace, cancel := context.WithoutCancel(ctx), context.CancelFunc(func() {})
	if l.Grace > 0 {
		grace, cancel = context.WithTimeout(grace, l.Grace)
	}
	defer cancel()
	if server.Shutdown(grace) != nil {
		l.Log.Warn(l.Name+": cutting requests that take too long", "limit", l.Grace, "connections", conns.count())
		_ = server.Close() // connections that cannot be closed are broken already
	}
	conns.open.Wait()
	return err
}

// connections follows the connections of one server.
type connections struct {
	listener Listener
	open     sync.WaitGroup // until their last handler has returned

	mu     sync.Mutex
	number int
	full   bool                  // refusing has been logged, and there has been no room since
	unused map[net.Conn]struct{} // no request has come yet
}

// changed is the server's ConnState hook.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.open.Add(1)
		if c.refuse(conn) {
			_ = conn.Close() // it has been told nothing
		}
	case http.StateActive:
		c.forget(conn)
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
		c.mu.Lock()
		c.number--
		c.full = c.full && c.number >= c.listener.MaxConnections
		c.mu.Unlock()
		c.open.Done()
	}
}

// refuse counts a new connection and reports whether it is one too many.
func (c *connections) refuse(conn net.Conn) bool {
	limit := c.listener.MaxConnections
	c.mu.Lock()
	c.number++
	c.unused[conn] = struct{}{}
	refuse := limit > 0 && c.number > limit
	first := refuse && !c.full
	c.full = c.full || refuse
	c.mu.Unlock()
	if first {
		c.listener.Log.Warn(c.listener.Name+": refusing connections", "max_connections", limit)
	}
	return refuse
}

// count returns how many connections there are.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.number
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unused, conn)
}

func (c *connections) closeUnused() {
	c.mu.Lock()
	unused := slices.Collect(maps.Keys(c.unused))
	c.mu.Unlock()
	for _, conn := range unused {
		_ = conn.Close() // it is of no use to anybody
	}
}
