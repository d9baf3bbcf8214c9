package nsq

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
)

// connectionKinds are the layers a connection can have.
func connectionKinds(t *testing.T, certs testCerts) map[string]func(*Config) {
	insecure := func(config *Config) {
		config.TlsV1, config.TlsConfig = true, &tls.Config{InsecureSkipVerify: true}
	}
	return map[string]func(*Config){
		"plain":       func(*Config) {},
		"TLS":         insecure,
		"Deflate":     func(config *Config) { config.Deflate = true },
		"Snappy":      func(config *Config) { config.Snappy = true },
		"TLS Deflate": func(config *Config) { insecure(config); config.Deflate = true },
		"TLS Snappy":  func(config *Config) { insecure(config); config.Snappy = true },
		"TLS client certificate": func(config *Config) {
			insecure(config)
			config.TlsConfig.Certificates = []tls.Certificate{certs.pair}
		},
		"TLS by Set": func(config *Config) {
			for _, option := range []struct {
				name  string
				value interface{}
			}{
				{"tls_v1", true},
				{"tls-root-ca-file", certs.caFile},
				{"tls-cert", certs.certFile},
				{"tls-key", certs.keyFile},
				{"tls-min-version", "tls1.2"},
			} {
				if err := config.Set(option.name, option.value); err != nil {
					t.Errorf("%s: %s", option.name, err)
				}
			}
		},
	}
}

// startTLSNSQD starts an nsqd with TLS that verifies the client certificates it
// gets.
func startTLSNSQD(t testing.TB, certs testCerts) *daemon.Daemon {
	t.Helper()
	return daemon.Start(t, daemon.Flags(t, "--tls-cert="+certs.certFile, "--tls-key="+certs.keyFile,
		"--tls-root-ca-file="+certs.caFile))
}

// TestConsumer runs the same story over every kind of connection.
func TestConsumer(t *testing.T) {
	certs := newTestCerts(t)
	for name, configure := range connectionKinds(t, certs) {
		t.Run(name, func(t *testing.T) {
			nsqd := startTLSNSQD(t, certs)
			consumerStory(t, nsqd.TCPAddr, nsqd.HTTPAddr, configure)
		})
	}
}

// TestProducerOverEveryKind publishes small and large messages over every kind
// of connection and reads them back over the same kind.
func TestProducerOverEveryKind(t *testing.T) {
	certs := newTestCerts(t)
	nsqd := startTLSNSQD(t, certs)
	for name, configure := range connectionKinds(t, certs) {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			configure(config)
			config.MaxInFlight = 50
			topic := strings.ReplaceAll(name, " ", "_")
			w := newTestProducer(t, nsqd.TCPAddr, config)
			want := make(map[string]int)
			done := make(chan *ProducerTransaction, 100)
			for i := range 100 {
				body := bytes.Repeat([]byte{byte(i), byte(i / 3)}, 1+i*i*2) // up to 40 KB
				want[string(body)]++
				if err := w.PublishAsync(topic, body, done); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				if out := receive(t, "transaction", done); out.Error != nil {
					t.Fatal(out.Error)
				}
			}
			r := newTestConsumer(t, topic, config)
			bodies := make(chan []byte, 100)
			r.AddConcurrentHandlers(HandlerFunc(func(m *Message) error { bodies <- m.Body; return nil }), 3)
			if err := r.ConnectToNSQD(nsqd.TCPAddr); err != nil {
				t.Fatal(err)
			}
			for range 100 {
				want[string(receive(t, "message", bodies))]--
			}
			for body, n := range want {
				if n != 0 {
					t.Errorf("%d missing of a message of %d bytes", n, len(body))
				}
			}
		})
	}
}

func consumerStory(t *testing.T, addr, httpAddr string, configure func(*Config)) {
	config := testConfig()
	config.LocalAddr, _ = net.ResolveTCPAddr("tcp", "127.0.0.1:0")
	configure(config)
	const topic = "rdr_test"
	r := newTestConsumer(t, topic, config)
	h := &storyHandler{consumer: r}
	r.AddHandler(h)

	post(t, httpAddr, "pub?topic="+topic, `{"msg":"single"}`)
	post(t, httpAddr, "mpub?topic="+topic, "{\"msg\":\"double\"}\n{\"msg\":\"double\"}")
	post(t, httpAddr, "pub?topic="+topic, "TOBEFAILED")

	if err := r.ConnectToNSQD(addr); err != nil {
		t.Fatal(err)
	}
	if err := r.ConnectToNSQD(addr); err == nil {
		t.Fatal("should not be able to connect to the same NSQ twice")
	}
	if conns := r.conns(); len(conns) == 1 && !strings.HasPrefix(conns[0].conn.LocalAddr().String(), "127.0.0.1") {
		t.Fatalf("local address is %s", conns[0].conn.LocalAddr())
	}
	if err := r.DisconnectFromNSQD("1.2.3.4:4150"); err != ErrNotConnected {
		t.Fatalf("disconnecting from an unknown nsqd gives %v", err)
	}
	unreachable := closedPort(t)
	if err := r.ConnectToNSQD(unreachable); err == nil {
		t.Fatal("should not be able to connect to a closed port")
	}
	if err := r.DisconnectFromNSQD(unreachable); err != nil {
		t.Fatalf("should be able to disconnect from an nsqd - %s", err)
	}

	receive(t, "StopChan", r.StopChan)
	stats := r.Stats()
	if stats.Connections != 0 {
		t.Fatalf("stats report %d connections (should be 0)", stats.Connections)
	}
	if h.calls != 8 || h.failed != 1 || stats.MessagesReceived != 9 {
		t.Fatalf("%d calls, %d failed, %d received, want 8, 1, 9", h.calls, h.failed, stats.MessagesReceived)
	}
}

