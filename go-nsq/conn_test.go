package nsq

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// eventDelegate notes the calls of a connection.
type eventDelegate struct {
	mu     sync.Mutex // guards events
	events []string

	messages chan *Message
	closed   chan struct{}
}

func newEventDelegate() *eventDelegate {
	return &eventDelegate{messages: make(chan *Message, 1000), closed: make(chan struct{})}
}

func (d *eventDelegate) note(format string, args ...interface{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, fmt.Sprintf(format, args...))
}

func (d *eventDelegate) got() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

func (d *eventDelegate) OnResponse(_ *Conn, data []byte)   { d.note("response %s", data) }
func (d *eventDelegate) OnError(_ *Conn, data []byte)      { d.note("error %s", data) }
func (d *eventDelegate) OnMessage(_ *Conn, m *Message)     { d.messages <- m }
func (d *eventDelegate) OnMessageFinished(*Conn, *Message) { d.note("finished") }
func (d *eventDelegate) OnMessageRequeued(*Conn, *Message) { d.note("requeued") }
func (d *eventDelegate) OnBackoff(*Conn)                   { d.note("backoff") }
func (d *eventDelegate) OnContinue(*Conn)                  { d.note("continue") }
func (d *eventDelegate) OnResume(*Conn)                    { d.note("resume") }
func (d *eventDelegate) OnIOError(_ *Conn, err error)      { d.note("IO error %s", err) }
func (d *eventDelegate) OnHeartbeat(*Conn)                 { d.note("heartbeat") }
func (d *eventDelegate) OnClose(*Conn)                     { d.note("close"); close(d.closed) }

