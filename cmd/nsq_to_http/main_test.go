//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

func TestMain(m *testing.M) { tooltest.Main(m, "nsq_to_http", main) }

func TestOutcomes(t *testing.T) {
	with := func(more ...string) []string {
		return append([]string{"--topic=t", "--nsqd-tcp-address=127.0.0.1:1"}, more...)
	}
	const post, get = "--post=http://127.0.0.1:1", "--get=http://127.0.0.1:1/%s"
	tooltest.Check(t, "nsq_to_http", []tooltest.Outcome{
		tooltest.Ends(0, "nsq_to_http v1.3.0\n", `^$`, "-version", "-header=bad"),
		tooltest.Ends(0, "", `(?s)^Usage of nsq_to_http:\n.*--sample.*\nExamples:\n`, "-h"),
		tooltest.Ends(2, "", `^flag provided but not defined: -nope\n`, "-nope"),
		tooltest.Refuses("--header value format should be 'key: value'", "-header=a:b", "-header=bad"),
		tooltest.Refuses("--topic and --channel are required", "-channel=x"),
		tooltest.Refuses("--topic and --channel are required", "-topic=x", "-channel="),
		tooltest.Refuses("--content-type only used with --post", "-topic=x", "-content-type=a/b", get),
		tooltest.Refuses("--content-type requires a value when used", "-topic=x", "-content-type=", post),
		tooltest.Refuses("--nsqd-tcp-address or --lookupd-http-address required", "-topic=x"),
		tooltest.Refuses("use --nsqd-tcp-address or --lookupd-http-address not both", with("--lookupd-http-address=a:1")...),
		tooltest.Refuses("--get or --post required", with()...),
		tooltest.Refuses("use --get or --post not both", with(get, post)...),
		tooltest.Refuses("invalid GET address - must be a printf string", with("--get=http://a/", "-sample=2")...),
		tooltest.Refuses("ERROR: --sample must be between 0.0 and 1.0", with(post, "-sample=1.5")...),
		tooltest.Refuses("ERROR: --sample must be between 0.0 and 1.0", with(post, "-sample=NaN")...),
		tooltest.Refuses("--http-client-connect-timeout should not be negative", with(post, "--http-client-connect-timeout=-1s")...),
		tooltest.Refuses("--http-client-request-timeout should not be negative", with(post, "--http-client-request-timeout=-1s")...),
		tooltest.Ends(1, "", `connection refused\n$`, with(post, "--http-client-connect-timeout=0", "--http-client-request-timeout=0")...),
		tooltest.Refuses("invalid channel name", with(post, "-channel=*")...),
		tooltest.Ends(1, "", ` no handlers\n$`, with(post, "-n=0")...),
		tooltest.Ends(1, "", `connection refused\n$`, with(post)...),
	})
}

// hook notes the bodies of POST requests, and refuses requests as long as it is told
// to.
type hook struct {
	*httptest.Server
	book    tooltest.Book
	refuse  atomic.Bool
	refused atomic.Int64
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // a sender that was killed
		}
		if h.refuse.Load() {
			h.refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.book.Add(string(body))
	}))
	t.Cleanup(h.Close)
	return h
}

// hasty are settings with which failures are tried again soon.
var hasty = []string{
	"--consumer-opt=default_requeue_delay,5ms", "--consumer-opt=backoff_multiplier,1ms",
	"--consumer-opt=max_backoff_duration,20ms", "--consumer-opt=lookupd_poll_interval,50ms",
}

