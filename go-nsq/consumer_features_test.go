package nsq

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// commands returns the lines written to addr so far, over all connections.
func (b *bubble) commands(addr string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, c := range b.conns {
		if c.addr == addr {
			lines = append(lines, c.lines...)
		}
	}
	return lines
}

// count returns how many of the lines begin with prefix.
func count(lines []string, prefix string) int {
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// TestBatchHandler: batches are full when there is enough, and smaller when the
// wait is over; their result is that of each message not answered otherwise.
func TestBatchHandler(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		config := b.config()
		config.MaxInFlight = 100
		config.MaxAttempts = 2
		config.MaxBackoffDuration = 0
		r := b.consumer("t", config)
		h := &batchHandler{}
		r.AddBatchHandler(h, 4, 100*time.Millisecond)
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		var bodies [][]byte
		for i := range 10 {
			bodies = append(bodies, fmt.Appendf(nil, "m%d", i))
		}
		s.publish("t", bodies...)
		b.pass(time.Second)
		if want := []string{"m0 m1 m2 m3", "m4 m5 m6 m7", "m8 m9"}; !slices.Equal(h.batches, want) {
			b.Errorf("batches %q, want %q", h.batches, want)
		}
		if got := h.times[2].Sub(start); got != 100*time.Millisecond {
			b.Errorf("the last one after %s", got)
		}
		if stats := r.Stats(); stats.MessagesFinished != 10 {
			b.Errorf("got %+v", stats)
		}

		h.err = errors.New("bad")
		h.batches = nil
		s.publish("t", []byte("x"), []byte("finish"), []byte("keep"))
		b.pass(time.Second)
		// x is requeued, comes a second time, and is then given up.
		if want := []string{"x finish keep", "x"}; !slices.Equal(h.batches, want) || h.failed != 1 {
			b.Errorf("batches %q, want %q; %d given up", h.batches, want, h.failed)
		}
		h.kept.Finish()
		if state := r.State(); state.MessagesGivenUp != 1 || state.MessagesRequeued != 2 || state.Handlers != 1 {
			b.Errorf("got %+v", state)
		}
	})
}

type batchHandler struct {
	err     error
	batches []string
	times   []time.Time
	kept    *Message
	failed  int
}

func (h *batchHandler) HandleBatch(messages []*Message) error {
	var bodies []string
	for i, m := range messages {
		bodies = append(bodies, string(m.Body))
		switch string(m.Body) {
		case "finish":
			m.Finish()
		case "keep":
			m.DisableAutoResponse()
			h.kept = m
		}
		messages[i] = nil // the slice is ours
	}
	h.batches, h.times = append(h.batches, strings.Join(bodies, " ")), append(h.times, time.Now())
	return h.err
}

func (h *batchHandler) LogFailedMessage(*Message) { h.failed++ }

// TestAutoTouch: a handler may take several message timeouts, and so may a
// message that waits for it; after the answer there is no TOUCH.
func TestAutoTouch(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		config := b.config()
		config.AutoTouch = true
		config.MaxInFlight = 2
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(func(*Message) error { time.Sleep(150 * time.Second); return nil }))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.publish("t", testBodies(2)...)
		start := time.Now()
		last := make(map[string]time.Time) // the last TOUCH of each message
		seen := 0
		for time.Since(start) < 300*time.Second {
			b.pass(time.Second)
			for _, line := range b.commands("a:4150")[seen:] {
				seen++
				if id, ok := strings.CutPrefix(line, "TOUCH "); ok {
					previous, again := last[id]
					if !again {
						previous = start
					}
					if gap := time.Since(previous); gap < 29*time.Second || gap > 39*time.Second {
						b.Errorf("TOUCH after %s of a timeout of a minute", gap)
					}
					last[id] = time.Now()
				}
			}
		}
		b.pass(time.Second)
		if len(last) != 2 || r.Stats().MessagesFinished != 2 {
			b.Errorf("%d messages touched, %d finished", len(last), r.Stats().MessagesFinished)
		}
		touches := count(b.commands("a:4150"), "TOUCH")
		b.pass(10 * time.Minute)
		if n := count(b.commands("a:4150"), "TOUCH"); n != touches {
			b.Errorf("%d touches of messages that are answered", n-touches)
		}
	})
}

