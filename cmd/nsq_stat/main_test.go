//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

func TestMain(m *testing.M) { tooltest.Main(m, "nsq_stat", main) }

func TestOutcomes(t *testing.T) {
	both := []string{"--topic=t", "--channel=c"}
	with := func(more ...string) []string { return append(both[:2:2], more...) }
	nobody := "127.0.0.1:1"
	empty := tooltest.StartNSQD(t, "").HTTPAddr
	lookupd := tooltest.StartLookupd(t).HTTPAddr
	tooltest.Check(t, "nsq_stat", []tooltest.Outcome{
		tooltest.Ends(0, "nsq_stat v1.3.0\n", `^$`, "-version"),
		tooltest.Ends(0, "", `(?s)^Usage of nsq_stat:\n.*--count.*\nExamples:\n`, "-help"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -count: strconv.ParseInt: parsing "x": invalid syntax\nUsage`, "-count=x"),
		tooltest.Ends(2, "", `^invalid value "5" for flag -interval: parse error\nUsage`, "-interval=5"),
		tooltest.Refuses(`--topic and --channel are required`, "--topic=t", "--interval=0"),
		tooltest.Refuses(`--interval should be positive`, with("--interval=0", "--count=0")...),
		tooltest.Refuses(`--http-client-connect-timeout should be positive`, with("--http-client-connect-timeout=0", "--count=0")...),
		tooltest.Refuses(`--http-client-request-timeout should be positive`, with("--http-client-request-timeout=-1s", "--count=0")...),
		tooltest.Refuses(`--count should be positive`, with("--count=0")...),
		tooltest.Refuses(`--nsqd-http-address or --lookupd-http-address required`, both...),
		tooltest.Refuses(`use --nsqd-http-address or --lookupd-http-address not both`, with("--nsqd-http-address=http", "--lookupd-http-address=a:1")...),
		tooltest.Refuses(`--nsqd-http-address error - address should not contain scheme`, with("--nsqd-http-address=httpbox:4151")...),
		tooltest.Refuses(`--lookupd-http-address error - address should not contain scheme`, with("--lookupd-http-address=http://a:1")...),
		tooltest.Refuses(`--tls-cert and --tls-key are used together`, with("--nsqd-http-address="+nobody, "--tls-cert=x")...),
		tooltest.Ends(1, "", tooltest.Line(`ERROR: failed to get topic producers - failed to query any nsqd: Get "http://127.0.0.1:1/stats.*connection refused`),
			with("--nsqd-http-address="+nobody)...),
		tooltest.Ends(1, "", tooltest.Line(`ERROR: failed to get topic producers - failed to query any nsqlookupd: Get "http://127.0.0.1:1/lookup.*connection refused`),
			with("--lookupd-http-address="+nobody)...),
		tooltest.Refuses(`ERROR: failed to get topic producers - failed to query any nsqlookupd: got response 404 Not Found "{\"message\":\"TOPIC_NOT_FOUND\"}"`,
			with("--lookupd-http-address="+lookupd)...),
		tooltest.Refuses(`ERROR: failed to get nsqd stats - failed to query any nsqd: none of `+empty+` has topic(t)`, with("--nsqd-http-address="+empty)...),
	})
}

const head = `------rate------+----------------depth----------------+--------------metadata---------------
ingress  egress |   total     mem    disk inflt   def |     req     t-o         msgs clients
`

