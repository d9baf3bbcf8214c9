package nsqlookupd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

// logBuffer collects log lines and lets tests wait for one.
type logBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // closed and replaced at each line
}

func newLogBuffer() *logBuffer { return &logBuffer{changed: make(chan struct{})} }

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait returns when a line contains the text.
func (l *logBuffer) wait(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		l.mu.Lock()
		found, changed := strings.Contains(l.b.String(), text), l.changed
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the log has no %q:\n%s", text, l.String())
		}
	}
}

// daemon is an nsqlookupd that runs until the test ends.
type daemon struct {
	t    *testing.T
	l    *nsqlookupd.NSQLookupd
	log  *logBuffer
	base string // of its HTTP API

	stop func() // ends it and waits; the second call does nothing
}

func start(t *testing.T, change ...func(*nsqlookupd.Options)) *daemon {
	t.Helper()
	opts := nsqlookupd.NewOptions()
	d := &daemon{t: t, log: newLogBuffer()}
	opts.TCPAddress, opts.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0"
	opts.BroadcastAddress = "lookup1"
	opts.Logger = logging.New(d.log, "", logging.LevelDebug)
	for _, f := range change {
		f(opts)
	}
	var err error
	if d.l, err = nsqlookupd.New(opts); err != nil {
		t.Fatal(err)
	}
	if addr := d.l.HTTPAddr(); addr != nil {
		d.base = "http://" + addr.String()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.l.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(d.stop)
	return d
}

// get and post return status and body of a request.
func (d *daemon) get(path string) string  { return d.request(http.MethodGet, path) }
func (d *daemon) post(path string) string { return d.request(http.MethodPost, path) }

func (d *daemon) request(method, path string) string {
	d.t.Helper()
	req, err := http.NewRequest(method, d.base+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirects
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode == 200 && path != "/ping" && !strings.HasPrefix(path, "/debug/pprof") && resp.Header.Get("X-NSQ-Content-Type") != "nsq; version=1.0" {
		d.t.Errorf("%s %s lacks the X-NSQ-Content-Type header", method, path)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// eventually polls until the request gives the answer: what another connection
// did may take a moment.
func (d *daemon) eventually(path, want string) {
	d.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for d.get(path) != want {
		if time.Now().After(deadline) {
			d.t.Fatalf("GET %s\n got %s\nwant %s", path, d.get(path), want)
		}
	}
}

// client is a V1 connection in bytes.
type client struct {
	t    *testing.T
	conn net.Conn
}

func (d *daemon) dial() *client {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.l.TCPAddr().String())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	return &client{d.t, conn}
}

// v1 returns a connection after the magic.
func (d *daemon) v1() *client {
	d.t.Helper()
	c := d.dial()
	c.send("  V1")
	return c
}

const identity = `{"broadcast_address":"h","http_port":2,"tcp_port":1,"version":"x"}`

// identified returns a connection after IDENTIFY as broadcast h, ports 1/2,
// version x.
func (d *daemon) identified() *client {
	d.t.Helper()
	c := d.v1()
	c.send(identify(identity))
	c.reply()
	return c
}

func identify(body string) string { return "IDENTIFY\n" + sized(body) }

func sized(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

func (c *client) addr() string { return c.conn.LocalAddr().String() }

func (c *client) send(b string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(b)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) reply() string {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		c.t.Fatalf("read reply: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatalf("read reply: %v", err)
	}
	return string(b)
}

// do sends command lines and wants OK for each.
func (c *client) do(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		c.send(line + "\n")
		if got := c.reply(); got != "OK" {
			c.t.Fatalf("%s: %q", line, got)
		}
	}
}

func (c *client) wantReply(want string) {
	c.t.Helper()
	if got := c.reply(); got != want {
		c.t.Errorf("reply %q, want %q", got, want)
	}
}

// wantEnd wants the server to close without another byte.
func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.conn)
	if len(rest) > 0 || err != nil {
		c.t.Errorf("want the end of the connection, got %q, %v", rest, err)
	}
}

func (c *client) closeWrite() {
	c.t.Helper()
	if err := c.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) close() {
	c.t.Helper()
	if err := c.conn.Close(); err != nil {
		c.t.Fatal(err)
	}
}
