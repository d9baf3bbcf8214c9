// Package daemon runs nsqd inside a test: the whole daemon on real sockets, in
// the test's process and so under its race detector. It is apart from package
// nsqtest because it imports nsqd, and the tests inside nsqd use nsqtest.
package daemon

import (
	"context"
	"log/slog"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/nsqd"
)

// A Daemon is an nsqd that serves until the test ends or Stop is called.
type Daemon struct {
	TCPAddr   string // host:port, or the path of a Unix socket
	HTTPAddr  string // the same; empty for none
	HTTPSAddr string // host:port; empty for none
	DataPath  string // where its files are

	t      testing.TB
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // what it returned; set before done is closed
}

// Start runs nsqd on free loopback ports and an empty data directory, with what
// configure changes of its options. Its log goes to the test's. The test fails
// if nsqd stops with an error, or leaves a goroutine behind.
func Start(t testing.TB, configure ...func(*nsqd.Options)) *Daemon {
	t.Helper()
	nsqtest.NoLeaks(t)
	opts := nsqd.NewOptions()
	opts.TCPAddress, opts.HTTPAddress, opts.HTTPSAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	opts.BroadcastAddress = "127.0.0.1"
	for _, c := range configure {
		c(opts)
	}
	if opts.DataPath == "" {
		opts.DataPath = t.TempDir()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(logging.NewHandler(t.Output(), opts.LogPrefix, slog.LevelInfo))
	}
	n, err := nsqd.New(opts)
	if err != nil {
		t.Fatalf("start nsqd: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Daemon{
		TCPAddr:  n.TCPAddr().String(),
		DataPath: opts.DataPath,
		t:        t,
		cancel:   cancel,
		done:     make(chan struct{}),
	}
	if addr := n.HTTPAddr(); addr != nil {
		d.HTTPAddr = addr.String()
	}
	if addr := n.HTTPSAddr(); addr != nil {
		d.HTTPSAddr = addr.String()
	}
	go func() { // ends with Run; Stop waits for it
		defer close(d.done)
		d.err = n.Run(ctx)
	}()
	t.Cleanup(d.Stop)
	return d
}

// Flags returns a configuration for [Start] from command-line flags, as
// "--msg-timeout=1m". A flag that nsqd does not have fails the test.
func Flags(t testing.TB, flags ...string) func(*nsqd.Options) {
	return func(opts *nsqd.Options) {
		t.Helper()
		set := config.NewFlagSet("nsqd", opts)
		if err := set.Parse(flags); err != nil {
			t.Fatalf("parse flags %q: %v", flags, err)
		}
		if _, err := config.Load(opts, set, ""); err != nil {
			t.Fatalf("apply flags %q: %v", flags, err)
		}
	}
}

// Stop stops nsqd as SIGTERM does, and fails the test if that fails. Calls after
// the first do nothing.
func (d *Daemon) Stop() {
	d.t.Helper()
	d.cancel()
	<-d.done
	if d.err != nil {
		d.t.Errorf("stop nsqd: %v", d.err)
		d.err = nil
	}
}

// Dial connects to nsqd and sends the magic.
func (d *Daemon) Dial() *nsqtest.Conn {
	d.t.Helper()
	return nsqtest.Dial(d.t, d.TCPAddr)
}