// storyHandler fails one message and stops its consumer when that is given up.
type storyHandler struct {
	consumer *Consumer
	calls    int
	failed   int
}

func (h *storyHandler) LogFailedMessage(*Message) {
	h.failed++
	h.consumer.Stop()
}

func (h *storyHandler) HandleMessage(m *Message) error {
	h.calls++
	if string(m.Body) == "TOBEFAILED" {
		return fmt.Errorf("fail this message")
	}
	return nil
}

func post(t testing.TB, addr, path, body string) {
	t.Helper()
	resp, err := http.Post("http://"+addr+"/"+path, "application/octet-stream", bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s, %v", path, resp.Status, err)
	}
}

// closedPort returns an address at which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestConsumerRejectsBadNames(t *testing.T) {
	for _, test := range []struct{ topic, channel, want string }{
		{"a b", "ch", "invalid topic name"},
		{"t", "", "invalid channel name"},
	} {
		if _, err := NewConsumer(test.topic, test.channel, NewConfig()); err == nil || err.Error() != test.want {
			t.Errorf("%q %q: got %v, want %s", test.topic, test.channel, err, test.want)
		}
	}
}

func TestConsumerMisuse(t *testing.T) {
	r := newTestConsumer(t, "t", NewConfig())
	if err := r.ConnectToNSQD("127.0.0.1:1"); err != errNoHandlers {
		t.Errorf("without handlers: %v", err)
	}
	mustPanic(t, "behavior delegate does not have any recognized methods", func() { r.SetBehaviorDelegate(1) })
	r.AddHandler(HandlerFunc(scriptedHandler))
	if err := r.ConnectToNSQD(closedPort(t)); err == nil {
		t.Error("connected to a closed port")
	}
	mustPanic(t, "already connected", func() { r.AddHandler(HandlerFunc(scriptedHandler)) })
	r.Stop()
	if err := r.ConnectToNSQD("127.0.0.1:1"); err == nil || err.Error() != "consumer stopped" {
		t.Errorf("after Stop: %v", err)
	}
	if err := r.ConnectToNSQLookupd("127.0.0.1:1"); err == nil || err.Error() != "consumer stopped" {
		t.Errorf("after Stop: %v", err)
	}
}

func mustPanic(t testing.TB, want string, f func()) {
	t.Helper()
	defer func() {
		if got := recover(); got != want {
			t.Errorf("panicked with %v, want %s", got, want)
		}
	}()
	f()
}

// TestConsumerStopWithoutHandlers is why StopChan does not depend on handlers.
func TestConsumerStopWithoutHandlers(t *testing.T) {
	r := newTestConsumer(t, "t", NewConfig())
	r.Stop()
	r.Stop()
	receive(t, "StopChan", r.StopChan)
}

// TestConsumerHeartbeats: handlers that are all busy, with messages waiting,
// and a Stop meanwhile, do not keep heartbeats from being answered; what waits
// is still handled.
func TestConsumerHeartbeats(t *testing.T) {
	s := startServer(t, nil)
	config := testConfig()
	config.HeartbeatInterval = time.Second
	config.MaxInFlight = 10
	r := newTestConsumer(t, "busy", config)
	release := make(chan struct{})
	var handled atomic.Int32
	r.AddHandler(HandlerFunc(func(*Message) error {
		<-release
		handled.Add(1)
		return nil
	}))
	s.publish("busy", testBodies(5)...)
	if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "messages", func() bool { return r.Stats().MessagesReceived == 5 })
	if !r.IsStarved() {
		r.ChangeMaxInFlight(5)
	}
	if !r.IsStarved() {
		t.Error("not starved with all of RDY in flight")
	}
	waitFor(t, "NOP", func() bool { return s.nops() == 1 })
	r.Stop()
	waitFor(t, "NOP after Stop", func() bool { return s.nops() == 2 })
	close(release)
	receive(t, "StopChan", r.StopChan)
	if n := handled.Load(); n != 5 {
		t.Errorf("handled %d of 5", n)
	}
	waitFor(t, "end of the connection", func() bool { return s.connections() == 0 })
	if n := s.backlog("busy"); n != 0 {
		t.Errorf("%d messages were not finished", n)
	}
}