// The server is away for longer than five attempts take; nothing is lost, and the
// tool holds back meanwhile.
func TestNothingIsGivenUp(t *testing.T) {
	nsqd, hook := tooltest.StartNSQD(t, ""), newHook(t)
	messages := tooltest.Numbered("m", 10)
	hook.refuse.Store(true)
	nsqd.Publish("t", messages...)
	p := tooltest.Start(t, "nsq_to_http", append(hasty, "--topic=t", "--post="+hook.URL, "--nsqd-tcp-address="+nsqd.TCPAddr, "--progress=always")...)
	p.Stderr.Wait(`ERR .*handler returned an error .*got status code 503`)
	p.Stderr.Wait(`backing off`)
	tooltest.WaitFor(t, func() error {
		if n := hook.refused.Load(); n < 80 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	hook.refuse.Store(false)
	nsqd.WaitEmpty("t", "nsq_to_http")
	p.Stop()
	if !strings.Contains(p.Stderr.String(), "nsq_to_http: 10 messages sent, ") {
		t.Errorf("no total:\n%s", p.Stderr)
	}
	hook.book.Balance(t, messages, 0)

	// With a limit a message is given up.
	hook.refuse.Store(true)
	nsqd.Publish("u", "lost")
	p = tooltest.Start(t, "nsq_to_http", append(hasty, "--topic=u", "--post="+hook.URL, "--nsqd-tcp-address="+nsqd.TCPAddr, "--consumer-opt=max_attempts,2")...)
	p.Stderr.Wait(`WRN +1 \[u/nsq_to_http\] .*giving up id=[0-9a-f]{16} attempts=3`)
	nsqd.WaitEmpty("u", "nsq_to_http")
	p.Stop()
}

// nsqd and the tool are killed and started again while messages flow. nsqd keeps its
// messages on disk, so that they survive; what was under way at a kill may arrive
// twice.
func TestKills(t *testing.T) {
	nsqd, hook := tooltest.StartNSQD(t, "", "--mem-queue-size=0", "--sync-every=1", "--msg-timeout=500ms"), newHook(t)
	args := append(hasty, "--topic=t", "--post="+hook.URL, "--nsqd-tcp-address="+nsqd.TCPAddr, "--log-level=error")
	p := tooltest.Start(t, "nsq_to_http", args...)
	messages := tooltest.Numbered("m", 6000)
	arrive := func(n int) {
		t.Helper()
		tooltest.WaitFor(t, func() error {
			if got := hook.book.Count(); got < n {
				return fmt.Errorf("%d messages", got)
			}
			return nil
		})
	}
	nsqd.Publish("t", messages[:2000]...)
	arrive(500)
	nsqd.Kill()
	nsqd.Start()
	nsqd.Publish("t", messages[2000:4000]...)
	arrive(2500)
	p.Kill()
	p = tooltest.Start(t, "nsq_to_http", args...)
	nsqd.Publish("t", messages[4000:]...)
	arrive(4500)
	p.Stop() // answers what is under way
	p = tooltest.Start(t, "nsq_to_http", args...)
	arrive(len(messages))
	nsqd.WaitEmpty("t", "nsq_to_http")
	p.Stop()
	// A kill of nsqd brings back what it had not noted as finished; one of the tool
	// what was in flight.
	hook.book.Balance(t, messages, 2000+200)
}

// SIGTERM lets requests that are under way end, and their messages be finished.
func TestStop(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	arrived, release := make(chan bool), make(chan bool)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	t.Cleanup(slow.Close)
	nsqd.Publish("t", "a", "b")
	p := tooltest.Start(t, "nsq_to_http", "--topic=t", "--get="+slow.URL+"/%s", "--nsqd-tcp-address="+nsqd.TCPAddr)
	<-arrived
	<-arrived
	p.Signal(syscall.SIGTERM)
	p.Stderr.Wait("received CLOSE_WAIT")
	close(release)
	p.ExpectExit(0)
	nsqd.WaitEmpty("t", "nsq_to_http")
}

func TestStatusLines(t *testing.T) {
	nsqd, one, two := tooltest.StartNSQD(t, ""), newHook(t), newHook(t)
	nsqd.Publish("t", tooltest.Numbered("m", 13)...)
	p := tooltest.Start(t, "nsq_to_http", "--topic=t", "--post="+one.URL, "--post="+two.URL, "--mode=round-robin", "--status-every=3",
		"--nsqd-tcp-address="+nsqd.TCPAddr)
	nsqd.WaitEmpty("t", "nsq_to_http")
	p.Stop()
	const line = `: finished 3 - 99th: \d+\.\d\dms - 95th: \d+\.\d\dms - avg: \d+\.\d\dms`
	for prefix, want := range map[string]int{`\[aggregate\]`: 4, `\[` + regexp.QuoteMeta(one.URL) + `\]`: 1, `\[` + regexp.QuoteMeta(two.URL) + `\]`: 2} {
		if got := len(regexp.MustCompile(`(?m)^\S+ \S+ `+prefix+line+`$`).FindAllString(p.Stderr.String(), -1)); got != want {
			t.Errorf("%d lines of %s, want %d\n%s", got, prefix, want, p.Stderr)
		}
	}
	if n := strings.Count(p.Stderr.String(), "Warning: use more than 100 status values for accurate percentiles (configured with 3)"); n != 3 {
		t.Errorf("%d warnings", n)
	}
}

// Through nsqlookupd; one request at a time keeps the order.
func TestOrder(t *testing.T) {
	lookupd := tooltest.StartLookupd(t)
	nsqd := tooltest.StartNSQD(t, lookupd.TCPAddr)
	bodies := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { bodies <- r.URL.RawQuery }))
	t.Cleanup(s.Close)
	nsqd.CreateChannel("t", "c")
	p := tooltest.Start(t, "nsq_to_http", "--topic=t", "--channel=c", "--n=1", "--get="+s.URL+"/?%s", "--lookupd-http-address="+lookupd.HTTPAddr,
		"--consumer-opt=lookupd_poll_interval,20ms")
	messages := tooltest.Numbered("m", 100)
	nsqd.Publish("t", messages...)
	for _, want := range messages {
		select {
		case got := <-bodies:
			if got != want {
				t.Fatalf("%s comes instead of %s", got, want)
			}
		case <-time.After(tooltest.Longest):
			t.Fatalf("no %s\n%s", want, p.Stderr)
		}
	}
	p.Stop()
}