// TestAutoTouchGivesUp: what nsqd does not know any more is not touched again.
func TestAutoTouchGivesUp(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", func(s *fakeNSQD) {
			s.intercept = func(_ *fakeConn, params []string) (bool, string) {
				if params[0] == "TOUCH" {
					return true, "E_TOUCH_FAILED TOUCH " + params[1] + " failed ID not in flight"
				}
				return false, ""
			}
		})
		config := b.config()
		config.AutoTouch = true
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(func(*Message) error { time.Sleep(time.Hour); return nil }))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.publish("t", testBodies(1)...)
		b.pass(61 * time.Minute)
		if n := count(b.commands("a:4150"), "TOUCH"); n != 1 {
			b.Errorf("%d touches", n)
		}
		if state := r.State(); state.AnswersFailed != 1 {
			b.Errorf("got %+v", state)
		}
	})
}

// TestHandlerPanics: with recover_panics a panic is an error, logged with its
// stack.
func TestHandlerPanics(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		config := b.config()
		config.RecoverPanics = true
		config.MaxBackoffDuration = 0
		r := b.consumer("t", config)
		lines := new(lineLogger)
		r.SetLogger(lines, LogLevelError)
		calls := 0
		r.AddHandler(HandlerFunc(func(*Message) error {
			calls++
			if calls == 1 {
				panic("oh no")
			}
			return nil
		}))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.publish("t", testBodies(1)...)
		synctest.Wait()
		if stats := r.Stats(); calls != 2 || stats.MessagesRequeued != 1 || stats.MessagesFinished != 1 {
			b.Errorf("%d calls, %+v", calls, stats)
		}
		log := strings.Join(lines.lines, "\n")
		if !strings.Contains(log, "oh no") || !strings.Contains(log, "TestHandlerPanics") {
			b.Errorf("logged %s", log)
		}
	})
}

// TestGivenUpIsNoSuccess: a message that is given up leaves the backoff level as
// it is.
func TestGivenUpIsNoSuccess(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		config := b.config()
		config.MaxAttempts = 1
		var levels []int
		r := b.consumer("t", config)
		r.SetHooks(ConsumerHooks{Backoff: func(level int, _ time.Duration) { levels = append(levels, level) }})
		r.AddHandler(HandlerFunc(func(m *Message) error {
			if string(m.Body) == "good" {
				return nil
			}
			return errors.New("bad")
		}))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.publish("t", []byte("bad")) // level 1; again: given up, the same level
		b.pass(time.Minute)
		s.publish("t", []byte("good")) // level 0
		b.pass(time.Minute)
		if want := []int{1, 1, 0}; !slices.Equal(levels, want) {
			b.Errorf("levels %v, want %v", levels, want)
		}
		if state := r.State(); state.MessagesGivenUp != 1 || state.MessagesFinished != 2 {
			b.Errorf("got %+v", state)
		}
	})
}

// TestFinishRefused: whoever wants to know is told that nsqd refused a FIN, and
// backoff follows if so configured.
func TestFinishRefused(t *testing.T) {
	for _, backoff := range []bool{false, true} {
		inBubble(t, func(b *bubble) {
			s := b.server("a:4150", func(s *fakeNSQD) {
				s.intercept = func(_ *fakeConn, params []string) (bool, string) {
					if params[0] == "FIN" {
						return true, "E_FIN_FAILED FIN " + params[1] + " failed ID not in flight"
					}
					return false, ""
				}
			})
			config := b.config()
			config.BackoffOnFailedFinish = backoff
			r := b.consumer("t", config)
			var failures []AnswerFailure
			r.SetHooks(ConsumerHooks{AnswerFailed: func(f AnswerFailure) { failures = append(failures, f) }})
			var id MessageID
			r.AddHandler(HandlerFunc(func(m *Message) error { id = m.ID; return nil }))
			if err := r.ConnectToNSQD("a:4150"); err != nil {
				b.Fatal(err)
			}
			s.publish("t", testBodies(1)...)
			synctest.Wait()
			want := AnswerFailure{
				Address: "a:4150", Command: "FIN", ID: id,
				Err: ErrProtocol{"E_FIN_FAILED FIN " + string(id[:]) + " failed ID not in flight"},
			}
			if len(failures) != 1 || failures[0] != want {
				b.Errorf("got %+v, want %+v", failures, want)
			}
			if state := r.State(); (state.BackoffLevel == 1) != backoff || state.BackoffPaused != backoff {
				b.Errorf("backoff_on_failed_finish %t: %+v", backoff, state)
			}
			if n := len(b.dialTimes()); n != 1 {
				b.Errorf("%d connections", n)
			}
		})
	}
}

