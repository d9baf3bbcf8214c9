package nsqd_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	nsq "github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/nsqd"
)

// A transport is a way for frames to travel.
type transport struct {
	name                 string
	unix                 bool
	tls, snappy, deflate bool
}

// transports are all there are; what holds for one must hold for each.
var transports = []transport{
	{name: "tcp"},
	{name: "unix", unix: true},
	{name: "tls", tls: true},
	{name: "snappy", snappy: true},
	{name: "deflate", deflate: true},
	{name: "tls+snappy", tls: true, snappy: true},
	{name: "tls+deflate", tls: true, deflate: true},
}

// A site is a daemon that is reached over one transport.
type site struct {
	*daemon.Daemon
	transport
	t  *testing.T
	ca *nsqtest.CA
}

// start runs a daemon for the transport.
func (tr transport) start(t *testing.T, configure ...func(*nsqd.Options)) *site {
	t.Helper()
	s := &site{transport: tr, t: t}
	if tr.unix {
		path := filepath.Join(shortTempDir(t), "tcp.sock")
		configure = append(configure, func(o *nsqd.Options) { o.TCPAddress = path })
	}
	if tr.tls {
		s.ca = nsqtest.NewCA(t)
		configure = append(configure, withTLS(s.ca))
	}
	s.Daemon = daemon.Start(t, configure...)
	return s
}

// withTLS gives a daemon a certificate.
func withTLS(ca *nsqtest.CA) func(*nsqd.Options) {
	return func(o *nsqd.Options) { o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd") }
}

// shortTempDir is a directory whose path leaves room in the 104 bytes that the path
// of a Unix socket may have.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nsq")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover in the temporary directory harms nobody
	return dir
}

// identity is the body of IDENTIFY that asks for the transport's layers; more is
// further fields with a comma before each.
func (tr transport) identity(more string) string {
	return fmt.Sprintf(`{"feature_negotiation":true,"tls_v1":%t,"snappy":%t,"deflate":%t%s}`, tr.tls, tr.snappy, tr.deflate, more)
}

// dial connects with all layers. See identity for more.
func (s *site) dial(more string) *nsqtest.Conn {
	s.t.Helper()
	c := s.Dial()
	if !s.tls && !s.snappy && !s.deflate && more == "" {
		return c
	}
	c.CommandBody(s.identity(more), "IDENTIFY")
	var answer struct {
		TLS     bool `json:"tls_v1"`
		Snappy  bool `json:"snappy"`
		Deflate bool `json:"deflate"`
	}
	c.ExpectJSON(&answer)
	if answer.TLS != s.tls || answer.Snappy != s.snappy || answer.Deflate != s.deflate {
		s.t.Fatalf("asked for %s, got %+v", s.name, answer)
	}
	if s.tls {
		c.StartTLS(s.ca.Client())
	}
	if s.snappy {
		c.StartSnappy()
	}
	if s.deflate {
		c.StartDeflate()
	}
	return c
}

// overTransports runs test over each transport.
func overTransports(t *testing.T, test func(t *testing.T, tr transport)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			test(t, tr)
		})
	}
}

