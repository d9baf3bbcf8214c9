package nsq

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// intervals returns how long it took from each time to the next.
func intervals(times []time.Time) []time.Duration {
	var between []time.Duration
	for i := range len(times) - 1 {
		between = append(between, times[i+1].Sub(times[i]))
	}
	return between
}

// wantGrowing checks that delays double from first up to most, each up to half
// shorter at random, and that they are not all without that.
func wantGrowing(t testing.TB, delays []time.Duration, first, most time.Duration) {
	t.Helper()
	exact := true
	for i, delay := range delays {
		full := first << min(i, 20)
		full = min(full, most)
		if delay < full/2 || delay > full {
			t.Errorf("delay %d is %s, want %s to %s", i, delay, full/2, full)
		}
		exact = exact && delay == full
	}
	if exact {
		t.Errorf("delays %s have no jitter", delays)
	}
}

// TestFailedAddressIsTriedAgain: an address that cannot be connected to is an
// error, and tried again with growing delays; a caller who tries again himself
// is told of success once.
func TestFailedAddressIsTriedAgain(t *testing.T) {
	inBubble(t, func(b *bubble) {
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		if _, ok := errors.AsType[*net.OpError](r.ConnectToNSQDs([]string{"a:4150"})); !ok {
			b.Error("no error from the dial")
		}
		b.pass(10 * time.Minute)
		delays := intervals(b.dialTimes())
		wantGrowing(b, delays, time.Second, time.Minute)
		if len(delays) < 10 {
			b.Errorf("tried %d times", len(delays))
		}
		b.server("a:4150", nil)
		b.pass(time.Minute)
		if n := r.Stats().Connections; n != 1 {
			b.Fatalf("%d connections", n)
		}
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Errorf("asked again: %v", err)
		}
		if err := r.ConnectToNSQD("a:4150"); err != ErrAlreadyConnected {
			b.Errorf("asked a third time: %v", err)
		}
	})
}

// TestUnwantedAddressIsNotTriedAgain: Disconnect ends the attempts.
func TestUnwantedAddressIsNotTriedAgain(t *testing.T) {
	inBubble(t, func(b *bubble) {
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		if err := r.ConnectToNSQD("a:4150"); err == nil {
			b.Error("connected to nobody")
		}
		if err := r.DisconnectFromNSQD("a:4150"); err != nil {
			b.Error(err)
		}
		b.pass(time.Hour)
		if n := len(b.dialTimes()); n != 1 {
			b.Errorf("dialed %d times", n)
		}
	})
}

// TestLostConnectionsAreTriedLessOften: an nsqd that accepts connections and
// closes them is not hammered; one that was connected for long is tried soon.
func TestLostConnectionsAreTriedLessOften(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", func(s *fakeNSQD) {
			s.intercept = func(c *fakeConn, params []string) (bool, string) {
				if params[0] == "RDY" {
					_ = c.socket.Close()
				}
				return false, ""
			}
		})
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		b.pass(5 * time.Minute)
		wantGrowing(b, intervals(b.dialTimes()), time.Second, time.Minute)

		s.mu.Lock()
		s.intercept = nil
		s.mu.Unlock()
		b.pass(5 * time.Minute)
		before := len(b.dialTimes())
		s.dropConnections()
		lost := time.Now()
		b.pass(time.Minute)
		dials := b.dialTimes()
		if len(dials) != before+1 || dials[before].Sub(lost) > time.Second {
			b.Errorf("after a stable connection: %d dials", len(dials)-before)
		}
	})
}

// TestDirectAddressBesideLookupd: an address that was given to us is tried again
// though nsqlookupd does not name it.
func TestDirectAddressBesideLookupd(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", nil)
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		newBubbleLookupd(b).use(r, "l:4161")
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		s.dropConnections()
		b.pass(2 * time.Second)
		if n := r.Stats().Connections; n != 1 {
			b.Errorf("%d connections", n)
		}
	})
}