// TestAnswersOfLostConnections: an answer that cannot be sent is told.
func TestAnswersOfLostConnections(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		config := b.config()
		config.MaxInFlight = 3
		r := b.consumer("t", config)
		var mu sync.Mutex
		told := make(map[string]int)
		r.SetHooks(ConsumerHooks{AnswerFailed: func(f AnswerFailure) {
			mu.Lock()
			defer mu.Unlock()
			if f.Err != ErrNotConnected || f.Address != "a:4150" {
				b.Errorf("got %+v", f)
			}
			told[f.Command]++
		}})
		var messages []*Message
		r.AddHandler(HandlerFunc(func(m *Message) error {
			m.DisableAutoResponse()
			messages = append(messages, m)
			return nil
		}))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.publish("t", testBodies(3)...)
		synctest.Wait()
		mine := slices.Clone(messages)
		b.listen("a:4150", nil)
		s.dropConnections()
		synctest.Wait()
		mine[0].Finish()
		mine[1].Requeue(0)
		mine[2].Touch()
		mine[2].Finish()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if told["FIN"] != 2 || told["REQ"] != 1 || told["TOUCH"] != 1 {
			b.Errorf("told %v", told)
		}
	})
}

// TestDisconnectDrains: nsqd is told CLS, what it has pushed is handled and
// finished, and its RDY goes to the others at once.
func TestDisconnectDrains(t *testing.T) {
	inBubble(t, func(b *bubble) {
		config := b.config()
		config.MaxInFlight = 10
		b.setLimit(10)
		r := b.consumer("t", config)
		var handled []string
		r.AddHandler(HandlerFunc(func(m *Message) error {
			time.Sleep(time.Second)
			handled = append(handled, m.NSQDAddress)
			return nil
		}))
		servers := startNsqds(b, r, 2, nil)
		synctest.Wait()
		servers[0].publish("t", testBodies(20)...)
		synctest.Wait()
		if err := r.DisconnectFromNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		if got := rdyText(b); got != "a:0 b:10" {
			b.Errorf("RDY %s", got)
		}
		if state := r.State(); len(state.Nsqds) != 2 || !state.Nsqds[0].Closing || state.Nsqds[0].InFlight != 5 {
			b.Errorf("got %+v", state)
		}
		b.pass(time.Minute)
		if stats := r.Stats(); len(handled) != 5 || stats.MessagesFinished != 5 || stats.Connections != 1 {
			b.Errorf("handled %d, %+v", len(handled), stats)
		}
		if n := servers[0].backlog("t"); n != 15 {
			b.Errorf("%d messages left", n)
		}
		if lines := b.commands("a:4150"); slices.Contains(lines, "RDY 0") || count(lines, "CLS") != 1 {
			b.Errorf("commands %q", lines)
		}
	})
}