// The protocol is the same over all transports.
func TestTranscriptsOverTransports(t *testing.T) {
	overTransports(t, func(t *testing.T, tr transport) {
		if tr.name == "tcp" {
			t.Skip("TestTranscripts does that")
		}
		for _, name := range []string{"answer", "cls", "pub", "sub"} {
			cases, err := nsqtest.ReadTranscript("testdata/transcripts/" + name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cases {
				t.Run(name+"/"+c.Name, func(t *testing.T) {
					skipMissingFlags(t, c.Flags)
					s := tr.start(t, daemon.Flags(t, c.Flags...))
					c.ReplayOver(t, func() *nsqtest.Conn { return s.dial("").SkipMagic() }, s.HTTPAddr, nsqtest.Together)
				})
			}
		}
	})
}

// Bodies of all sizes arrive as they were sent, in both directions, whether they
// compress or not.
func TestBodiesOverTransports(t *testing.T) {
	overTransports(t, func(t *testing.T, tr transport) {
		s := tr.start(t)
		noise := make([]byte, 1<<20)
		random := rand.NewChaCha8([32]byte{1})
		_, _ = random.Read(noise) // it never fails
		text := bytes.Repeat([]byte("all work and no play "), 1<<20/21+1)
		consumer, producer := s.dial("").Sub("sizes", "ch").Rdy(1), s.dial("")
		for _, n := range []int{1, 10, 16 << 10, 16<<10 + 1, 65535, 65536, 65537, 128000, 1 << 20} {
			for _, data := range [][]byte{noise, text} {
				body := string(data[:n])
				producer.Pub("sizes", body)
				m := consumer.ReadMessage()
				if m.Body != body {
					t.Fatalf("a body of %d bytes came as one of %d, or as another", n, len(m.Body))
				}
				consumer.Fin(m.ID)
			}
		}
	})
}

// A client that writes without waiting gets one answer per command and every
// message once, with output_buffer_size at its limits.
func TestPipelineOverTransports(t *testing.T) {
	const count = 5000
	overTransports(t, func(t *testing.T, tr transport) {
		s := tr.start(t)
		consumer := s.dial(`,"output_buffer_size":65536`).Sub("many", "ch").Rdy(2500)
		producer := s.dial("")
		sent := make(chan struct{})
		go func() { // ends with the last command, or fails the test with the connection
			defer close(sent)
			var commands []byte
			for i := range count {
				commands = append(protocol.AppendCommand(commands, "PUB", "many"), 0, 0, 0, 4)
				commands = binary.BigEndian.AppendUint32(commands, uint32(i))
				if len(commands) > 10000 || i == count-1 {
					producer.Send(string(commands))
					commands = commands[:0]
				}
			}
		}()
		for range count {
			producer.ExpectOK()
		}
		<-sent
		seen := make([]bool, count)
		for range count {
			m := consumer.ReadMessage()
			i := binary.BigEndian.Uint32([]byte(m.Body))
			if seen[i] {
				t.Fatalf("message %d came twice", i)
			}
			seen[i] = true
			consumer.Fin(m.ID)
		}
		consumer.Cls()
	})
}

// Bytes that a client sends with its IDENTIFY, before it has read the answer, are
// the beginning of the first layer.
func TestReadAheadSurvivesUpgrade(t *testing.T) {
	for _, tr := range transports {
		if !tr.tls && !tr.snappy && !tr.deflate {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			s := tr.start(t)
			raw := nsqtest.DialSilent(t, s.TCPAddr)
			head := nsqtest.MagicV2 + "IDENTIFY\n" + string(protocol.AppendSized(nil, []byte(tr.identity(""))))
			// What is written first goes out with head before it, and what is read
			// first is the answer to IDENTIFY.
			e := &eager{head: head}
			raw.Layer(e.wrap)
			if tr.tls {
				raw.StartTLS(s.ca.Client())
			}
			const pub = "PUB t\n\x00\x00\x00\x05early"
			switch {
			case tr.snappy:
				raw.Layer(nsqtest.Snappy).Send(pub).ExpectOK()
			case tr.deflate:
				raw.Layer(nsqtest.Deflate).Send(pub).ExpectOK()
			default:
				raw.Send(pub)
			}
			raw.ExpectOK()
			nsqtest.Equal(t, s.dial("").Sub("t", "ch").Rdy(1).ReadMessage().Body, "early")
		})
	}
}

// eager is a layer that sends head and the first write at once.
type eager struct {
	net.Conn
	head     string
	answered bool
}

func (e *eager) wrap(conn net.Conn) io.ReadWriter {
	e.Conn = conn
	return e
}

func (e *eager) Write(p []byte) (int, error) {
	n := len(e.head)
	m, err := e.Conn.Write(append([]byte(e.head), p...))
	e.head = ""
	return m - n, err
}

