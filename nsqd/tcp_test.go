package nsqd

import (
	"context"
	"net"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A connection that says nothing does not stay, and does not hold up the stop.
func TestSilentBeforeMagic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MagicTimeout = 3 * time.Second })
		for _, sent := range []string{"", "  V"} {
			client, server := nsqtest.Pipe()
			b.conns.join(server, 0, func() { b.handle(server) })
			start := time.Now()
			nsqtest.Wrap(t, client).Timeout(time.Minute).Send(sent).ExpectClosed()
			took(t, start, 3*time.Second)
		}
		client, server := nsqtest.Pipe()
		b.conns.join(server, 0, func() { b.handle(server) })
		start := time.Now()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		took(t, start, 0)
		nsqtest.Wrap(t, client).ExpectClosed()
	})
}

func TestMaxConnections(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MaxConnections = 2 })
	addr := d.TCPAddr().String()
	first := nsqtest.Dial(t, addr).Pub("t", "a")
	nsqtest.Dial(t, addr).Pub("t", "a")
	nsqtest.DialSilent(t, addr).ExpectClosed()
	first.Close()
	// The place is free once the daemon has noticed.
	for len(d.conns.clients()) > 1 {
		runtime.Gosched()
	}
	nsqtest.Dial(t, addr).Pub("t", "a")
	nsqtest.Equal(t, d.existingTopic("t").messages.Load(), uint64(3))
}

// A flakyListener fails before each connection, as one does that is out of file
// descriptors.
type flakyListener struct {
	net.Listener
	failures int
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.failures++; l.failures%2 == 1 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvives(t *testing.T) {
	opts := NewOptions()
	opts.DataPath, opts.TCPAddress, opts.HTTPAddress = t.TempDir(), "127.0.0.1:0", ""
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	n.tcp = &flakyListener{Listener: n.tcp}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	for range 4 {
		nsqtest.Dial(t, n.TCPAddr().String()).Pub("t", "a")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
