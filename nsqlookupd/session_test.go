package nsqlookupd

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/secrets"
)

// A script is a connection that sends what it is made of and then ends. It
// keeps what it is told.
type script struct {
	net.Conn // nil: the rest is not used
	in       io.Reader
	out      bytes.Buffer
	writes   int
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { s.writes++; return s.out.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 5} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func testConfig() *peerConfig {
	config := &peerConfig{
		registry: testRegistry(), log: slog.New(slog.DiscardHandler), idleTimeout: 10 * time.Minute,
		identifyReply: []byte("{}"), admission: new(atomic.Pointer[admission]), turns: newTurns(), counts: new(counts),
	}
	config.admission.Store(new(admission))
	return config
}

const whoAmI = `{"broadcast_address":"h","http_port":2,"tcp_port":1,"version":"x"}`

func identifyCommand(body string) string {
	return string(protocol.AppendSized([]byte("IDENTIFY\n"), []byte(body)))
}

// TestRepliesAreGathered: a run of commands that arrives at once is answered by
// one write.
func TestRepliesAreGathered(t *testing.T) {
	s := &script{in: strings.NewReader("  V1" + identifyCommand(whoAmI) + strings.Repeat("REGISTER t c\n", 100))}
	newPeer(s, testConfig()).serve()
	if want := 1; s.writes != want {
		t.Errorf("%d writes, want %d", s.writes, want)
	}
	if want := 4 + 2 + 100*(4+2); s.out.Len() != want {
		t.Errorf("%d bytes, want %d", s.out.Len(), want)
	}
}

// TestDeadlines: the magic has half a minute, a session ends after the idle
// timeout without a command.
func TestDeadlines(t *testing.T) {
	for _, tt := range []struct {
		name string
		send []string // each a minute after the other
		want time.Duration
	}{
		{"nothing", nil, magicTimeout},
		{"half a magic", []string{"  V"}, magicTimeout},
		{"a magic", []string{"  V1"}, 10 * time.Minute},
		{"pings", []string{"  V1", "PING\n", "PING\n"}, 12 * time.Minute},
		{"half a command", []string{"  V1PI"}, 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, ours) }()
				go func() {
					for i, b := range tt.send {
						if i > 0 {
							time.Sleep(time.Minute) // of the bubble's clock
						}
						if _, err := io.WriteString(ours, b); err != nil {
							t.Error(err)
						}
					}
				}()
				began := time.Now()
				newPeer(theirs, testConfig()).serve()
				if got := time.Since(began); got != tt.want {
					t.Errorf("ended after %s, want %s", got, tt.want)
				}
				ours.Close()
			})
		})
	}
}

// TestPeerThatDoesNotRead must not hold its goroutine for ever.
func TestPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			// Ends when the server closes: nobody takes the reply to the first run.
			_, _ = io.WriteString(ours, "  V1PING\n")
			_, _ = io.WriteString(ours, "PING\n")
		}()
		began := time.Now()
		newPeer(theirs, testConfig()).serve()
		if got := time.Since(began); got != writeTimeout && got != 2*writeTimeout {
			t.Errorf("ended after %s, want %s", got, writeTimeout)
		}
		ours.Close()
	})
}

// TestPeersThatDoNotReadDelayNobody: those whose replies nobody takes do not keep
// others from their turn.
func TestPeersThatDoNotReadDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig()
		connect := func() net.Conn {
			ours, theirs := net.Pipe()
			go newPeer(theirs, config).serve()
			if _, err := io.WriteString(ours, "  V1PING\n"); err != nil {
				t.Error(err)
			}
			return ours
		}
		for range 2 * cap(config.turns) {
			defer connect().Close()
		}
		synctest.Wait()
		began := time.Now()
		last := connect()
		defer last.Close()
		if _, err := io.ReadFull(last, make([]byte, 6)); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the reply took %s", took)
		}
	})
}

// FuzzSession feeds anything to a connection, the magic included: it ends, answers
// in whole replies, and leaves no producer behind. Once with everything that can be
// asked for at a door, once with none of it.
func FuzzSession(f *testing.F) {
	const known = `{"broadcast_address":"h","http_port":2,"tcp_port":1,"version":"x","secret":"s"}`
	f.Add([]byte("  V1PING\n" + identifyCommand(known) + "REGISTER t c\nUNREGISTER t\nPING x\r\n"))
	f.Add([]byte("  V1IDENTIFY\n\xff\xff\xff\xff"))
	f.Add([]byte("  V1" + identifyCommand(known) + "REGISTER e#ephemeral c#ephemeral\nREGISTER  t\n"))
	f.Add([]byte("  V1" + identifyCommand(known) + "REGISTER a a\nREGISTER b b\nREGISTER c c\nREGISTER d\nUNREGISTER a a\nREGISTER b\n"))
	f.Add([]byte("  V1" + strings.Repeat("x", 20000)))
	f.Add([]byte("  V2"))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	door := &admission{
		tls:     &tls.Config{Certificates: []tls.Certificate{nsqtest.NewCA(f).Issue("nsqlookupd")}},
		secrets: secrets.Of("s"),
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, a := range []*admission{door, new(admission)} {
			config := testConfig()
			config.admission.Store(a)
			config.registry.maxKeys, config.registry.maxPerProducer = 6, 5
			s := &script{in: bytes.NewReader(in)}
			newPeer(s, config).serve()
			if a.tls == nil || !bytes.HasPrefix(in, []byte{0x16, 3}) { // else it is TLS
				checkReplies(t, s.out.Bytes())
			}
			if left := config.registry.entries(); len(left) > 0 {
				t.Fatalf("left in the registry: %v", left)
			}
			for _, topic := range config.registry.sortedTopics() {
				if !protocol.IsValidTopicName(topic.name) || protocol.IsEphemeral(topic.name) {
					t.Errorf("topic %q is left", topic.name)
				}
			}
		}
	})
}