func (e *eager) Read(p []byte) (int, error) {
	if !e.answered {
		e.answered = true
		if _, err := protocol.ReadSized(e.Conn, 0); err != nil {
			return 0, err
		}
	}
	return e.Conn.Read(p)
}

// IDENTIFY may be repeated. On a connection with layers it is answered through
// them, changes no layer that is there, and stacks none on its like.
func TestRepeatedIdentifyKeepsLayers(t *testing.T) {
	const again = `{"feature_negotiation":true,"tls_v1":true,"output_buffer_size":1024,%s}`
	var answer struct {
		TLS        bool `json:"tls_v1"`
		Snappy     bool `json:"snappy"`
		Deflate    bool `json:"deflate"`
		BufferSize int  `json:"output_buffer_size"`
	}
	for _, tr := range transports {
		if !tr.snappy && !tr.deflate {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			s := tr.start(t)
			for _, compression := range []string{`"snappy":true`, `"deflate":true`} {
				c := s.dial("")
				c.CommandBody(fmt.Sprintf(again, compression), "IDENTIFY").ExpectJSON(&answer)
				if answer.TLS || answer.Snappy || answer.Deflate || answer.BufferSize != 1024 {
					t.Errorf("%s again: got %+v", compression, answer)
				}
				c.Pub("t", "a")
				c.Sub("t", "ch"+compression[1:4]).Rdy(1)
			}
		})
	}
	t.Run("compression after TLS", func(t *testing.T) {
		s := transport{name: "tls", tls: true}.start(t)
		c := s.dial("")
		c.CommandBody(fmt.Sprintf(again, `"snappy":true`), "IDENTIFY").ExpectJSON(&answer)
		if answer.TLS || !answer.Snappy {
			t.Fatalf("got %+v", answer)
		}
		c.StartSnappy().Pub("t", "a")
	})
}

// Without feature_negotiation nothing is switched on.
func TestNoUpgradeWithoutNegotiation(t *testing.T) {
	s := transport{name: "tls", tls: true}.start(t)
	c := s.Dial()
	c.CommandBody(`{"tls_v1":true,"snappy":true,"deflate":true}`, "IDENTIFY").ExpectOK().Pub("t", "a")
}

// What the client library can do, it can do over all layers.
func TestGoNSQOverTransports(t *testing.T) {
	const count = 300
	overTransports(t, func(t *testing.T, tr transport) {
		if tr.unix {
			t.Skip("the client library speaks TCP")
		}
		s := tr.start(t)
		config := nsq.NewConfig()
		config.TlsV1, config.Snappy, config.Deflate = tr.tls, tr.snappy, tr.deflate
		if tr.tls {
			config.TlsConfig = s.ca.Client()
		}
		config.MaxInFlight = 50
		producer, err := nsq.NewProducer(s.TCPAddr, config)
		if err != nil {
			t.Fatal(err)
		}
		producer.SetLogger(nil, nsq.LogLevelError)
		defer producer.Stop()
		consumer, err := nsq.NewConsumer("t", "ch", config)
		if err != nil {
			t.Fatal(err)
		}
		consumer.SetLogger(nil, nsq.LogLevelError)
		bodies := make(chan string, count)
		consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
			bodies <- string(m.Body)
			return nil
		}))
		if err := consumer.ConnectToNSQD(s.TCPAddr); err != nil {
			t.Fatal(err)
		}
		defer func() {
			consumer.Stop()
			<-consumer.StopChan
		}()
		want := make([]string, count)
		for i := range want {
			want[i] = strings.Repeat(fmt.Sprintf("%06d ", i), 1+i*7)
			if err := producer.Publish("t", []byte(want[i])); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]string, count)
		for i := range got {
			got[i] = <-bodies
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Error("messages got lost or changed")
		}
	})
}

