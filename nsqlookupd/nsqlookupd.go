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
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/metrics"
	"github.com/nsq-suite/nsq/internal/version"
)

// NSQLookupd is one directory daemon: a registry, the TCP listener through
// which nsqds fill it, and the HTTP listeners through which it is asked.
type NSQLookupd struct {
	opts      Options
	log       *slog.Logger
	guard     *httpapi.Guard
	admission atomic.Pointer[admission] // replaced by Reload
	registry  *registry
	tcp       *tcpServer
	api       http.Handler
	http      net.Listener  // nil for none
	https     net.Listener  // nil for none; without its TLS
	ready     chan struct{} // closed when Run serves
	started   time.Time
	stopping  atomic.Bool // Run's context has ended
}

// counts are what happens, for the metrics.
type counts struct {
	identifies, registers, unregisters, pings atomic.Int64
	refused                                   atomic.Int64 // REGISTERs beyond the limits
	unauthorized                              atomic.Int64 // IDENTIFYs that are not admitted
	refusedConnections                        atomic.Int64
}

// wallClock is the time in unix nanoseconds.
func wallClock() int64 { return time.Now().UnixNano() }

// New binds the listeners; nothing is served before Run. opts is not modified. The
// errors are "listen (<addr>) failed - <reason>", that the host has no name, a
// mistake in the options, and what is wrong with the files that they name.
func New(opts *Options) (*NSQLookupd, error) {
	l := &NSQLookupd{opts: *opts, log: opts.Logger, guard: httpapi.NewGuard("nsqlookupd"), ready: make(chan struct{}), started: time.Now()}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.log.Info(version.String("nsqlookupd"))
	if err := opts.validate(); err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find the host name: %w", err)
	}
	if err := l.readFiles(opts); err != nil {
		return nil, err
	}
	l.registry = newRegistry(registryConfig{
		inactive:       opts.InactiveProducerTimeout,
		lifetime:       opts.TombstoneLifetime,
		maxKeys:        opts.MaxTopicsAndChannels,
		maxPerProducer: opts.MaxRegistrationsPerConnection,
		now:            wallClock,
	})
	listener, err := l.listen()
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
		log:           l.log,
		idleTimeout:   opts.idleTimeout(),
		identifyReply: reply,
		admission:     &l.admission,
		turns:         newTurns(),
		counts:        new(counts),
	})
	api := newHTTPAPI(l.registry, &l.opts, l.guard, l.log)
	api.Health(l.notReady)
	metrics.Route(api, "nsqlookupd", l.log, l.gatherMetrics)
	l.api = api
	return l, nil
}

// readFiles reads the files that the options name, and uses what they say for
// connections and requests from now on. After an error nothing has changed.
func (l *NSQLookupd) readFiles(opts *Options) error {
	admission, err := newAdmission(opts)
	if err != nil {
		return err
	}
	rules, err := httpapi.LoadRules(opts.GuardOptions, httpapi.ClientCerts{})
	if err != nil {
		return err
	}
	l.admission.Store(admission)
	l.guard.Use(rules)
	return nil
}

// listen binds all listeners or none. It returns that for nsqds.
func (l *NSQLookupd) listen() (tcp net.Listener, err error) {
	var bound []net.Listener
	for _, x := range []struct {
		addr string
		to   *net.Listener
	}{{l.opts.TCPAddress, &tcp}, {l.opts.HTTPAddress, &l.http}, {l.opts.HTTPSAddress, &l.https}} {
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

// Ready is closed when clients are served.
func (l *NSQLookupd) Ready() <-chan struct{} { return l.ready }

// Reload takes over the log level and reads the files of certificates, secrets,
// tokens and passwords again, for connections and requests from now on. Other
// options take effect at the next start.
func (l *NSQLookupd) Reload(opts *Options) error {
	if err := l.readFiles(&l.opts); err != nil {
		return err
	}
	if _, fixed := config.Changed(&l.opts, opts); len(fixed) > 0 {
		l.log.Warn("these options take effect at the next start", "options", strings.Join(fixed, ","))
	}
	if l.opts.Level != nil {
		l.opts.Level.Set(opts.LogLevel.Level())
	}
	return nil
}

// Remaining says what a stop waits for.
func (l *NSQLookupd) Remaining() string { return "HTTP requests" }

// Run serves until ctx ends or a listener fails, then closes everything and
// waits for it, which takes little more than Options.ShutdownDelay and what
// [httpapi.Serve] grants requests in progress. It is called once. The error is the failure of a listener, nil
// after an end of ctx.
func (l *NSQLookupd) Run(ctx context.Context) error {
	close(l.ready)
	outer := ctx
	g, ctx := errgroup.WithContext(ctx) // the first listener to fail stops the others
	whileTCP, tcpClosed := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return l.tcp.serve(ctx) })
	if l.http != nil {
		g.Go(func() error { return l.serveHTTP(whileTCP, "HTTP", l.http) })
	}
	if l.https != nil {
		g.Go(func() error { return l.serveHTTP(whileTCP, "HTTPS", tls.NewListener(l.https, l.httpsTLS())) })
	}
	if l.opts.UnusedTopicLifetime > 0 {
		g.Go(func() error { l.sweep(ctx); return nil })
	}
	g.Go(func() error {
		<-ctx.Done()
		l.stopping.Store(true)
		if outer.Err() != nil { // and no listener has failed
			time.Sleep(l.opts.ShutdownDelay)
		}
		l.tcp.close()
		tcpClosed() // in this order in the log, which scripts read
		return nil
	})
	err := g.Wait()
	l.tcp.peers.Wait()
	return err
}

// httpsTLS returns the TLS of HTTPS, with the certificate of the last Reload.
func (l *NSQLookupd) httpsTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &l.admission.Load().tls.Certificates[0], nil
		},
	}
}

func (l *NSQLookupd) serveHTTP(ctx context.Context, name string, listener net.Listener) error {
	err := httpapi.Serve(ctx, httpapi.Listener{
		Listener:       listener,
		Name:           name,
		Grace:          l.opts.ShutdownTimeout / 2,
		MaxConnections: l.opts.MaxHTTPConnections,
		Log:            l.log,
	}, l.api)
	if err != nil {
		return fmt.Errorf("http.Serve() error - %w", err)
	}
	return nil
}

// sweep forgets topics that no nsqd has had for long, until ctx ends.
func (l *NSQLookupd) sweep(ctx context.Context) {
	lifetime := l.opts.UnusedTopicLifetime
	ticks := time.NewTicker(max(lifetime/8, 100*time.Millisecond))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			for _, name := range l.registry.forgetUnused(lifetime) {
				l.log.Info("DB: removing topic(" + name + ") that no nsqd has had for " + lifetime.String())
			}
		}
	}
}
