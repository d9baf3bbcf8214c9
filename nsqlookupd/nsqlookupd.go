package nsqlookupd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/version"
)

// NSQLookupd is one directory daemon: a registry, the TCP listener through
// which nsqds fill it, and the HTTP listener through which it is asked.
type NSQLookupd struct {
	log        *slog.Logger
	level      *slog.LevelVar // nil where it cannot be changed
	guard      *httpapi.Guard
	tcp        *tcpServer
	api        http.Handler
	httpListen net.Listener
	httpGrace  time.Duration // for requests in progress
	ready      chan struct{} // closed when Run serves
}

// New binds the listeners; nothing is served before Run. opts is not modified
// and must not be after the call. The errors are "listen (<addr>) failed -
// <reason>" and that the host has no name.
func New(opts *Options) (*NSQLookupd, error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Info(version.String("nsqlookupd"))
	rules, err := httpapi.LoadRules(opts.GuardOptions, httpapi.ClientCerts{})
	if err != nil {
		return nil, err
	}
	guard := httpapi.NewGuard("nsqlookupd")
	guard.Use(rules)
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find the host name: %w", err)
	}
	tcpListener, err := listen(opts.TCPAddress)
	if err != nil {
		return nil, err
	}
	httpListener, err := listen(opts.HTTPAddress)
	if err != nil {
		return nil, errors.Join(err, tcpListener.Close())
	}
	reply, err := json.Marshal(struct { // keys in alphabetical order
		BroadcastAddress string `json:"broadcast_address"`
		Hostname         string `json:"hostname"`
		HTTPPort         int    `json:"http_port"`
		TCPPort          int    `json:"tcp_port"`
		Version          string `json:"version"`
	}{opts.BroadcastAddress, hostname, port(httpListener), port(tcpListener), version.Number})
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	reg := newRegistry()
	return &NSQLookupd{
		log:   log,
		level: opts.Level,
		guard: guard,
		tcp: newTCPServer(tcpListener, peerConfig{
			registry:      reg,
			log:           log,
			idleTimeout:   opts.idleTimeout(),
			identifyReply: reply,
		}),
		api:        newHTTPAPI(reg, opts, guard, log),
		httpListen: httpListener,
		httpGrace:  opts.ShutdownTimeout / 2,
		ready:      make(chan struct{}),
	}, nil
}

func listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen (%s) failed - %w", addr, err)
	}
	return listener, nil
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

// TCPAddr returns the address bound for nsqds.
func (l *NSQLookupd) TCPAddr() *net.TCPAddr { return l.tcp.listener.Addr().(*net.TCPAddr) }

// HTTPAddr returns the address bound for HTTP.
func (l *NSQLookupd) HTTPAddr() *net.TCPAddr { return l.httpListen.Addr().(*net.TCPAddr) }

// Ready is closed when clients are served.
func (l *NSQLookupd) Ready() <-chan struct{} { return l.ready }

// Reload takes over the log level and reads the files of tokens and passwords
// again. Other options take effect at the next start.
func (l *NSQLookupd) Reload(opts *Options) error {
	rules, err := httpapi.LoadRules(opts.GuardOptions, httpapi.ClientCerts{})
	if err != nil {
		return err
	}
	l.guard.Use(rules)
	if l.level != nil {
		l.level.Set(opts.LogLevel.Level())
	}
	return nil
}

// Remaining says what a stop waits for.
func (l *NSQLookupd) Remaining() string { return "HTTP requests" }

// Run serves until ctx ends or a listener fails, then closes everything and
// waits for it, which takes little more than what [httpapi.Serve] grants requests
// in progress. It is called once. The error is the failure of a listener, nil
// after an end of ctx.
func (l *NSQLookupd) Run(ctx context.Context) error {
	listener := httpapi.Listener{Listener: l.httpListen, Name: "HTTP", Grace: l.httpGrace, Log: l.log}
	close(l.ready)
	g, ctx := errgroup.WithContext(ctx) // the first listener to fail stops the other
	whileTCP, tcpClosed := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return l.tcp.serve(ctx) })
	g.Go(func() error {
		if err := httpapi.Serve(whileTCP, listener, l.api); err != nil {
			return fmt.Errorf("http.Serve() error - %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		l.tcp.close()
		tcpClosed() // in this order in the log, which scripts read
		return nil
	})
	err := g.Wait()
	l.tcp.peers.Wait()
	return err
}