// TestConsumerState follows a consumer through its life, with its hooks.
func TestConsumerState(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		b.hang("b:4150")
		config := b.config()
		config.MaxInFlight = 3
		r := b.consumer("t", config)
		var events []string
		note := func(format string, args ...any) {
			b.mu.Lock()
			defer b.mu.Unlock()
			events = append(events, fmt.Sprintf(format, args...))
		}
		r.SetHooks(ConsumerHooks{
			Connected:    func(addr string) { note("connected %s", addr) },
			Disconnected: func(addr string, err error) { note("disconnected %s: %v", addr, err) },
			Handled:      func(m *Message, took time.Duration, err error) { note("handled %s in %s: %v", m.Body, took, err) },
			GaveUp:       func(m *Message) { note("gave up %s", m.Body) },
			Backoff:      func(level int, pause time.Duration) { note("backoff %d %s", level, pause) },
		})
		r.AddHandler(HandlerFunc(func(m *Message) error {
			time.Sleep(time.Second)
			if string(m.Body) == "bad" {
				return errors.New("bad")
			}
			return nil
		}))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		mustPanic(b, "already connected", func() { r.SetHooks(ConsumerHooks{}) })
		go func() { _ = r.ConnectToNSQD("b:4150") }()
		s.publish("t", []byte("good"), []byte("bad"))
		b.pass(500 * time.Millisecond)
		state := r.State()
		if state.Waiting != 1 || state.Handlers != 1 || state.MaxInFlight != 3 || state.RDY != 3 ||
			!slices.Equal(state.Connecting, []string{"b:4150"}) || state.MessagesReceived != 2 || state.Connections != 1 ||
			len(state.Nsqds) != 1 || state.Nsqds[0].InFlight != 2 || state.Nsqds[0].RDY != 3 || state.Nsqds[0].MaxRDY != 2500 {
			b.Errorf("got %+v", state)
		}
		b.pass(2 * time.Second)
		if state := r.State(); state.BackoffLevel != 1 || !state.BackoffPaused || state.RDY != 0 {
			b.Errorf("in backoff: %+v", state)
		}
		b.pass(5 * time.Second)
		s.mu.Lock()
		for c := range s.conns {
			c.frame(protocol.FrameError, "E_INVALID go away")
			c.flush()
			_ = c.socket.Close()
		}
		s.mu.Unlock()
		b.pass(5 * time.Second)
		r.Stop()
		<-r.StopChan
		if state := r.State(); !state.Stopping || state.Connections != 0 || state.Handlers != 0 {
			b.Errorf("stopped: %+v", state)
		}
		want := []string{
			"connected a:4150", "handled good in 1s: <nil>", "handled bad in 1s: bad", "backoff 1 2s",
			"handled bad in 1s: bad", "backoff 2 4s",
			"disconnected a:4150: E_INVALID go away", "connected a:4150",
			"handled bad in 1s: bad", "backoff 3 8s", "disconnected a:4150: <nil>",
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !slices.Equal(events, want) {
			b.Errorf("got  %q\nwant %q", events, want)
		}
	})
}

// TestSlogger: log lines have a constant message and attributes, and the
// handler's level decides.
func TestSlogger(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil)
		var out bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&out, nil))
		r := b.consumer("t", b.config())
		r.SetSlogger(log)
		r.AddHandler(HandlerFunc(scriptedHandler))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		w := newTestProducer(b, "x:4150", b.config())
		w.SetSlogger(log)
		if err := w.Ping(); err == nil {
			b.Error("connected to nobody")
		}
		r.Stop()
		<-r.StopChan
		found := make(map[string]map[string]any)
		for line := range strings.Lines(out.String()) {
			fields := make(map[string]any)
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				b.Fatal(err)
			}
			found[fields["msg"].(string)] = fields
			if fields["level"] == "DEBUG" {
				b.Errorf("logged %s", line)
			}
		}
		if got := found["clean close complete"]; got["topic"] != "t" || got["channel"] != "ch" || got["addr"] != "a:4150" ||
			got["client"] != float64(r.id) || got["level"] != "INFO" {
			b.Errorf("got %v in %s", got, &out)
		}
		if got := found["error connecting to nsqd"]; got["addr"] != "x:4150" || got["level"] != "ERROR" ||
			got["err"] != "dial tcp: connection refused" {
			b.Errorf("got %v", got)
		}
		r.SetSlogger(nil)
		w.SetSlogger(nil)
	})
}

// TestNoRDYAfterCLS: nothing is sent to an nsqd after CLS but answers.
func TestNoRDYAfterCLS(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		config := b.config()
		config.MaxInFlight = 5
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(func(*Message) error { time.Sleep(time.Second); return errors.New("bad") }))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.publish("t", testBodies(3)...)
		synctest.Wait()
		r.Stop()
		r.ChangeMaxInFlight(2)
		<-r.StopChan
		lines := b.commands("a:4150")
		if i := slices.Index(lines, "CLS"); i < 0 || count(lines[i:], "RDY") != 0 || count(lines[i:], "REQ") != 3 {
			b.Errorf("commands %q", lines)
		}
	})
}
