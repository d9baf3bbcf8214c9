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
	idleTimeout       = 5 * time.Minute  // between requests on a kept-alive connection; pollers ask every 60 s
	maxHeaderBytes    = 64 << 10
)

// NewServer returns a server for h, HTTP/1.1 only, that bounds the time to
// read a request and to wait for the next one, and the size of its header.
// Answers have no time limit: profiles take as long as they are asked to.
// What the library complains about goes to log as WARNING.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// drainTime is how long requests in progress may go on when a server stops.
const drainTime = 5 * time.Second

// Serve answers the requests that come to l with h until ctx ends. It then
// accepts no more connections, lets requests in progress finish for 5 s, and
// cuts what is left. When it returns no handler is running any more. It returns
// nil if ctx has ended, and else why l failed.
//
// name, "HTTP" or "HTTPS", stands in the log lines that scripts look for:
// "HTTP: listening on <addr>" and "HTTP: closing <addr>".
func Serve(ctx context.Context, name string, l net.Listener, h http.Handler, log *slog.Logger) error {
	Announce(name, l, log)
	return ServeEarly(ctx, name, l, h, log)
}

// Announce logs that l is served.
func Announce(name string, l net.Listener, log *slog.Logger) {
	log.Info(fmt.Sprintf("%s: listening on %s", name, l.Addr()))
}

// ServeEarly is [Serve] for a program that has more to do before others are to
// come: it calls [Announce] then.
func ServeEarly(ctx context.Context, name string, l net.Listener, h http.Handler, log *slog.Logger) error {
	conns := connections{unused: make(map[net.Conn]struct{})}
	server := NewServer(h, log)
	server.ConnState = conns.changed
	var err error
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Serve returns, and reports
	if e := server.Serve(l); stop() {
		err = e
	}
	log.Info(fmt.Sprintf("%s: closing %s", name, l.Addr()))

	// The server counts a connection without a request as busy for 5 s. Clients
	// have such: they open one too many when several requests start at once.
	conns.closeUnused()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if server.Shutdown(drain) != nil {
		log.Warn(name+": cutting requests that take too long", "limit", drainTime)
		_ = server.Close() // connections that cannot be closed are broken already
	}
	conns.open.Wait()
	return err
}

// connections follows the connections of one server.
type connections struct {
	open sync.WaitGroup // until their last handler has returned

	mu     sync.Mutex
	unused map[net.Conn]struct{} // no request has come yet
}

// changed is the server's ConnState hook.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.open.Add(1)
		c.mu.Lock()
		c.unused[conn] = struct{}{}
		c.mu.Unlock()
	case http.StateActive:
		c.forget(conn)
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
		c.open.Done()
	}
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	delete(c.unused, conn)
	c.mu.Unlock()
}

func (c *connections) closeUnused() {
	c.mu.Lock()
	unused := slices.Collect(maps.Keys(c.unused))
	c.mu.Unlock()
	for _, conn := range unused {
		_ = conn.Close() // it is of no use to anybody
	}
}
