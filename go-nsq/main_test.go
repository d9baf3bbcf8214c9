package nsq

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
)

// waitTimeout is how long a test waits for an event before it fails.
const waitTimeout = 10 * time.Second

// TestMain checks that the tests leave no goroutine of this package behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leftGoroutines(); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftGoroutines returns the stacks of goroutines of this package other than
// the caller's, after giving them time to end.
func leftGoroutines() string {
	var left []string
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(waitTimeout); time.Now().Before(deadline); <-ticker.C {
		left = left[:0]
		buffer := make([]byte, 1<<20)
		stacks := strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n")
		for _, stack := range stacks[1:] {
			if strings.Contains(stack, "go-nsq.") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

// startNSQD returns the addresses of an nsqd for the time of the test.
func startNSQD(t testing.TB) (tcpAddr, httpAddr string) {
	t.Helper()
	d := daemon.Start(t)
	return d.TCPAddr, d.HTTPAddr
}

// startServer starts a server that does what a test wants an nsqd to do.
func startServer(t testing.TB, configure func(*fakeNSQD)) *fakeNSQD {
	t.Helper()
	s, err := startFakeNSQD("", configure)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// testConfig returns a Config for tests that do not care.
func testConfig() *Config {
	config := NewConfig()
	config.DefaultRequeueDelay = 0
	config.MaxBackoffDuration = 50 * time.Millisecond
	return config
}

func newTestProducer(t testing.TB, addr string, config *Config) *Producer {
	t.Helper()
	w, err := NewProducer(addr, config)
	if err != nil {
		t.Fatal(err)
	}
	w.SetLogger(nil, LogLevelError)
	t.Cleanup(w.Stop)
	return w
}

func newProducerAndNSQD(t testing.TB) (w *Producer, addr string) {
	t.Helper()
	addr, _ = startNSQD(t)
	return newTestProducer(t, addr, testConfig()), addr
}

func newTestConsumer(t testing.TB, topic string, config *Config) *Consumer {
	t.Helper()
	r, err := NewConsumer(topic, "ch", config)
	if err != nil {
		t.Fatal(err)
	}
	r.SetLogger(nil, LogLevelError)
	t.Cleanup(func() {
		r.Stop()
		receive(t, "StopChan", r.StopChan)
	})
	return r
}

func testBodies(n int) [][]byte {
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = []byte("publish_test_case")
	}
	return bodies
}

func publishFailing(t testing.TB, w *Producer, topic string) {
	t.Helper()
	if err := w.Publish(topic, []byte("bad_test_case")); err != nil {
		t.Fatal(err)
	}
}

// readHandler counts good messages, and stops its consumer with the bad one.
type readHandler struct {
	t        testing.TB
	consumer *Consumer
	handled  int
	failed   int
}

func (h *readHandler) LogFailedMessage(*Message) {
	h.failed++
	h.consumer.Stop()
}

func (h *readHandler) HandleMessage(m *Message) error {
	switch string(m.Body) {
	case "bad_test_case":
		return fmt.Errorf("fail this message")
	case "publish_test_case":
	default:
		h.t.Errorf("message %q", m.Body)
	}
	h.handled++
	return nil
}

// readMessages reads n good messages and the bad one.
func readMessages(t testing.TB, addr, topic string, n int) {
	t.Helper()
	r := newTestConsumer(t, topic, testConfig())
	h := &readHandler{t: t, consumer: r}
	r.AddHandler(h)
	if err := r.ConnectToNSQD(addr); err != nil {
		t.Fatal(err)
	}
	receive(t, "StopChan", r.StopChan)
	if h.handled != n || h.failed != 1 {
		t.Fatalf("handled %d and failed %d, want %d and 1", h.handled, h.failed, n)
	}
}

// receive returns what comes from a Go channel; the zero value if it is closed.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(waitTimeout):
		t.Fatalf("no %s after %s", what, waitTimeout)
		panic("unreachable")
	}
}

// waitFor waits until condition holds.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(waitTimeout)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("no %s after %s", what, waitTimeout)
		}
	}
}
