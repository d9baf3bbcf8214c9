package nsq

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// TestProducerRejectsLocally: what nsqd would certainly refuse costs neither
// the connection nor its other publishes.
func TestProducerRejectsLocally(t *testing.T) {
	s := startServer(t, nil)
	w := newTestProducer(t, s.tcpAddr(), testConfig())
	body := []byte("x")
	for want, publish := range map[string]func() error{
		`E_BAD_TOPIC PUB topic name "x*y" is not valid`:     func() error { return w.Publish("x*y", body) },
		`E_BAD_TOPIC PUB topic name "a\nb" is not valid`:    func() error { return w.Publish("a\nb", body) },
		`E_BAD_TOPIC DPUB topic name "a b" is not valid`:    func() error { return w.DeferredPublish("a b", 0, body) },
		`E_BAD_MESSAGE PUB invalid message body size 0`:     func() error { return w.Publish("t", nil) },
		`E_BAD_MESSAGE DPUB invalid message body size 0`:    func() error { return w.DeferredPublish("t", 0, []byte{}) },
		`E_INVALID DPUB could not parse timeout -1`:         func() error { return w.DeferredPublish("t", -time.Millisecond, body) },
		`E_BAD_BODY MPUB invalid message count 0`:           func() error { return w.MultiPublish("t", nil) },
		`E_BAD_MESSAGE MPUB invalid message(1) body size 0`: func() error { return w.MultiPublish("t", [][]byte{body, nil}) },
		`E_BAD_TOPIC E_BAD_TOPIC MPUB topic name "" is not valid`: func() error {
			return w.MultiPublish("", [][]byte{body})
		},
	} {
		if err := publish(); err != (ErrProtocol{want}) {
			t.Errorf("got %v, want %s", err, want)
		}
	}

	// Asynchronously they are told in their turn.
	done := make(chan *ProducerTransaction, 1000)
	for i := range 1000 {
		var err error
		switch i % 4 {
		case 0:
			err = w.PublishAsync("t", nil, done, i)
		case 1:
			err = w.DeferredPublishAsync("a b", 0, body, done, i)
		case 2:
			err = w.MultiPublishAsync("t", nil, done, i)
		default:
			err = w.PublishAsync("discard", body, done, i)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		result := receive(t, "transaction", done)
		if _, rejected := result.Error.(ErrProtocol); rejected != (i%4 != 3) || result.Args[0] != i {
			t.Fatalf("transaction %d: %+v", i, result)
		}
	}
	if n := s.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestProducerErrorInThePipeline: an error belongs to its publish; nsqd then
// closes the connection, and what it had of those behind it fails.
func TestProducerErrorInThePipeline(t *testing.T) {
	w := newTestProducer(t, startServer(t, nil).tcpAddr(), testConfig())
	done := make(chan *ProducerTransaction, 3)
	for _, size := range []int{1, 1<<20 + 1, 1} {
		if err := w.PublishAsync("discard", make([]byte, size), done); err != nil {
			t.Fatal(err)
		}
	}
	if result := receive(t, "transaction", done); result.Error != nil {
		t.Errorf("before: %v", result.Error)
	}
	want := ErrProtocol{"E_BAD_MESSAGE PUB message too big 1048577 > 1048576"}
	if result := receive(t, "transaction", done); result.Error != want {
		t.Errorf("got %v, want %v", result.Error, want)
	}
	// It may have come late enough for the next connection.
	if result := receive(t, "transaction", done); result.Error != nil && result.Error != ErrNotConnected {
		t.Errorf("behind: %v", result.Error)
	}
	if err := w.Publish("discard", []byte("x")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestProducerReconnects: after a loss at most what was under way fails.
func TestProducerReconnects(t *testing.T) {
	s := startServer(t, nil)
	w := newTestProducer(t, s.tcpAddr(), testConfig())
	for range 20 {
		if err := w.Publish("discard", []byte("x")); err != nil {
			t.Fatal(err)
		}
		s.dropConnections()
		err := w.Publish("discard", []byte("x"))
		if err != nil && err != ErrNotConnected {
			t.Fatal(err)
		}
		if err != nil {
			if err := w.Publish("discard", []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestProducerUnexpectedResponse: an answer to nothing makes all later answers
// doubtful.
func TestProducerUnexpectedResponse(t *testing.T) {
	s := startServer(t, nil)
	w := newTestProducer(t, s.tcpAddr(), testConfig())
	if err := w.Ping(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	for c := range s.conns {
		c.frame(protocol.FrameResponse, "OK")
		c.flush()
	}
	s.mu.Unlock()
	waitFor(t, "end of the connection", func() bool { return s.connections() == 0 })
	if err := w.Publish("discard", []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// TestProducerStopDrains: what was accepted before Stop is published.
func TestProducerStopDrains(t *testing.T) {
	s := startServer(t, nil)
	w := newTestProducer(t, s.tcpAddr(), testConfig())
	const n = 5000
	done := make(chan *ProducerTransaction, n)
	for range n {
		if err := w.PublishAsync("drained", []byte("x"), done); err != nil {
			t.Fatal(err)
		}
	}
	w.Stop()
	for range n {
		if result := receive(t, "transaction", done); result.Error != nil {
			t.Fatal(result.Error)
		}
	}
	if got := s.backlog("drained"); got != n {
		t.Errorf("%d messages of %d", got, n)
	}
	waitFor(t, "end of the connection", func() bool { return s.connections() == 0 })
}

// TestProducerStopsWithoutAnswers: Stop does not wait for an nsqd that is
// silent, nor for a reader that does not read.
func TestProducerStopsWithoutAnswers(t *testing.T) {
	s := startServer(t, nil)
	s.setSilent(true)
	config := testConfig()
	config.WriteTimeout = 100 * time.Millisecond
	w := newTestProducer(t, s.tcpAddr(), config)
	done := make(chan *ProducerTransaction)
	for i := range 100 {
		if err := w.PublishAsync("discard", []byte("x"), done, i); err != nil {
			t.Fatal(err)
		}
	}
	published := make(chan error, 1)
	go func() { published <- w.Publish("discard", []byte("x")) }()
	w.Stop()
	if err := receive(t, "result", published); err != ErrNotConnected && err != ErrStopped {
		t.Errorf("Publish: %v", err)
	}
	for i := range 100 {
		if result := receive(t, "transaction", done); result.Error != ErrNotConnected || result.Args[0] != i {
			t.Fatalf("transaction %d: %+v", i, result)
		}
	}
}

// TestProducerUndrainedDoneChan: a reader that does not read holds up nobody
// but, in the end, those who publish for it.
func TestProducerUndrainedDoneChan(t *testing.T) {
	w, _ := newProducerAndNSQD(t)
	undrained := make(chan *ProducerTransaction)
	full := make(chan struct{})
	const n = maxUndelivered + 100
	go func() {
		for i := range n {
			if i == maxUndelivered {
				close(full)
			}
			if err := w.PublishAsync("discard", []byte("x"), undrained, i); err != nil {
				t.Error(err)
			}
		}
	}()
	receive(t, "publishes", full)
	if err := w.Publish("discard", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if result := receive(t, "transaction", undrained); result.Error != nil || result.Args[0] != i {
			t.Fatalf("transaction %d: %+v", i, result)
		}
	}
}

// TestProducerSharesDial: publishes at an nsqd that does not answer fail
// together, after one attempt, and Stop does not wait for it.
func TestProducerSharesDial(t *testing.T) {
	listener, accepted := listenSilently(t)
	w := newTestProducer(t, listener.Addr().String(), testConfig())
	var publishers sync.WaitGroup
	for range 10 {
		publishers.Go(func() {
			if err := w.Publish("discard", []byte("x")); err != ErrStopped {
				t.Errorf("got %v", err)
			}
		})
	}
	receive(t, "connection", accepted)
	w.Stop()
	publishers.Wait()
	if n := len(accepted); n != 0 {
		t.Errorf("%d more connections", n)
	}
}

// listenSilently accepts connections and does nothing with them.
func listenSilently(t testing.TB) (net.Listener, chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var sockets []net.Conn
		for {
			socket, err := listener.Accept()
			if err != nil {
				break
			}
			sockets = append(sockets, socket)
			accepted <- socket
		}
		for _, socket := range sockets {
			socket.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	return listener, accepted
}

// TestProducerDialFails: the error is that of the dial, and not remembered.
func TestProducerDialFails(t *testing.T) {
	addr := closedPort(t)
	w := newTestProducer(t, addr, testConfig())
	if err := w.Publish("discard", []byte("x")); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	if _, ok := w.Ping().(*net.OpError); !ok {
		t.Error("not the error of the dial")
	}
	s, err := startFakeNSQD(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := w.Publish("discard", []byte("x")); err != nil {
		t.Error(err)
	}
	w.Stop()
}

// TestProducerBothDirectionsFull: an nsqd that reads nothing while it writes
// does not come to a standstill with a producer, whatever their buffers hold.
func TestProducerBothDirectionsFull(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	const publishes, size = 500, 50 << 10
	go func() { served <- answerAtLength(listener, publishes, size) }()
	config := testConfig()
	config.WriteTimeout = 5 * time.Second
	w := newTestProducer(t, listener.Addr().String(), config)
	done := make(chan *ProducerTransaction, publishes)
	for range publishes {
		if err := w.PublishAsync("t", make([]byte, size), done); err != nil {
			t.Fatal(err)
		}
	}
	for range publishes {
		if result := receive(t, "transaction", done); result.Error != nil {
			t.Fatal(result.Error)
		}
	}
	w.Stop()
	listener.Close()
	if err := receive(t, "end of the server", served); err != nil {
		t.Error(err)
	}
}

// answerAtLength answers each of n publishes with size bytes.
func answerAtLength(listener net.Listener, n, size int) error {
	socket, err := listener.Accept()
	if err != nil {
		return err
	}
	defer socket.Close()
	in := bufio.NewReader(socket)
	if _, err := in.Discard(len(MagicV2)); err != nil {
		return err
	}
	for i := range n + 1 {
		if _, err := in.ReadString('\n'); err != nil {
			return err
		}
		if _, err := protocol.ReadSized(in, 0); err != nil {
			return err
		}
		answer := []byte("OK")
		if i > 0 {
			answer = make([]byte, size)
		}
		if _, err := socket.Write(protocol.AppendFrame(nil, protocol.FrameResponse, answer)); err != nil {
			return err
		}
	}
	return nil
}

// TestProducerConnectionsEnd: nothing is left of stopped producers, however
// busy they were.
func TestProducerConnectionsEnd(t *testing.T) {
	s := startServer(t, nil)
	for range 20 {
		w := newTestProducer(t, s.tcpAddr(), testConfig())
		var publishers sync.WaitGroup
		started := make(chan struct{}, 3)
		for range 3 {
			publishers.Go(func() {
				for i := 0; ; i++ {
					err := w.Publish("discard", []byte(fmt.Sprint(i)))
					if i == 0 {
						started <- struct{}{}
					}
					if err != nil {
						if err != ErrStopped && err != ErrNotConnected {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for range 3 {
			receive(t, "publish", started)
		}
		w.Stop()
		publishers.Wait()
	}
	waitFor(t, "end of the connections", func() bool { return s.connections() == 0 })
}

func TestRing(t *testing.T) {
	var r ring[int]
	next, want := 0, 0
	for round := range 200 {
		for range round * 7 % 50 {
			r.push(next)
			next++
		}
		for range min(r.count, round*11%50) {
			if got := r.pop(); got != want {
				t.Fatalf("got %d, want %d", got, want)
			}
			want++
		}
	}
	for r.count > 0 {
		r.pop()
	}
	if len(r.slots) > 2*minRing {
		t.Errorf("%d slots for nothing", len(r.slots))
	}
}
