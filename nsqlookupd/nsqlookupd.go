package nsqlookupd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/version"
)

// NSQLookupd is one directory daemon: a registry, the TCP listener through
// which nsqds fill it, and the HTTP listeners through which it is asked.
type NSQLookupd struct {
	log      *slog.Logger
	registry *registry
	tcp      *tcpServer
	api      http.Handler
	http     net.Listener // nil for none
	https    net.Listener // nil for none; without its TLS
	httpsTLS *tls.Config

	unusedTopicLifetime time.Duration // Options.UnusedTopicLifetime
}

// counts are what happens, for the metrics.
type counts struct {
	registers, unregisters, pings atomic.Int64
	refused                       atomic.Int64 // REGISTERs beyond the limits
	unauthorized                  atomic.Int64 // IDENTIFYs that are not admitted
	refusedConnections            atomic.Int64
}

// wallClock is the time in unix nanoseconds.
func wallClock() int64 { return time.Now().UnixNano() }

// New binds the listeners; nothing is served before Run. opts is not modified
// and must not be after the call. The errors are "listen (<addr>) failed -
// <reason>", that the host has no name, a mistake in the options, and what is
// wrong with the files that they name.
func New(opts *Options) (_ *NSQLookupd, err error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Info(version.String("nsqlookupd"))
	if err := opts.validate(); err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find the host name: %w", err)
	}
	admission, err := newAdmission(opts)
	if err != nil {
		return nil, err
	}
	l := &NSQLookupd{log: log, unusedTopicLifetime: opts.UnusedTopicLifetime}
	if l.httpsTLS, err = opts.serverTLS(); err != nil {
		return nil, err
	}
	l.registry = newRegistry(registryConfig{
		inactive:       opts.InactiveProducerTimeout,
		lifetime:       opts.TombstoneLifetime,
		maxKeys:        opts.MaxTopicsAndChannels,
		maxPerProducer: opts.MaxRegistrationsPerConnection,
		now:            wallClock,
	})
	listener, err := l.listen(opts)
	if err != nil {
		return nil, err
	}
	reply, err := json.Marshal(struct { // keys in alphabetical order
		BroadcastAddress string `json:"broadcast_address"`
		Hostname         string `json:"hostname"`
		HTTPPort         int    `json:"http_port"`
		HTTPSPort        int    `json:"https_port,omitempty"`
		TCPPort          int    `json:"tcp_port"`
		Version          string `json:"version"`
	}{opts.BroadcastAddress, hostname, port(l.http), port(l.https), port(listener), version.Number})
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	l.tcp = newTCPServer(listener, opts.MaxConnections, &peerConfig{
		registry:      l.registry,
		log:           log,
		idleTimeout:   opts.idleTimeout(),
		identifyReply: reply,
		admission:     admission,
		counts:        new(counts),
	})
	l.api = newHTTPAPI(l.registry, log)
	return l, nil
}

// listen binds all listeners or none. It returns that for nsqds.
func (l *NSQLookupd) listen(opts *Options) (tcp net.Listener, err error) {
	var bound []net.Listener
	for _, x := range []struct {
		addr string
		to   *net.Listener
	}{{opts.TCPAddress, &tcp}, {opts.HTTPAddress, &l.http}, {opts.HTTPSAddress, &l.https}} {
		if x.addr == "" {
			continue
		}
		if *x.to, err = listen(x.addr); err != nil {
			for _, b := range bound {
				err = errors.Join(err, b.Close())
			}
			return nil, err
		}
		bound = append(bound, *x.to)
	}
	return tcp, nil
}

func listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen (%s) failed - %w", addr, err)
	}
	return listener, nil
}

// port is that of a listener, 0 for none.
func port(listener net.Listener) int {
	if listener == nil {
		return 0
	}
	return listener.Addr().(*net.TCPAddr).Port
}

// TCPAddr returns the address bound for nsqds.
func (l *NSQLookupd) TCPAddr() *net.TCPAddr { return l.tcp.listener.Addr().(*net.TCPAddr) }

// HTTPAddr returns the address bound for HTTP, nil for none.
func (l *NSQLookupd) HTTPAddr() *net.TCPAddr { return tcpAddr(l.http) }

// HTTPSAddr returns the address bound for HTTPS, nil for none.
func (l *NSQLookupd) HTTPSAddr() *net.TCPAddr { return tcpAddr(l.https) }

func tcpAddr(listener net.Listener) *net.TCPAddr {
	if listener == nil {
		return nil
	}
	return listener.Addr().(*net.TCPAddr)
}

// Run serves until ctx ends or a listener fails, then closes everything and
// waits for it, which takes little more than what [httpapi.Serve] grants requests
// in progress. It is called once. The error is the failure of a listener, nil
// after an end of ctx.
func (l *NSQLookupd) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx) // the first listener to fail stops the others
	whileTCP, tcpClosed := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return l.tcp.serve(ctx) })
	if l.http != nil {
		g.Go(func() error { return l.serveHTTP(whileTCP, "HTTP", l.http) })
	}
	if l.https != nil {
		g.Go(func() error { return l.serveHTTP(whileTCP, "HTTPS", tls.NewListener(l.https, l.httpsTLS)) })
	}
	if l.unusedTopicLifetime > 0 {
		g.Go(func() error { l.sweep(ctx); return nil })
	}
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

func (l *NSQLookupd) serveHTTP(ctx context.Context, name string, listener net.Listener) error {
	if err := httpapi.Serve(ctx, name, listener, l.api, l.log); err != nil {
		return fmt.Errorf("http.Serve() error - %w", err)
	}
	return nil
}

// sweep forgets topics that no nsqd has had for long, until ctx ends.
func (l *NSQLookupd) sweep(ctx context.Context) {
	ticks := time.NewTicker(max(l.unusedTopicLifetime/8, 100*time.Millisecond))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			for _, name := range l.registry.forgetUnused(l.unusedTopicLifetime) {
				l.log.Info("DB: removing topic(" + name + ") that no nsqd has had for " + l.unusedTopicLifetime.String())
			}
		}
	}
}