// The last words of nsqd reach a client that is still sending, over all transports.
func TestErrorReachesBusyClient(t *testing.T) {
	overTransports(t, func(t *testing.T, tr transport) {
		s := tr.start(t)
		c := s.dial("")
		c.Send("PUB t\n\x7f\xff\xff\xff" + strings.Repeat("x", 60000))
		c.ExpectError(fmt.Sprintf("E_BAD_MESSAGE PUB message too big %d > %d", 0x7fffffff, 1<<20)).ExpectClosed()
	})
}

// A clean stop sends what waits in output buffers before it closes the connection.
func TestStopFlushesOutput(t *testing.T) {
	overTransports(t, func(t *testing.T, tr transport) {
		s := tr.start(t)
		c := s.dial(`,"output_buffer_timeout":30000`).Sub("t", "ch").Rdy(100)
		s.dial("").Pub("t", "waiting")
		await(t, "the message is in the buffer", func() bool {
			return strings.Contains(s.get("/stats?format=json"), `"in_flight_count":1`)
		})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			s.Stop()
		}()
		nsqtest.Equal(t, c.ReadMessage().Body, "waiting")
		c.ExpectClosed()
		<-stopped
	})
}

// A client that takes nothing does not delay a clean stop beyond a moment.
func TestStopDoesNotWaitForDeafClient(t *testing.T) {
	overTransports(t, func(t *testing.T, tr transport) {
		s := tr.start(t)
		noise := make([]byte, 1<<20)
		random := rand.NewChaCha8([32]byte{2})
		_, _ = random.Read(noise) // it never fails
		producer := s.Dial()      // without layers, which would only take time
		for range 10 {            // more than the socket takes
			producer.Pub("t", string(noise))
		}
		s.dial("").Sub("t", "ch").Rdy(100)
		await(t, "delivery begins", func() bool {
			return !strings.Contains(s.get("/stats?format=json"), `"in_flight_count":0,"deferred_count"`)
		})
		start := time.Now()
		s.Stop()
		if took := time.Since(start); took > 20*time.Second { // it would take 30 to give up writing to it
			t.Errorf("the stop took %v", took)
		}
	})
}

// await waits until condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); !condition(); <-ticks.C {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// recorder keeps the last bytes that came.
type recorder struct {
	net.Conn
	got []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.got = append(r.got, p[:n]...)
	return n, err
}

// However a TLS connection ends, nsqd says so in TLS: otherwise a client cannot
// tell the end from a cut.
func TestCloseNotify(t *testing.T) {
	for name, end := range map[string]func(s *site, c *nsqtest.Conn){
		"client leaves":   func(_ *site, c *nsqtest.Conn) { c.CloseWrite() },
		"error":           func(_ *site, c *nsqtest.Conn) { c.Send("FOO\n").ExpectError("E_INVALID invalid command FOO") },
		"channel deleted": func(s *site, _ *nsqtest.Conn) { s.post("/channel/delete?topic=t&channel=ch") },
		"stop":            func(s *site, _ *nsqtest.Conn) { s.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := transport{name: "tls", tls: true}.start(t)
			socket, err := net.Dial("tcp", s.TCPAddr)
			if err != nil {
				t.Fatal(err)
			}
			recorded := &recorder{Conn: socket}
			config := s.ca.Client()
			config.MaxVersion = tls.VersionTLS12 // where an alert can be told from the outside
			c := nsqtest.Wrap(t, struct {
				net.Conn
				halfCloser
			}{recorded, socket.(halfCloser)}).Send(nsqtest.MagicV2)
			c.CommandBody(s.identity(""), "IDENTIFY").ExpectJSON(new(any))
			c.StartTLS(config).Sub("t", "ch")
			recorded.got = nil
			end(s, c)
			c.ExpectClosed()
			if i := bytes.LastIndex(recorded.got, []byte{21, 3, 3}); i < 0 {
				t.Error("closed without an alert")
			}
		})
	}
}

type halfCloser interface{ CloseWrite() error }