// TestSubRefused: nsqd's refusal of SUB is the error of ConnectToNSQD.
func TestSubRefused(t *testing.T) {
	const refusal = `E_UNAUTHORIZED AUTH failed for SUB on "t" "ch"`
	inBubble(t, func(b *bubble) {
		b.server("a:4150", func(s *fakeNSQD) {
			s.intercept = func(_ *fakeConn, params []string) (bool, string) {
				if params[0] == "SUB" {
					return true, refusal
				}
				return false, ""
			}
		})
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		err := r.ConnectToNSQD("a:4150")
		if err == nil || err.Error() != "[a:4150] failed to subscribe to t:ch - "+refusal || !errors.Is(err, ErrProtocol{refusal}) {
			b.Errorf("got %v", err)
		}
		b.pass(5 * time.Minute)
		wantGrowing(b, intervals(b.dialTimes()), time.Second, time.Minute)
	})
}

// TestSubNotAnswered: an nsqd that says nothing to SUB is used all the same.
func TestSubNotAnswered(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", func(s *fakeNSQD) {
			s.intercept = func(c *fakeConn, params []string) (bool, string) {
				return params[0] == "SUB" || params[0] == "RDY", ""
			}
		})
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		start := time.Now()
		if err := r.ConnectToNSQD("a:4150"); err != nil || time.Since(start) != subscribeTimeout {
			b.Errorf("after %s: %v", time.Since(start), err)
		}
		if got := rdyText(b); got != "a:1" {
			b.Errorf("RDY %s", got)
		}
	})
}

// bubbleLookupd is nsqlookupds that answer without a network.
type bubbleLookupd struct {
	b        *bubble
	listed   map[string][]string // by host of the nsqlookupd; nil fails, empty is 404
	requests []time.Time
}

func newBubbleLookupd(b *bubble) *bubbleLookupd {
	return &bubbleLookupd{b: b, listed: map[string][]string{"l:4161": {}}}
}

// use has r ask the nsqlookupds at addrs.
func (l *bubbleLookupd) use(r *Consumer, addrs ...string) {
	l.b.Helper()
	r.SetLookupdHttpClient(l.client())
	if err := r.ConnectToNSQLookupds(addrs); err != nil {
		l.b.Fatal(err)
	}
}

func (l *bubbleLookupd) client() *http.Client {
	return &http.Client{Transport: roundTrip(l.answer)}
}

func (l *bubbleLookupd) list(lookupd string, addrs ...string) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.listed[lookupd] = append([]string{}, addrs...)
}

func (l *bubbleLookupd) times() []time.Time {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	return slices.Clone(l.requests)
}

func (l *bubbleLookupd) answer(req *http.Request) (*http.Response, error) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.requests = append(l.requests, time.Now())
	listed := l.listed[req.URL.Host]
	if listed == nil {
		return nil, errors.New("down")
	}
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: make(http.Header), Request: req}
	resp.Header.Set("X-NSQ-Content-Type", "nsq; version=1.0")
	var producers []string
	for _, addr := range listed {
		host, port, _ := net.SplitHostPort(addr)
		producers = append(producers, fmt.Sprintf(`{"broadcast_address":%q,"tcp_port":%s}`, host, port))
	}
	if len(producers) == 0 {
		resp.StatusCode, resp.Status = http.StatusNotFound, "404 Not Found"
	}
	resp.Body = io.NopCloser(strings.NewReader(`{"producers":[` + strings.Join(producers, ",") + `]}`))
	return resp, nil
}

// TestAllLookupdsAreAsked: one query asks every nsqlookupd and connects to what
// any of them names; an nsqd that cannot be reached holds up nobody; one
// nsqlookupd that is down is not asked twice.
func TestAllLookupdsAreAsked(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil)
		b.server("b:4150", nil)
		b.hang("x:4150")
		b.hang("y:4150")
		l := newBubbleLookupd(b)
		l.list("l1:4161", "x:4150", "a:4150")
		l.list("l2:4161", "a:4150", "y:4150", "b:4150")
		l.listed["l3:4161"] = nil
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		start := time.Now()
		l.use(r, "l1:4161", "l2:4161", "l3:4161")
		if took := time.Since(start); took != time.Second {
			b.Errorf("took %s, want one DialTimeout", took)
		}
		b.pass(2 * time.Second)
		if n := r.Stats().Connections; n != 2 {
			b.Errorf("%d connections", n)
		}
		if n := len(l.times()); n != 4 { // the first alone, then all
			b.Errorf("%d questions", n)
		}
	})
}

