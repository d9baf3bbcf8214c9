package nsq

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// scriptedNSQD notes the exact commands of one consumer and delivers given
// messages, the next one when the last is answered and RDY allows. It answers
// IDENTIFY and SUB with a plain OK, before they come if it is eager, and
// answers nothing else. Attempts are 0, so the automatic requeue delay is 0.
type scriptedNSQD struct {
	t        testing.TB
	eager    bool
	messages []string // bodies
	listener *nsqtest.Network
	done     chan struct{}

	mu       sync.Mutex // guards all below
	commands []string
	times    []time.Time // of the commands
	rdy      int         // messages that may still be sent
	sent     int
	pending  bool // a message is not answered
	socket   net.Conn
}

func startScripted(b *bubble, eager bool, messages ...string) *scriptedNSQD {
	b.Helper()
	listener := nsqtest.NewNetwork()
	s := &scriptedNSQD{t: b, eager: eager, messages: messages, listener: listener, done: make(chan struct{})}
	b.listen(scriptedAddr, listener)
	go s.serve()
	b.Cleanup(s.close)
	return s
}

// scriptedAddr is where a scripted server is.
const scriptedAddr = "scripted:4150"

// close goes away, connection and all.
func (s *scriptedNSQD) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	if s.socket != nil {
		_ = s.socket.Close()
	}
	s.mu.Unlock()
	<-s.done
}

func (s *scriptedNSQD) serve() {
	defer close(s.done)
	socket, err := s.listener.Accept()
	if err != nil {
		return
	}
	defer socket.Close()
	s.mu.Lock()
	s.socket = socket
	s.mu.Unlock()

	in := bufio.NewReader(socket)
	if _, err := in.Discard(len(MagicV2)); err != nil {
		return
	}
	if s.eager {
		s.respond("OK")
		s.respond("OK")
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		s.command(strings.TrimSuffix(line, "\n"), in)
	}
}

func (s *scriptedNSQD) respond(data string) {
	_, _ = s.socket.Write(protocol.AppendFrame(nil, protocol.FrameResponse, []byte(data)))
}

func (s *scriptedNSQD) command(line string, in *bufio.Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands, s.times = append(s.commands, line), append(s.times, time.Now())
	name, param, _ := strings.Cut(line, " ")
	switch name {
	case "IDENTIFY":
		if _, err := protocol.ReadSized(in, 0); err != nil {
			s.t.Errorf("IDENTIFY body: %s", err)
		}
		if !s.eager {
			s.respond("OK")
		}
	case "SUB":
		if !s.eager {
			s.respond("OK")
		}
	case "RDY":
		s.rdy, _ = strconv.Atoi(param)
	case "FIN", "REQ":
		s.pending = false
	case "CLS":
		s.respond("CLOSE_WAIT")
	}
	s.deliverLocked()
}

func (s *scriptedNSQD) deliverLocked() {
	if s.rdy == 0 || s.pending || s.sent == len(s.messages) {
		return
	}
	id := protocol.MessageID([]byte(scriptedID(s.sent)))
	_, _ = s.socket.Write(protocol.AppendMessageFrame(nil, time.Now().UnixNano(), 0, id, []byte(s.messages[s.sent])))
	s.sent++
	s.rdy--
	s.pending = true
}

// scriptedID is the id of the i-th message.
func scriptedID(i int) string { return fmt.Sprintf("%016d", i) }

// got returns the commands noted, with the index of the message for its id.
func (s *scriptedNSQD) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := slices.Clone(s.commands)
	for i, command := range got {
		for m := range s.messages {
			command = strings.ReplaceAll(command, scriptedID(m), strconv.Itoa(m))
		}
		got[i] = command
	}
	return got
}

// expect waits for exactly these commands.
func (s *scriptedNSQD) expect(want ...string) {
	s.t.Helper()
	waitFor(s.t, strings.Join(want, ", "), func() bool {
		got := s.got()
		if !slices.Equal(got, want[:min(len(got), len(want))]) {
			s.t.Fatalf("got  %q\nwant %q", got, want)
		}
		return len(got) == len(want)
	})
}

// scriptedHandler answers as the body of the message says.
func scriptedHandler(m *Message) error {
	switch string(m.Body) {
	case "bad":
		return errors.New("bad")
	case "requeue":
		m.Requeue(-1)
	case "requeue_no_backoff":
		m.RequeueWithoutBackoff(-1)
	}
	return nil
}

// newScriptedConsumer returns a consumer whose backoff pauses begin with 20 ms.
// nsqd is not polled for, nor RDY redistributed, at the same moments.
func newScriptedConsumer(b *bubble, configure func(*Config)) *Consumer {
	b.Helper()
	config := b.config()
	config.MaxInFlight = 5
	config.BackoffMultiplier = 10 * time.Millisecond
	config.LookupdPollInterval = 10 * time.Millisecond
	config.RDYRedistributeInterval = 7 * time.Millisecond
	if configure != nil {
		configure(config)
	}
	r := b.consumer("test", config)
	r.AddHandler(HandlerFunc(scriptedHandler))
	if err := r.ConnectToNSQD(scriptedAddr); err != nil {
		b.Fatal(err)
	}
	return r
}