// TestConsumerLosesConnection: a message that is never answered does not keep
// the consumer from connecting again.
func TestConsumerLosesConnection(t *testing.T) {
	s := startServer(t, nil)
	config := testConfig()
	config.LookupdPollInterval = 10 * time.Millisecond
	r := newTestConsumer(t, "lost", config)
	messages := make(chan *Message, 10)
	r.AddHandler(HandlerFunc(func(m *Message) error {
		m.DisableAutoResponse()
		messages <- m
		return nil
	}))
	s.publish("lost", testBodies(1)...)
	if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
		t.Fatal(err)
	}
	first := receive(t, "message", messages)
	s.dropConnections()
	again := receive(t, "message on the next connection", messages)
	if again.Attempts != 2 || again.ID != first.ID {
		t.Errorf("got %+v after %+v", again, first)
	}
	first.Finish() // to nobody
	first.Touch()
	again.Touch()
	again.Finish()
	waitFor(t, "finish", func() bool { return r.Stats().MessagesFinished == 1 })
	if n := r.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestConsumerAbandonsMessage: Disconnect waits for answers no longer than nsqd.
func TestConsumerAbandonsMessage(t *testing.T) {
	s := startServer(t, nil)
	config := testConfig()
	config.MsgTimeout = 50 * time.Millisecond
	r := newTestConsumer(t, "abandoned", config)
	messages := make(chan *Message, 10)
	r.AddHandler(HandlerFunc(func(m *Message) error {
		m.DisableAutoResponse()
		messages <- m
		return nil
	}))
	s.publish("abandoned", testBodies(1)...)
	if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
		t.Fatal(err)
	}
	receive(t, "message", messages)
	if err := r.DisconnectFromNSQD(s.tcpAddr()); err != nil {
		t.Fatal(err)
	}
	if err := r.ConnectToNSQD(s.tcpAddr()); err != ErrAlreadyConnected {
		t.Errorf("with a message outstanding: %v", err)
	}
	waitFor(t, "end of the connection", func() bool { return r.Stats().Connections == 0 })
}

// TestConsumerStopsWhileConnecting: Stop does not wait for a handshake that
// does not end.
func TestConsumerStopsWhileConnecting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := newTestConsumer(t, "t", NewConfig())
	r.AddHandler(HandlerFunc(scriptedHandler))
	result := make(chan error, 1)
	go func() { result <- r.ConnectToNSQD(listener.Addr().String()) }()
	socket, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	r.Stop()
	receive(t, "StopChan", r.StopChan)
	if err := receive(t, "result", result); err != errConsumerStopped {
		t.Errorf("got %v", err)
	}
}

// TestConsumerSharesRDY checks the RDY of several connections as they come, go,
// and max in flight changes.
func TestConsumerSharesRDY(t *testing.T) {
	config := testConfig()
	config.MaxInFlight = 7
	r := newTestConsumer(t, "shares", config)
	r.AddHandler(HandlerFunc(scriptedHandler))
	servers := make([]*fakeNSQD, 4)
	want := [][]int64{{7}, {4, 3}, {3, 2, 2}, {2, 2, 2, 1}}
	for i := range servers {
		servers[i] = startServer(t, nil)
		if err := r.ConnectToNSQD(servers[i].tcpAddr()); err != nil {
			t.Fatal(err)
		}
		wantRDY(t, r, want[i])
	}
	r.ChangeMaxInFlight(4)
	wantRDY(t, r, []int64{1, 1, 1, 1})
	r.ChangeMaxInFlight(0)
	wantRDY(t, r, []int64{0, 0, 0, 0})
	r.ChangeMaxInFlight(9)
	wantRDY(t, r, []int64{3, 2, 2, 2})
	if err := r.DisconnectFromNSQD(servers[0].tcpAddr()); err != nil {
		t.Fatal(err)
	}
	wantRDY(t, r, []int64{3, 3, 3})
	r.ChangeMaxInFlight(2)
	waitFor(t, "sum of RDY 2", func() bool { return sumOfRDY(r) == 2 })
}

// wantRDY waits until the connections have these RDY counts, in any order.
func wantRDY(t testing.TB, r *Consumer, want []int64) {
	t.Helper()
	waitFor(t, fmt.Sprint("RDY ", want), func() bool {
		var got []int64
		for _, c := range r.conns() {
			got = append(got, c.RDY())
		}
		slices.Sort(got)
		slices.Reverse(got)
		return slices.Equal(got, want)
	})
}