func TestTable(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.CreateChannel("t", "c")
	nsqd.Publish("t", "1", "2", "3", "4")
	addr := "--nsqd-http-address=" + nsqd.HTTPAddr
	const interval = 1500 * time.Millisecond
	p := tooltest.Start(t, "nsq_stat", "--topic=t", "--channel=c", addr, "--interval="+interval.String(), "--count=1")
	p.Stdout.WaitN("\n", 3)
	last := time.Now()
	p.ExpectExit(0)
	if waited := time.Since(last); waited > interval*9/10 {
		t.Errorf("%v from the last line to the end", waited)
	}
	line := "      0       0 |       4       4       0     0     0 |       0       0            4       0\n"
	if got := p.Stdout.String() + p.Stderr.String(); got != head+line {
		t.Errorf("%s", got)
	}
	code, stdout, stderr := tooltest.Run(t, "", "nsq_stat", "--topic=t", "--channel=c", addr, "--interval=1ms", "--count=30")
	if code != 0 || stdout != head+strings.Repeat(line, 24)+head+strings.Repeat(line, 6) || stderr != "" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = tooltest.Run(t, "", "nsq_stat", "--topic=t", "--channel=d", addr)
	if code != 1 || !strings.HasSuffix(stderr, " ERROR: failed to find channel(d) in stats metadata for topic(t)\n") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		p := tooltest.Start(t, "nsq_stat", "--topic=t", "--channel=c", addr, "--interval=1h")
		p.Stdout.Wait(regexp.QuoteMeta(head))
		p.Signal(signal)
		p.ExpectExit(0)
	}
}

type line struct {
	NSQDs, Paused              int
	Seconds                    float64
	Ingress, Egress            int64
	Depth, Messages            int64
	DiskDepth, Memory, Clients int64
}

// A cluster loses an nsqd and gets it back; rates are never negative, and a pause is
// told.
func TestCluster(t *testing.T) {
	lookupd := tooltest.StartLookupd(t)
	one, two := tooltest.StartNSQD(t, lookupd.TCPAddr), tooltest.StartNSQD(t, lookupd.TCPAddr)
	for _, nsqd := range []*tooltest.NSQD{one, two} {
		nsqd.CreateChannel("t", "c")
		nsqd.Publish("t", "a", "b", "c")
	}
	tooltest.WaitFor(t, func() error {
		var answer struct{ Producers []any }
		err := lookupd.GetJSON(t.Context(), "/lookup", &answer, "topic", "t")
		if err == nil && len(answer.Producers) < 2 {
			err = fmt.Errorf("%d producers", len(answer.Producers))
		}
		return err
	})
	unaware := tooltest.StartLookupd(t)
	p := tooltest.Start(t, "nsq_stat", "--topic=t", "--channel=c", "--interval=50ms", "--json",
		"--lookupd-http-address="+lookupd.HTTPAddr, "--lookupd-http-address="+unaware.HTTPAddr)
	p.Stdout.Wait(`"nsqds":2.*"depth":6,`)
	two.Kill()
	p.Stdout.Wait(`"nsqds":1.*"depth":3,`)
	if err := one.Post(t.Context(), "/channel/pause", "topic", "t", "channel", "c"); err != nil {
		t.Fatal(err)
	}
	p.Stderr.Wait(`WARNING: channel\(c\) of topic\(t\) is paused on 1 of 1 nsqd`)
	p.Stdout.Wait(`"paused":1,`)
	two.Start()
	two.CreateChannel("t", "c") // it had no time to note that it has it
	two.Publish("t", "d", "e")
	p.Stdout.Wait(`"nsqds":2,"paused":1.*"depth":5,`)
	p.Stop()
	// nsqlookupd may name the nsqd that is gone for a while.
	if n := strings.Count(p.Stderr.String(), "connection refused"); n > 1 {
		t.Errorf("told %d times that an nsqd is gone:\n%s", n, p.Stderr)
	}
	for text := range strings.Lines(p.Stdout.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if l.Ingress < 0 || l.Egress < 0 || l.Seconds < 0.05 {
			t.Errorf("%s", text)
		}
	}
}

// Two addresses of one nsqd are not counted twice.
func TestSameNSQDTwice(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.CreateChannel("t", "c")
	nsqd.Publish("t", "a")
	_, port, _ := net.SplitHostPort(nsqd.HTTPAddr)
	code, stdout, stderr := tooltest.Run(t, "", "nsq_stat", "--topic=t", "--channel=c", "--json", "--count=1", "--interval=1ms",
		"--nsqd-http-address="+nsqd.HTTPAddr, "--nsqd-http-address=localhost:"+port)
	if code != 0 || !strings.Contains(stdout, `"nsqds":1,`) || !strings.Contains(stdout, `"depth":1,`) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}