// TestLookupdPolling: polls come every LookupdPollInterval, the first one up to
// LookupdPollJitter of it later; when none answers it is asked three times.
func TestLookupdPolling(t *testing.T) {
	var firsts []time.Duration
	for range 10 {
		inBubble(t, func(b *bubble) {
			l := newBubbleLookupd(b)
			r := b.consumer("t", b.config())
			r.AddHandler(HandlerFunc(scriptedHandler))
			l.use(r, "l:4161")
			b.pass(200 * time.Second)
			got := intervals(l.times())
			if len(got) < 2 || got[0] < 60*time.Second || got[0] >= 78*time.Second || got[1] != 60*time.Second {
				b.Fatalf("polled after %s", got)
			}
			firsts = append(firsts, got[0])
			b.mu.Lock()
			l.listed["l:4161"], l.requests = nil, nil
			b.mu.Unlock()
			b.pass(60 * time.Second)
			if n := len(l.times()); n != 3 {
				b.Errorf("asked %d times", n)
			}
		})
	}
	if slices.Min(firsts) == slices.Max(firsts) {
		t.Errorf("no jitter: %s", firsts)
	}
}

// TestRecheckGrows: an nsqd that is listed, accepts connections and closes them
// does not make us poll without end.
func TestRecheckGrows(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", func(s *fakeNSQD) {
			s.intercept = func(c *fakeConn, params []string) (bool, string) {
				if params[0] == "RDY" {
					_ = c.socket.Close()
				}
				return false, ""
			}
		})
		l := newBubbleLookupd(b)
		l.list("l:4161", "a:4150")
		config := b.config()
		config.LookupdPollInterval = 5 * time.Minute
		config.LookupdPollJitter = 0
		r := b.consumer("t", config)
		r.AddHandler(HandlerFunc(scriptedHandler))
		l.use(r, "l:4161")
		b.pass(4 * time.Minute)
		wantGrowing(b, intervals(l.times()), maxFirstRecheckDelay, 5*time.Minute)

		s.mu.Lock()
		s.intercept = nil
		s.mu.Unlock()
		b.pass(30 * time.Minute)
		before := len(l.times())
		s.dropConnections()
		b.pass(maxFirstRecheckDelay)
		synctest.Wait()
		if n := len(l.times()); n != before+1 {
			b.Errorf("%d questions after a loss", n-before)
		}
	})
}

// TestDisconnectUnlisted: with that option, and only then, connections end that
// two polls do not name; those that were given to us stay.
func TestDisconnectUnlisted(t *testing.T) {
	for _, set := range []bool{false, true} {
		inBubble(t, func(b *bubble) {
			l := newBubbleLookupd(b)
			l.list("l:4161", "a:4150", "b:4150")
			for _, addr := range []string{"a:4150", "b:4150", "c:4150"} {
				b.server(addr, nil)
			}
			config := b.config()
			config.LookupdPollJitter = 0
			config.DisconnectUnlisted = set
			r := b.consumer("t", config)
			r.AddHandler(HandlerFunc(scriptedHandler))
			if err := r.ConnectToNSQD("c:4150"); err != nil {
				b.Fatal(err)
			}
			l.use(r, "l:4161")
			b.pass(time.Second)
			l.list("l:4161", "b:4150")
			b.pass(time.Minute)
			if n := r.Stats().Connections; n != 3 {
				b.Errorf("after one poll %d connections", n)
			}
			b.pass(2 * time.Minute)
			want := map[bool]int{false: 3, true: 2}[set]
			if n := r.Stats().Connections; n != want {
				b.Errorf("disconnect_unlisted %t: %d connections", set, n)
			}
		})
	}
}
