//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

func TestMain(m *testing.M) { tooltest.Main(m, "to_nsq", main) }

func TestOutcomes(t *testing.T) {
	nobody := "--nsqd-tcp-address=127.0.0.1:1"
	tooltest.Check(t, "to_nsq", []tooltest.Outcome{
		tooltest.Ends(0, "to_nsq v1.3.0\n", `^$`, "--version"),
		tooltest.Ends(0, "", `(?s)^Usage of to_nsq:\n.*--delimiter.*\nExamples:\n`, "-h"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -rate: parse error\n`, "-rate=x"),
		tooltest.Ends(2, "", `^invalid value "bogus" for flag -producer-opt: invalid option bogus\n`, "-producer-opt=bogus"),
		tooltest.Refuses("--topic required", "--delimiter="),
		tooltest.Refuses("--delimiter must be a single byte", "--topic=t", `--delimiter=\t`),
		tooltest.Refuses("failed to create nsq.Producer - HeartbeatInterval 2m0s must be less than ReadTimeout 1m0s", "--topic=t", nobody, "--producer-opt=heartbeat_interval,2m"),
		tooltest.Refuses("--nsqd-tcp-address required", "--topic=t"),
		// Without input nobody is connected to.
		tooltest.Ends(0, "", `stopping\n$`, "--topic=t", nobody),
	})
	code, _, stderr := tooltest.Run(t, "a\n", "to_nsq", "--topic=t", nobody)
	if code != 1 || !strings.Contains(stderr, " dial tcp 127.0.0.1:1: connect: connection refused\n") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	nsqd := tooltest.StartNSQD(t, "")
	code, _, stderr = tooltest.Run(t, "a\n", "to_nsq", "--topic=*", "--nsqd-tcp-address="+nsqd.TCPAddr)
	if code != 1 || !strings.Contains(stderr, ` E_BAD_TOPIC PUB topic name "*" is not valid`+"\n") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// consume returns the messages of a topic, at least n of them, sorted.
func consume(t *testing.T, nsqd *tooltest.NSQD, topic string, n int) []string {
	t.Helper()
	return slices.Sorted(slices.Values(nsqd.DrainAtLeast(topic, "c", n)))
}

func TestDelimiters(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	for i, tt := range []struct {
		input, delimiter string
		want             []string
	}{
		{"one,two,three\n", ",", []string{"one", "two", "three"}},
		{"a\nb\n", "\n", []string{"a", "b"}},
		{"a\n\n\nb", "\n", []string{"a", "b"}},
		{"abc", "\n", []string{"abc"}},
		{"a;b\nc;", ";", []string{"a", "b\nc"}},
		{"a,b\n\n", ",", []string{"a", "b\n"}},
	} {
		topic := fmt.Sprintf("t%d", i)
		args := []string{"--topic=" + topic, "--delimiter=" + tt.delimiter, "--nsqd-tcp-address=" + nsqd.TCPAddr, "--nsqd-tcp-address=" + nsqd.TCPAddr}
		code, stdout, stderr := tooltest.Run(t, tt.input, "to_nsq", args...)
		if code != 0 || stdout != "" {
			t.Errorf("%d: exit code %d, stdout %q\n%s", i, code, stdout, stderr)
		}
		got := consume(t, nsqd, topic, len(tt.want))
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.input, got, tt.want)
		}
	}
}

// Every piece goes to every destination; 8 lines at 4 per second take 2 s.
func TestRate(t *testing.T) {
	one, two := tooltest.StartNSQD(t, ""), tooltest.StartNSQD(t, "")
	start := time.Now()
	code, _, stderr := tooltest.Run(t, "1\n2\n3\n4\n5\n6\n7\n8\n", "to_nsq", "--topic=t", "--rate=4", "--progress=always",
		"--nsqd-tcp-address="+one.TCPAddr, "--nsqd-tcp-address="+two.TCPAddr)
	took := time.Since(start)
	if code != 0 || took < 1900*time.Millisecond || took > 10*time.Second {
		t.Errorf("exit code %d after %v", code, took)
	}
	for _, text := range []string{"Throttling messages rate to max:4/second", "to_nsq: 8 messages published, "} {
		if !strings.Contains(stderr, text) {
			t.Errorf("stderr lacks %q:\n%s", text, stderr)
		}
	}
	for _, nsqd := range []*tooltest.NSQD{one, two} {
		if got := consume(t, nsqd, "t", 8); strings.Join(got, "") != "12345678" {
			t.Error(got)
		}
	}
}

// nsqd is killed while it gets lines, and comes back. What the tool said to be
// confirmed is there; from there on the input can be given again. nsqd has no memory
// queue here, so that a kill loses nothing that it has confirmed.
func TestKilledNSQD(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "", "--mem-queue-size=0", "--sync-every=1")
	nsqd.CreateChannel("t", "c")
	const n = 20000
	var input strings.Builder
	for i := range n {
		fmt.Fprintf(&input, "line-%05d\n", i)
	}
	p := tooltest.Start(t, "to_nsq", "--topic=t", "--nsqd-tcp-address="+nsqd.TCPAddr)
	go func() {
		_, _ = p.Stdin.Write([]byte(input.String())) // the tool may end before
		_ = p.Stdin.Close()
	}()
	tooltest.WaitFor(t, func() error {
		if c := nsqd.Channel("t", "c"); c.Depth < 100 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	nsqd.Kill()
	p.ExpectExit(1)
	match := regexp.MustCompile(`has (\d+) messages, and the first (\d+) bytes of the input for certain`).FindStringSubmatch(p.Stderr.String())
	if match == nil {
		t.Fatalf("no report:\n%s", p.Stderr)
	}
	confirmed, _ := strconv.Atoi(match[1])
	offset, _ := strconv.Atoi(match[2])
	if offset != confirmed*11 || confirmed == 0 || confirmed == n {
		t.Fatalf("%s, of %d", match[0], n)
	}
	nsqd.Start()
	if code, _, stderr := tooltest.Run(t, input.String()[offset:], "to_nsq", "--topic=t", "--nsqd-tcp-address="+nsqd.TCPAddr); code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	got := consume(t, nsqd, "t", n)
	if lines := slices.Compact(slices.Clone(got)); len(lines) != n {
		t.Errorf("%d of %d lines arrived", len(lines), n)
	}
	t.Logf("%d confirmed before the kill, %d lines doubled by it", confirmed, len(got)-n)
}

// A destination that is not there keeps the others from getting the beginning.
func TestMissingDestination(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.CreateChannel("t", "c")
	code, _, stderr := tooltest.Run(t, "a\nb\n", "to_nsq", "--topic=t", "--nsqd-tcp-address="+nsqd.TCPAddr, "--nsqd-tcp-address=127.0.0.1:9")
	if c := nsqd.Channel("t", "c"); code != 1 || c.Depth != 0 || !strings.Contains(stderr, nsqd.TCPAddr+" has 0 messages") {
		t.Errorf("exit code %d, %+v\n%s", code, c, stderr)
	}
}

// SIGTERM ends the tool though there may be more input; what was read is published.
func TestSignal(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.CreateChannel("t", "c")
	p := tooltest.Start(t, "to_nsq", "--topic=t", "--nsqd-tcp-address="+nsqd.TCPAddr)
	if _, err := p.Stdin.Write([]byte("a\nb")); err != nil {
		t.Fatal(err)
	}
	tooltest.WaitFor(t, func() error {
		if c := nsqd.Channel("t", "c"); c.Depth != 1 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	p.Signal(syscall.SIGTERM)
	p.ExpectExit(0)
	if got := consume(t, nsqd, "t", 1); !slices.Equal(got, []string{"a"}) {
		t.Error(got)
	}

	p = tooltest.Start(t, "to_nsq", "--topic=t", "--nsqd-tcp-address="+nsqd.TCPAddr)
	if _, err := p.Stdin.Write([]byte("a\n")); err != nil {
		t.Fatal(err)
	}
	p.Stderr.Wait("connecting to nsqd")
	p.Signal(syscall.SIGHUP)
	p.ExpectExit(-1)
}

// A far nsqd, 50 ms away, does not make each message wait for the one before.
func TestFarDestination(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	const away = 50 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relaying sync.WaitGroup
	relaying.Go(func() {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", nsqd.TCPAddr)
		if err != nil {
			t.Error(err)
			return
		}
		relaying.Go(func() {
			defer far.Close()
			_, _ = io.Copy(far, near) // until the tool disconnects
		})
		defer near.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := far.Read(buf)
			time.Sleep(away) // the way takes this long
			if _, writeErr := near.Write(buf[:n]); err != nil || writeErr != nil {
				return
			}
		}
	})
	t.Cleanup(relaying.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	const n = 1000
	start := time.Now()
	code, _, stderr := tooltest.Run(t, strings.Join(tooltest.Numbered("m", n), "\n"), "to_nsq", "--topic=t", "--nsqd-tcp-address="+listener.Addr().String())
	if took := time.Since(start); code != 0 || took > n*away/2 {
		t.Errorf("exit code %d after %v\n%s", code, took, stderr)
	}
	if got := nsqd.DrainAtLeast("t", "c", n); !slices.Equal(got, tooltest.Numbered("m", n)) {
		t.Errorf("%d messages, or not in their order", len(got))
	}
}