// countingConn counts the writes.
type countingConn struct {
	net.Conn
	mu     sync.Mutex // guards writes
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *countingConn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// startConn returns a connection past its handshake, over one end of a pipe.
// configure may be nil.
func startConn(t testing.TB, configure func(*Config)) (c *Conn, d *eventDelegate, socket *countingConn, server net.Conn) {
	t.Helper()
	config := NewConfig()
	if configure != nil {
		configure(config)
	}
	client, server := net.Pipe()
	socket = &countingConn{Conn: client}
	d = newEventDelegate()
	c = NewConn("pipe", config, d)
	c.conn = &timedConn{Conn: socket, readTimeout: config.ReadTimeout, writeTimeout: config.WriteTimeout}
	if config.HeartbeatInterval < 0 {
		c.conn.readTimeout = 0
	}
	c.msgTimeout = time.Minute
	c.setStream(stream{Reader: c.conn, Writer: c.conn})
	c.in = bufio.NewReader(c.stream.Reader)
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	return c, d, socket, server
}

func messageFrame(id string) []byte {
	return protocol.AppendMessageFrame(nil, 1, 1, protocol.MessageID([]byte(id)), []byte("body"))
}

// TestConnEvents follows messages through a connection to its end.
func TestConnEvents(t *testing.T) {
	c, d, _, server := startConn(t, nil)
	in := bufio.NewReader(server)
	expectLine := func(want string) {
		t.Helper()
		if got, err := in.ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	send := func(frame []byte) {
		t.Helper()
		if _, err := server.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	const id = "0123456789abcdef"
	send(protocol.AppendFrame(nil, protocol.FrameResponse, []byte("_heartbeat_")))
	expectLine("NOP")
	send(protocol.AppendFrame(nil, protocol.FrameResponse, []byte("OK")))
	send(protocol.AppendFrame(nil, protocol.FrameError, []byte("E_FIN_FAILED x")))
	send(protocol.AppendFrame(nil, 7, nil))
	for range 3 {
		send(messageFrame(id))
	}
	m := receive(t, "message", d.messages)
	if m.NSQDAddress != "pipe" || string(m.Body) != "body" || string(m.ID[:]) != id || m.Attempts != 1 {
		t.Errorf("got %+v", m)
	}
	m.Touch()
	expectLine("TOUCH " + id)
	m.Finish()
	m.Finish()
	expectLine("FIN " + id)
	receive(t, "message", d.messages).Requeue(-1)
	expectLine("REQ " + id + " 90000")
	last := receive(t, "message", d.messages)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	send(protocol.AppendFrame(nil, protocol.FrameResponse, []byte("_heartbeat_")))
	expectLine("NOP")
	send(messageFrame(id)) // too late
	last.RequeueWithoutBackoff(1500 * time.Millisecond)
	expectLine("REQ " + id + " 1500")
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
	receive(t, "OnClose", d.closed)
	if err := c.Close(); err != nil || !c.IsClosing() {
		t.Errorf("closing again: %v", err)
	}
	want := "heartbeat, response OK, error E_FIN_FAILED x, IO error unknown frame type 7, finished, resume, " +
		"requeued, backoff, heartbeat, requeued, continue, close"
	if got := strings.Join(d.got(), ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestConnReportsFailureOnce: one broken connection is one OnIOError.
func TestConnReportsFailureOnce(t *testing.T) {
	c, d, _, server := startConn(t, nil)
	server.Close()
	for range 3 {
		if err := c.WriteCommand(Nop()); err == nil {
			t.Error("wrote to a closed connection")
		}
	}
	receive(t, "OnClose", d.closed)
	got := d.got()
	if len(got) != 2 || !strings.HasPrefix(got[0], "IO error ") || got[1] != "close" {
		t.Errorf("got %q", got)
	}
}

func TestConnBeforeConnect(t *testing.T) {
	c := NewConn("127.0.0.1:1", NewConfig(), newEventDelegate())
	if c.MaxRDY() != 2500 || c.RDY() != 0 || c.LastRDY() != 0 || c.String() != "127.0.0.1:1" || c.IsClosing() {
		t.Errorf("got %d, %d, %d, %s", c.MaxRDY(), c.RDY(), c.LastRDY(), c)
	}
	if !c.LastRdyTime().Equal(time.Unix(0, 0)) || time.Since(c.LastMessageTime()) > time.Minute {
		t.Errorf("got %s and %s", c.LastRdyTime(), c.LastMessageTime())
	}
	c.SetRDY(5)
	if c.RDY() != 5 || c.LastRDY() != 5 || time.Since(c.LastRdyTime()) > time.Minute {
		t.Errorf("got %d, %d, %s", c.RDY(), c.LastRDY(), c.LastRdyTime())
	}
	if _, err := c.Read(nil); err != ErrNotConnected {
		t.Error(err)
	}
	if _, err := c.Write(nil); err != ErrNotConnected {
		t.Error(err)
	}
	if err := c.WriteCommand(Nop()); err != ErrNotConnected {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Connect(); err != ErrClosing {
		t.Error(err)
	}
}

// TestConnCoalescesWrites: a command is one write, and so are many answers that
// wait together.
func TestConnCoalescesWrites(t *testing.T) {
	c, d, socket, server := startConn(t, nil)
	const n = 100
	var frames []byte
	for i := range n {
		frames = append(frames, messageFrame(fmt.Sprintf("%016d", i))...)
	}
	if _, err := server.Write(frames); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(server)
	// The write loop is held up in the first write while all answers come.
	for range n {
		receive(t, "message", d.messages).Finish()
	}
	for i := range n {
		if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("FIN %016d\n", i) {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	if got := socket.count(); got > 2 {
		t.Errorf("%d writes for %d answers", got, n)
	}
	before := socket.count()
	go func() { _ = c.WriteCommand(Publish("t", make([]byte, 10000))) }()
	if _, err := in.Discard(len("PUB t\n") + 4 + 10000); err != nil {
		t.Fatal(err)
	}
	if got := socket.count() - before; got != 1 {
		t.Errorf("%d writes for a publish", got)
	}
	server.Close()
	receive(t, "OnClose", d.closed)
}

// TestConnIdle: silence ends a connection that has heartbeats, and no other.
func TestConnIdle(t *testing.T) {
	for _, test := range []struct {
		heartbeat time.Duration
		ends      bool
	}{{30 * time.Second, true}, {-1, false}} {
		synctest.Test(t, func(t *testing.T) {
			c, d, _, server := startConn(t, func(config *Config) { config.HeartbeatInterval = test.heartbeat })
			time.Sleep(59 * time.Second)
			synctest.Wait()
			if got := d.got(); len(got) > 0 {
				t.Errorf("too early: %q", got)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if ended := len(d.got()) > 0; ended != test.ends {
				t.Errorf("heartbeat %s: %q", test.heartbeat, d.got())
			}
			server.Close()
			c.Close()
			<-d.closed
		})
	}
}

// TestConnAbandons: a closing connection waits for answers as long as nsqd
// does, counted from the last TOUCH.
func TestConnAbandons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, _, server := startConn(t, func(config *Config) { config.HeartbeatInterval = -1 })
		go io.Copy(io.Discard, server)
		if _, err := server.Write(messageFrame("0123456789abcdef")); err != nil {
			t.Fatal(err)
		}
		m := <-d.messages
		start := time.Now()
		c.Close()
		time.Sleep(40 * time.Second)
		m.Touch()
		<-d.closed
		if took := time.Since(start); took < 100*time.Second || took > 101*time.Second {
			t.Errorf("closed after %s", took)
		}
		m.Finish() // to nobody
		server.Close()
	})
}

// TestConnDecodeFailure: a message too short to be one ends the connection.
func TestConnDecodeFailure(t *testing.T) {
	_, d, _, server := startConn(t, nil)
	if _, err := server.Write(protocol.AppendFrame(nil, protocol.FrameMessage, []byte("short"))); err != nil {
		t.Fatal(err)
	}
	receive(t, "OnClose", d.closed)
	want := []string{"IO error not enough data to decode valid message", "close"}
	if got := d.got(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// lineLogger keeps log lines.
type lineLogger struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (l *lineLogger) Output(_ int, s string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
	return errors.New("nobody reads this")
}

func TestLogging(t *testing.T) {
	c := NewConn("addr:1", NewConfig(), newEventDelegate())
	c.log(LogLevelError, "nobody listens")
	l, only := new(lineLogger), new(lineLogger)
	c.SetLogger(l, LogLevelInfo, "")
	c.log(LogLevelDebug, "not wanted")
	c.log(LogLevelInfo, "hello", slog.Int("n", 1))
	c.SetLoggerForLevel(only, LogLevelError, "<%s>")
	c.SetLoggerForLevel(only, 99, "no such level")
	c.log(LogLevelError, "bad")
	c.SetLoggerLevel(LogLevelDebug)
	c.log(LogLevelDebug, "wanted")
	c.SetLogger(nil, LogLevelDebug, "")
	c.log(LogLevelError, "silenced")
	if want := []string{"INF  (addr:1) hello n=1", "DBG  (addr:1) wanted"}; !slices.Equal(l.lines, want) {
		t.Errorf("got %q, want %q", l.lines, want)
	}
	if want := []string{"ERR  <addr:1> bad"}; !slices.Equal(only.lines, want) {
		t.Errorf("got %q, want %q", only.lines, want)
	}

	r := newTestConsumer(t, "t", NewConfig())
	r.id = 7
	lines := new(lineLogger)
	r.SetLogger(lines, LogLevelInfo)
	r.log(LogLevelInfo, "stopping...")
	w := newTestProducer(t, "addr:1", NewConfig())
	w.id = 12
	w.SetLogger(lines, LogLevelInfo)
	w.SetLoggerForLevel(nil, LogLevelError)
	w.log(LogLevelInfo, "stopping")
	w.log(LogLevelError, "silenced")
	if want := []string{"INF    7 [t/ch] stopping...", "INF   12 (addr:1) stopping"}; !slices.Equal(lines.lines, want) {
		t.Errorf("got %q, want %q", lines.lines, want)
	}
	r.SetLogger(nil, LogLevelError)
	w.SetLogger(nil, LogLevelError)
}

// TestStreamLayers: what goes through each compression comes out the same.
func TestStreamLayers(t *testing.T) {
	data := bytes.Repeat([]byte("some data "), 50000)
	for name, add := range map[string]func(*stream) error{
		"none":    func(*stream) error { return nil },
		"deflate": func(s *stream) error { return s.addDeflate(6) },
		"snappy":  func(s *stream) error { s.addSnappy(); return nil },
	} {
		var wire bytes.Buffer
		s := stream{Reader: &wire, Writer: &wire}
		if err := add(&s); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(data))
		if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConnClosesAfterStalledWrite: a write that times out while the connection
// ends leaves no open socket.
func TestConnClosesAfterStalledWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d, _, server := startConn(t, nil)
		if _, err := server.Write(messageFrame("0123456789abcdef")); err != nil {
			t.Fatal(err)
		}
		(<-d.messages).Finish() // nobody reads it
		synctest.Wait()
		c.Close()
		<-d.closed
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v", err)
		}
		server.Close()
	})
}
