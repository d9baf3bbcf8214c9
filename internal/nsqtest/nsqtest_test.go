package nsqtest

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// serve answers each connection with the bytes of replies, one per read, and
// then closes it.
func serve(t *testing.T, replies ...string) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 1<<10)
			for _, reply := range replies {
				if _, err := conn.Read(buf); err != nil {
					break
				}
				if _, err := io.WriteString(conn, reply); err != nil {
					break
				}
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return listener.Addr().String()
}

var idA = protocol.MessageID([]byte("18a450dd83e69000"))

func frame(t protocol.FrameType, data string) string {
	return string(protocol.AppendFrame(nil, t, []byte(data)))
}

func TestConnReadsWhatTheServerSays(t *testing.T) {
	NoLeaks(t)
	message := string(protocol.AppendMessageFrame(nil, 7, 1, idA, []byte("a")))
	addr := serve(t,
		frame(protocol.FrameResponse, heartbeat)+frame(protocol.FrameResponse, "OK"),
		message+frame(protocol.FrameError, "E_FIN_FAILED FIN x failed ID not in flight"))
	c := Dial(t, addr).ExpectOK()
	got := c.Rdy(1).ReadMessage()
	Equal(t, got, Message{Nanos: 7, Attempts: 1, ID: idA, Body: "a"})
	Equal(t, got.WithAttempts(2).Attempts, 2)
	c.ExpectError("E_FIN_FAILED FIN x failed ID not in flight").ExpectClosed()
}

func TestClientBytes(t *testing.T) {
	ids := map[string]protocol.MessageID{"$1": idA}
	for _, row := range []struct{ what, want string }{
		{`RDY 1`, "RDY 1\n"},
		{`PUB t "a"`, "PUB t\n\x00\x00\x00\x01a"},
		{`PUB t ""`, "PUB t\n\x00\x00\x00\x00"},
		{`MPUB t ["a" "bb"]`, "MPUB t\n\x00\x00\x00\x0f\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bb"},
		{`IDENTIFY {"a": [1]}`, "IDENTIFY\n\x00\x00\x00\x0a" + `{"a": [1]}`},
		{`FIN $1`, "FIN 18a450dd83e69000\n"},
		{`PUB  t "a"*3`, "PUB  t\n\x00\x00\x00\x03aaa"},
		{`"  V2"`, "  V2"},
		{`"a\x00"*2 "b"`, "a\x00a\x00b"},
	} {
		got, err := clientBytes(row.what, ids)
		if string(got) != row.want || err != nil {
			t.Errorf("%s: got %q (%v), want %q", row.what, got, err, row.want)
		}
	}
	for _, what := range []string{`FIN $2`, `"open`, `"a"*x`, `PUB t "a" b`, `MPUB t [a]`} {
		if got, err := clientBytes(what, ids); err == nil {
			t.Errorf("%s: got %q, want an error", what, got)
		}
	}
}

func TestParseTranscriptRefuses(t *testing.T) {
	for _, row := range []struct{ content, want string }{
		{"C> NOP", "f:1: step before the first title"},
		{"== a\n\nC< NOP", "f:3: no step"},
		{"== a\nX> NOP", "f:2: no step"},
	} {
		if _, err := parseTranscript("f", row.content); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got error %v, want %q", row.content, err, row.want)
		}
	}
}

func TestReplay(t *testing.T) {
	NoLeaks(t)
	addr := serve(t,
		frame(protocol.FrameResponse, "OK")+
			frame(protocol.FrameResponse, heartbeat)+
			frame(protocol.FrameResponse, `{"a":1,"b":"x"}`)+
			string(protocol.AppendMessageFrame(nil, 7, 1, idA, []byte("a")))+
			frame(protocol.FrameError, "E_FIN_FAILED FIN 18a450dd83e69000 failed")+
			"\x00\x01")
	cases, err := parseTranscript("f", `
daemon --a=1
== the one case
daemon --b=2
C> "  V2"
S< OK
S< HEARTBEAT
S< JSON {"b":"x", ...}
S< MSG $1 attempts=1 body="a"
S< ERR "E_FIN_FAILED FIN $1 failed"
S< "\x00\x01"
S< CLOSE
`)
	if err != nil {
		t.Fatal(err)
	}
	Equal(t, len(cases), 1)
	Equal(t, cases[0].Flags, []string{"--a=1", "--b=2"})
	for _, chunks := range []Chunks{Together, Bytes} {
		cases[0].Replay(t, addr, "", chunks)
	}
}