func sumOfRDY(r *Consumer) int64 {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	sum := int64(0)
	for _, c := range r.conns() {
		sum += c.RDY()
	}
	return sum
}

// TestConsumerRedistributes: with less RDY than connections every nsqd gets its
// turn.
func TestConsumerRedistributes(t *testing.T) {
	config := testConfig()
	config.RDYRedistributeInterval = time.Millisecond
	config.LowRdyIdleTimeout = time.Second
	r := newTestConsumer(t, "turns", config)
	from := make(chan string, 10)
	r.AddHandler(HandlerFunc(func(m *Message) error {
		from <- m.NSQDAddress
		return nil
	}))
	missing := make(map[string]bool)
	for range 3 {
		s := startServer(t, nil)
		s.publish("turns", testBodies(1)...)
		if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
			t.Fatal(err)
		}
		missing[s.tcpAddr()] = true
	}
	for len(missing) > 0 {
		delete(missing, receive(t, "message from every nsqd", from))
	}
	if sum := sumOfRDY(r); sum > 1 {
		t.Errorf("sum of RDY is %d", sum)
	}
}

func TestConsumerAuth(t *testing.T) {
	s := startServer(t, func(s *fakeNSQD) { s.authSecret = "secret" })
	for _, test := range []struct{ secret, want string }{
		{"", "Auth Required"},
		{"wrong", "Error authenticating E_UNAUTHORIZED AUTH no authorizations found"},
		{"secret", ""},
	} {
		config := testConfig()
		config.AuthSecret = test.secret
		r := newTestConsumer(t, "auth", config)
		r.AddHandler(HandlerFunc(scriptedHandler))
		got := ""
		if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("secret %q: got %q, want %q", test.secret, got, test.want)
		}
	}
}

func TestConsumerTLSServerName(t *testing.T) {
	certs := newTestCerts(t)
	s := startTLSServer(t, certs)
	for name, fails := range map[string]bool{"": false, "example.org": true} {
		config := testConfig()
		config.TlsV1 = true
		config.TlsConfig = &tls.Config{RootCAs: certs.pool, ServerName: name}
		r := newTestConsumer(t, "tls", config)
		r.AddHandler(HandlerFunc(scriptedHandler))
		err := r.ConnectToNSQD(s.tcpAddr())
		if _, refused := err.(ErrIdentify); refused != fails {
			t.Errorf("server name %q: %v", name, err)
		}
	}
}

// TestConsumerConnectsToTheRest: an nsqd that is down does not keep the consumer
// from the others, and its error is returned.
func TestConsumerConnectsToTheRest(t *testing.T) {
	a, b := startServer(t, nil), startServer(t, nil)
	r := newTestConsumer(t, "rest", testConfig())
	r.AddHandler(HandlerFunc(scriptedHandler))
	err := r.ConnectToNSQDs([]string{a.tcpAddr(), closedPort(t), b.tcpAddr(), a.tcpAddr()})
	if _, ok := err.(*net.OpError); !ok {
		t.Errorf("got %v", err)
	}
	if n := r.Stats().Connections; n != 2 {
		t.Errorf("%d connections", n)
	}
	if err := r.ConnectToNSQD(a.tcpAddr()); err != ErrAlreadyConnected {
		t.Errorf("connecting twice gives %v", err)
	}
}

// TestConsumerStopUnderLoad: everything that was received is answered.
func TestConsumerStopUnderLoad(t *testing.T) {
	s := startServer(t, nil)
	config := testConfig()
	config.MaxInFlight = 100
	r := newTestConsumer(t, "load", config)
	started := make(chan struct{}, 1000)
	r.AddConcurrentHandlers(HandlerFunc(func(*Message) error {
		select {
		case started <- struct{}{}:
		default:
		}
		return nil
	}), 4)
	var bodies [][]byte
	for i := range 20000 {
		bodies = append(bodies, strconv.AppendInt(nil, int64(i), 10))
	}
	s.publish("load", bodies...)
	if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
		t.Fatal(err)
	}
	receive(t, "message", started)
	r.Stop()
	receive(t, "StopChan", r.StopChan)
	waitFor(t, "end of the connection", func() bool { return s.connections() == 0 })
	stats := r.Stats()
	if stats.MessagesFinished != stats.MessagesReceived {
		t.Errorf("finished %d of %d", stats.MessagesFinished, stats.MessagesReceived)
	}
	if left := s.backlog("load"); left+int(stats.MessagesFinished) != len(bodies) {
		t.Errorf("finished %d, left %d, of %d", stats.MessagesFinished, left, len(bodies))
	}
}