// eachTiming runs f with a server that waits for IDENTIFY and SUB, and with one
// that answers before they come.
func eachTiming(t *testing.T, f func(b *bubble, eager bool)) {
	for _, eager := range []bool{false, true} {
		t.Run(fmt.Sprintf("eager=%t", eager), func(t *testing.T) {
			inBubble(t, func(b *bubble) { f(b, eager) })
		})
	}
}

// pauses returns how long it took from each "RDY 0" to the command behind its
// answer.
func (s *scriptedNSQD) pauses() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pauses []time.Duration
	for i, command := range s.commands {
		if command == "RDY 0" && i+2 < len(s.commands) {
			pauses = append(pauses, s.times[i+2].Sub(s.times[i]))
		}
	}
	return pauses
}

func TestConsumerBackoff(t *testing.T) {
	eachTiming(t, func(b *bubble, eager bool) {
		s := startScripted(b, eager, "good", "good", "good", "bad", "bad", "good", "good")
		newScriptedConsumer(b, nil)
		s.expect("IDENTIFY", "SUB test ch", "RDY 5", "FIN 0", "FIN 1", "FIN 2",
			"RDY 0", "REQ 3 0", "RDY 1", "RDY 0", "REQ 4 0", "RDY 1", "RDY 0", "FIN 5", "RDY 1", "RDY 5", "FIN 6")
		want := []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 20 * time.Millisecond}
		if got := s.pauses(); !slices.Equal(got, want) {
			b.Errorf("paused for %s, want %s", got, want)
		}
	})
}

func TestConsumerRequeueNoBackoff(t *testing.T) {
	eachTiming(t, func(b *bubble, eager bool) {
		s := startScripted(b, eager, "requeue", "requeue_no_backoff", "good")
		newScriptedConsumer(b, func(config *Config) { config.MaxInFlight = 1 })
		s.expect("IDENTIFY", "SUB test ch", "RDY 1",
			"RDY 0", "REQ 0 0", "RDY 1", "RDY 0", "REQ 1 0", "RDY 1", "FIN 2")
	})
}

func TestConsumerBackoffDisconnect(t *testing.T) {
	eachTiming(t, func(b *bubble, eager bool) {
		s := startScripted(b, eager, "good", "requeue", "requeue", "good")
		newScriptedConsumer(b, nil)
		s.expect("IDENTIFY", "SUB test ch", "RDY 5", "FIN 0", "RDY 0", "REQ 1 0", "RDY 1",
			"RDY 0", "REQ 2 0", "RDY 1", "RDY 0", "FIN 3", "RDY 1")
		s.close()

		s = startScripted(b, eager, "good", "good")
		s.expect("IDENTIFY", "SUB test ch", "RDY 1", "RDY 5", "FIN 0", "FIN 1")
	})
}

func TestConsumerPause(t *testing.T) {
	eachTiming(t, func(b *bubble, eager bool) {
		s := startScripted(b, eager, "good", "good")
		r := newScriptedConsumer(b, nil)
		s.expect("IDENTIFY", "SUB test ch", "RDY 5", "FIN 0", "FIN 1")
		r.ChangeMaxInFlight(0)
		s.expect("IDENTIFY", "SUB test ch", "RDY 5", "FIN 0", "FIN 1", "RDY 0")
		r.ChangeMaxInFlight(5)
		s.expect("IDENTIFY", "SUB test ch", "RDY 5", "FIN 0", "FIN 1", "RDY 0", "RDY 5")
	})
}

// TestConnHandshakeBytes compares the first bytes of a connection.
func TestConnHandshakeBytes(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	config := NewConfig()
	config.HeartbeatInterval, config.OutputBufferTimeout = -1, -time.Millisecond
	config.MsgTimeout = 90 * time.Second
	config.ClientID, config.Hostname, config.UserAgent = "id", "host", "agent"
	config.TopologyZone = "z1"
	c := NewConn("pipe", config, nil)
	socket := &timedConn{Conn: client, readTimeout: time.Second, writeTimeout: time.Second}
	c.conn = socket
	c.setStream(stream{Reader: socket, Writer: socket})
	defer c.Close()

	failed := make(chan error, 1)
	go func() {
		if err := c.writeMagic(); err != nil {
			failed <- err
			return
		}
		_, err := c.identify()
		failed <- err
	}()
	const body = `{"client_id":"id","deflate":false,"deflate_level":6,"feature_negotiation":true,"heartbeat_interval":-1,` +
		`"hostname":"host","long_id":"host","msg_timeout":90000,"output_buffer_size":16384,"output_buffer_timeout":-1,` +
		`"sample_rate":0,"short_id":"id","snappy":false,"tls_v1":false,"topology_region":"","topology_zone":"z1",` +
		`"user_agent":"agent"}`
	want := binary.BigEndian.AppendUint32([]byte("  V2IDENTIFY\n"), uint32(len(body)))
	want = append(want, body...)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(server, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	if _, err := server.Write(protocol.AppendFrame(nil, protocol.FrameResponse, nil)); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "result", failed); err != (ErrIdentify{"empty response"}) {
		t.Fatalf("an empty answer gives %v", err)
	}
}
