package nsqd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A commandLoop is a connection on which the same commands arrive again and again.
type commandLoop struct {
	net.Conn
	commands string
	at       int
}

func (l *commandLoop) Read(b []byte) (int, error) {
	n := copy(b, l.commands[l.at:])
	l.at = (l.at + n) % len(l.commands)
	return n, nil
}

func (l *commandLoop) Write(b []byte) (int, error)      { return len(b), nil }
func (l *commandLoop) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (l *commandLoop) SetReadDeadline(time.Time) error  { return nil }
func (l *commandLoop) SetWriteDeadline(time.Time) error { return nil }

// executeLoop executes the commands of a client up to the next NOP, before which runs
// end.
func executeLoop(t testing.TB, c *conn) {
	for nop := false; !nop; {
		line, err := c.in.line()
		if err == nil {
			nop = string(line) == "NOP"
			c.params = protocol.SplitParams(line, c.params[:0])
			err = c.execute(c.params)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// pubs returns n commands that publish a small message.
func pubs(topic string, n int) string {
	return strings.Repeat("PUB "+topic+"\n\x00\x00\x00\x03abc", n)
}

// benchDaemon runs an nsqd that nobody can connect to until the test ends.
func benchDaemon(t testing.TB, memQueueSize int64) *NSQD {
	t.Helper()
	opts := NewOptions()
	opts.DataPath, opts.MemQueueSize = t.TempDir(), memQueueSize
	n, err := newNSQD(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-n.Ready()
	return n
}

// A finisher is the connection of a consumer that finishes each message when it comes.
type finisher struct {
	net.Conn

	mu       sync.Mutex // guards all below
	changed  sync.Cond  // something below has
	commands []byte     // not read yet
	read     int        // commands that have been read …
	executed int        // … and executed
	ended    bool       // nothing more is read
}

// startFinisher subscribes one to a channel, until the daemon stops.
func startFinisher(t testing.TB, n *NSQD, topic, channel string) *finisher {
	t.Helper()
	f := &finisher{commands: []byte(protocol.MagicV2 + "SUB " + topic + " " + channel + "\nRDY 2500\n")}
	f.changed.L = &f.mu
	if !n.conns.join(f, 0, func() { n.handle(f) }) {
		t.Fatal("the daemon takes no connections any more")
	}
	f.await(2)
	return f
}

// await waits until n commands have been executed, SUB and RDY included.
func (f *finisher) await(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.executed < n {
		f.changed.Wait()
	}
}

// Read is called when the commands that were read before have been executed.
func (f *finisher) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.executed = f.read
	f.changed.Broadcast()
	for len(f.commands) == 0 && !f.ended {
		f.changed.Wait()
	}
	if f.ended {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, f.commands)
	f.read += bytes.Count(b[:n], []byte{'\n'})
	f.commands = f.commands[:copy(f.commands, f.commands[n:])]
	return n, nil
}

// Write gets whole frames.
func (f *finisher) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for rest := b; len(rest) > 0; {
		frame := rest[:4+binary.BigEndian.Uint32(rest)]
		rest = rest[len(frame):]
		if protocol.FrameType(binary.BigEndian.Uint32(frame[4:])) != protocol.FrameMessage {
			continue
		}
		f.commands = append(f.commands, "FIN "...)
		f.commands = append(f.commands, frame[18:18+protocol.MessageIDLength]...)
		f.commands = append(f.commands, '\n')
	}
	f.changed.Broadcast()
	return len(b), nil
}

// SetReadDeadline ends reading if the time has passed: so the daemon stops.
func (f *finisher) SetReadDeadline(at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = f.ended || !at.IsZero() && at.Before(time.Now())
	f.changed.Broadcast()
	return nil
}

func (f *finisher) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (f *finisher) SetDeadline(time.Time) error      { return nil }
func (f *finisher) SetWriteDeadline(time.Time) error { return nil }
func (f *finisher) Close() error                     { return f.SetReadDeadline(past) }

// loopConn is a client that sends commands and a NOP again and again, amid its work.
func loopConn(n *NSQD, commands string) *conn {
	c := newConn(n.svc, &commandLoop{commands: commands + "NOP\n"})
	c.ioScratch = new(ioScratch)
	return c
}

// passThrough returns a function that publishes 100 messages in one run of PUBs, and
// waits until a consumer of each channel has finished them.
func passThrough(t testing.TB, channels int) func() {
	n := benchDaemon(t, 100_000)
	consumers := make([]*finisher, channels)
	for i := range consumers {
		consumers[i] = startFinisher(t, n, "t", fmt.Sprint("ch", i))
	}
	producer := loopConn(n, pubs("t", 100))
	executed := 2
	return func() {
		executeLoop(t, producer)
		executed += 100
		for _, f := range consumers {
			f.await(executed)
		}
	}
}

// BenchmarkPassThrough is the way of 100 messages from PUB to FIN, without sockets.
func BenchmarkPassThrough(b *testing.B) {
	for _, channels := range []int{1, 8} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			run := passThrough(b, channels)
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

// A message costs memory for what it is, with its neighbours, and nothing on its way
// from PUB to FIN.
func TestPassThroughAllocatesLittle(t *testing.T) {
	nsqtest.AllocatesAtMost(t, 8, "100 messages from PUB to FIN", passThrough(t, 1))
}

// publishBatch returns a function that executes an MPUB of 100 messages to a topic
// that discards them.
func publishBatch(t testing.TB) func() {
	body := binary.BigEndian.AppendUint32(nil, 100)
	for range 100 {
		body = protocol.AppendSized(body, make([]byte, 200))
	}
	command := protocol.AppendSized(protocol.AppendCommand(nil, "MPUB", "t#ephemeral"), body)
	n := benchDaemon(t, 1)
	c := loopConn(n, string(command))
	return func() { executeLoop(t, c) }
}

func BenchmarkPublishBatch(b *testing.B) {
	run := publishBatch(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

func TestPublishBatchAllocatesLittle(t *testing.T) {
	nsqtest.AllocatesAtMost(t, 8, "an MPUB of 100 messages", publishBatch(t))
}

// parseInput returns a function that parses a PUB in the buffer where it lies, and
// fills the buffer from time to time.
func parseInput(t testing.TB) func() {
	in := newInput(&commandLoop{commands: pubs("orders", 1000)}, func() error { return nil })
	var params [][]byte
	return func() {
		line, err := in.line()
		if err != nil {
			t.Fatal(err)
		}
		params = protocol.SplitParams(line, params[:0])
		size, err := in.size()
		if err != nil {
			t.Fatal(err)
		}
		if in.peek(int(size)) == nil {
			t.Fatal("a body has not arrived with its command")
		}
	}
}

func BenchmarkInput(b *testing.B) {
	run := parseInput(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

// A discardConn is a connection that takes everything.
func discardConn() net.Conn { return &commandLoop{commands: "NOP\n"} }

// BenchmarkAnswerOK answers a run of 100 PUBs, with one write.
func BenchmarkAnswerOK(b *testing.B) {
	out := newOutput(discardConn(), time.Second)
	b.ReportAllocs()
	for b.Loop() {
		if err := errors.Join(out.answerOK(100), out.flushAnswers()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestInputAndOutputAllocateNothing(t *testing.T) {
	nsqtest.AllocatesAtMost(t, 0, "a PUB that has arrived", parseInput(t))

	out := newOutput(discardConn(), time.Second)
	nsqtest.AllocatesAtMost(t, 1, "100 answers and a write", func() {
		if err := errors.Join(out.answerOK(100), out.flushAnswers()); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkIDs stamps batches of one message on several goroutines, and renders their
// IDs.
func BenchmarkIDs(b *testing.B) {
	ids := newIDSource(1, wallClock)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var one batch
		for pb.Next() {
			ids.stamp(&one, 1)
			renderID(one.number, one.node)
		}
	})
}

// A replay is the body of a request that is sent again and again.
type replay struct{ bytes.Reader }

func (*replay) Close() error { return nil }

// A discardResponse is where an answer goes; it notes the status.
type discardResponse struct {
	header http.Header
	status int
}

func (w *discardResponse) Header() http.Header         { return w.header }
func (w *discardResponse) WriteHeader(status int)      { w.status = status }
func (w *discardResponse) Write(b []byte) (int, error) { return len(b), nil }

// publishHTTP returns a function that answers POST /pub for a topic that discards its
// messages. What net/http does for a request is not part of it.
func publishHTTP(t testing.TB) func() {
	n := benchDaemon(t, 1)
	body := make([]byte, 200)
	r, err := http.NewRequest(http.MethodPost, "http://nsqd/pub?topic=t%23ephemeral", nil)
	if err != nil {
		t.Fatal(err)
	}
	replayed := new(replay)
	r.Body, r.ContentLength = replayed, int64(len(body))
	w := &discardResponse{header: make(http.Header)}
	return func() {
		replayed.Reset(body)
		clear(w.header)
		w.status = http.StatusOK
		n.api.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			t.Fatalf("status %d", w.status)
		}
	}
}

func BenchmarkHTTPPub(b *testing.B) {
	run := publishHTTP(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

func TestHTTPPubAllocatesLittle(t *testing.T) {
	nsqtest.AllocatesAtMost(t, 7, "POST /pub", publishHTTP(t))
}