func TestCompareSaysWhatDiffers(t *testing.T) {
	message := protocol.AppendMessage(nil, 7, 2, idA, []byte("a"))
	r := replay{ids: map[string]protocol.MessageID{"$1": idA, "$2": {}}}
	for _, row := range []struct {
		got  Frame
		want string
	}{
		{Frame{protocol.FrameResponse, "OK"}, `CLOSE_WAIT`},
		{Frame{protocol.FrameError, "OK"}, `OK`},
		{Frame{protocol.FrameError, "E_INVALID x"}, `ERR "E_INVALID y"`},
		{Frame{protocol.FrameMessage, string(message)}, `MSG $1 attempts=1`},
		{Frame{protocol.FrameMessage, string(message)}, `MSG $1 body="b"`},
		{Frame{protocol.FrameMessage, string(message)}, `MSG $2`},
		{Frame{protocol.FrameMessage, "short"}, `MSG $3`},
		{Frame{protocol.FrameResponse, `{"a":1,"b":2}`}, `JSON {"a":1}`},
		{Frame{protocol.FrameResponse, `{"a":1}`}, `JSON {"a":2, ...}`},
		{Frame{protocol.FrameResponse, `{}`}, `JSON {"a":null, ...}`},
	} {
		if err := r.compare(row.got, row.want); err == nil {
			t.Errorf("%v passes as %s", row.got, row.want)
		}
	}
}

// A failingT notes a failure instead of failing.
type failingT struct {
	testing.TB
	failed bool
}

func (f *failingT) Errorf(string, ...any) { f.failed = true }

func TestNoLeaksSeesALeak(t *testing.T) {
	stop := make(chan struct{})
	noted := &failingT{TB: t}
	t.Cleanup(func() { // runs after the check
		close(stop)
		if !noted.failed {
			t.Error("the check did not see a goroutine that waits")
		}
	})
	noLeaks(noted, 20*time.Millisecond)
	go func() { <-stop }()
}

func TestPipe(t *testing.T) {
	t.Run("buffers, ends, refuses", func(t *testing.T) {
		a, b := Pipe()
		if _, err := io.WriteString(a, "hello"); err != nil {
			t.Fatal(err)
		}
		a.Close()
		got, err := io.ReadAll(b)
		if string(got) != "hello" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		if _, err := io.WriteString(b, "x"); !errors.Is(err, errPipeBroken) {
			t.Fatalf("write to a closed end: %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("read from own closed end: %v", err)
		}
	})
	t.Run("a full buffer waits for the reader", func(t *testing.T) {
		a, b := Pipe()
		const n = 3 * pipeBuffer
		wrote := make(chan error, 1)
		go func() {
			_, err := a.Write(make([]byte, n))
			wrote <- err
		}()
		if m, err := io.ReadFull(b, make([]byte, n)); err != nil {
			t.Fatalf("read %d of %d: %v", m, n, err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("deadlines", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, _ := Pipe()
			read := make(chan error)
			start := time.Now()
			go func() {
				_, err := a.Read(make([]byte, 1))
				read <- err
			}()
			synctest.Wait() // it reads without a deadline, and is given one
			if err := a.SetReadDeadline(start.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if err := a.SetReadDeadline(start.Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
				t.Fatalf("got %v after %v", err, time.Since(start))
			}
			if err := a.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			if err := a.SetWriteDeadline(start); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Write(make([]byte, pipeBuffer+1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
		})
	})
}

func TestNetwork(t *testing.T) {
	n := NewNetwork()
	go func() {
		server, err := n.Accept()
		if err != nil {
			return
		}
		io.WriteString(server, frame(protocol.FrameResponse, "OK"))
		server.Close()
	}()
	client, err := n.Dial()
	if err != nil {
		t.Fatal(err)
	}
	Wrap(t, client).ExpectOK().ExpectClosed()
	n.Close()
	if _, err := n.Dial(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("dial a closed network: %v", err)
	}
}