func checkReplies(t *testing.T, out []byte) {
	t.Helper()
	for len(out) > 0 {
		if len(out) < 4 || len(out)-4 < int(binary.BigEndian.Uint32(out)) {
			t.Fatalf("cut reply %q", out)
		}
		reply := out[4 : 4+binary.BigEndian.Uint32(out)]
		out = out[4+len(reply):]
		if string(reply) == "OK" || string(reply) == "{}" || bytes.HasPrefix(reply, []byte(codeRegisterFailed)) {
			continue
		}
		if !bytes.HasPrefix(reply, []byte("E_")) {
			t.Fatalf("reply %q", reply)
		}
		if len(out) > 0 {
			t.Fatalf("%q is not the end, %q follows", reply, out)
		}
	}
}

// FuzzIdentify: what is accepted is complete and gives a valid object of
// /lookup.
func FuzzIdentify(f *testing.F) {
	f.Add([]byte(whoAmI))
	f.Add([]byte(`{"broadcast_address":"<\u0000\ud800\"","http_port":-2,"tcp_port":1e1,"version":"x","topology_zone":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		who, err := decodeIdentity(body)
		if err != nil {
			return
		}
		p := newProducer("1.2.3.4:5", who, 0)
		var object struct {
			RemoteAddress string `json:"remote_address"`
			identity
		}
		if err := json.Unmarshal(append(bytes.Clone(p.json), '}'), &object); err != nil {
			t.Fatalf("%s: %v", p.json, err)
		}
		if object.RemoteAddress != "1.2.3.4:5" || object.identity != who || who.BroadcastAddress == "" || who.Version == "" || who.TCPPort == 0 || who.HTTPPort == 0 {
			t.Errorf("%+v from %+v", object, who)
		}
	})
}

// A failingListener fails to accept, each time with the next of the errors.
type failingListener struct {
	net.Listener // nil: the rest is not used
	errs         []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func (l *failingListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestFailureToAccept: a lack of descriptors passes, anything else ends the server
// with the words that scripts know, unless it is our own doing.
func TestFailureToAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		busy := &net.OpError{Op: "accept", Err: syscall.EMFILE}
		began := time.Now()
		err := newTCPServer(&failingListener{errs: []error{busy, busy, busy, broken}}, 0, testConfig()).serve(t.Context())
		if !errors.Is(err, broken) || err.Error() != "listener.Accept() error - broken" {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 35*time.Millisecond {
			t.Errorf("three attempts in %s", took)
		}
		if err := newTCPServer(&failingListener{errs: []error{net.ErrClosed}}, 0, testConfig()).serve(t.Context()); err != nil {
			t.Errorf("after close: %v", err)
		}
	})
}

// BenchmarkSession is what one registration costs with everything around it.
func BenchmarkSession(b *testing.B) {
	const topics = 1000
	var run strings.Builder
	run.WriteString("  V1" + identifyCommand(whoAmI))
	for i := range topics {
		run.WriteString("REGISTER topic-" + strings.Repeat("x", i%10) + string(rune('a'+i%26)) + " c\n")
	}
	config := testConfig()
	for b.Loop() {
		newPeer(&script{in: strings.NewReader(run.String())}, config).serve()
	}
	b.ReportMetric(float64(b.N)*topics/b.Elapsed().Seconds(), "registrations/s")
}

func BenchmarkLookup(b *testing.B) { benchmarkRequest(b, "/lookup?topic=topic-00007", 200, 1000) }
func BenchmarkNodes(b *testing.B)  { benchmarkRequest(b, "/nodes", 100, 500) }
func BenchmarkTopics(b *testing.B) { benchmarkRequest(b, "/topics", 10, 1000) }

func benchmarkRequest(b *testing.B, path string, producers, topics int) {
	r := testRegistry()
	fill(b, r, producers, topics)
	api := newHTTPAPI(r, NewOptions(), new(httpapi.Guard), slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	w := &discard{header: http.Header{}}
	for b.Loop() {
		api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

// discard is a ResponseWriter that keeps only the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
