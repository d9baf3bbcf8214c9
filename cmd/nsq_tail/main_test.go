//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

func TestMain(m *testing.M) { tooltest.Main(m, "nsq_tail", main) }

func TestOutcomes(t *testing.T) {
	nobody := "--nsqd-tcp-address=127.0.0.1:1"
	tooltest.Check(t, "nsq_tail", []tooltest.Outcome{
		tooltest.Ends(0, "nsq_tail v1.3.0\n", `^$`, "-version"),
		tooltest.Ends(0, "", `(?s)^Usage of nsq_tail:\n.*\nSource:\n.*--consumer-opt.*\nExamples:\n`, "-h"),
		tooltest.Ends(2, "", `^flag provided but not defined: -x\nUsage of nsq_tail:\n`, "-x"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -n: parse error\nUsage of nsq_tail:\n`, "-n", "x"),
		tooltest.Ends(2, "", `^invalid value "bogus,1" for flag -consumer-opt: invalid option bogus\n`, "-consumer-opt=bogus,1"),
		tooltest.Ends(2, "", `^invalid value "read_timeout,1ms" for flag -consumer-opt: invalid read_timeout ! 1ms < 100ms\n`, "-consumer-opt=read_timeout,1ms"),
		tooltest.Ends(2, "", `failed to coerce option dial_timeout \(xx\) - time: invalid duration "xx"\n`, "-consumer-opt=dial_timeout,xx"),
		tooltest.Refuses("--nsqd-tcp-address or --lookupd-http-address required", "-topic=t"),
		tooltest.Refuses("use --nsqd-tcp-address or --lookupd-http-address not both", nobody, "--lookupd-http-address=127.0.0.1:1"),
		tooltest.Refuses("--topic required", nobody),
		tooltest.Ends(1, "", `(?m) Adding consumer for topic: \*\n\S+ \S+ invalid topic name$`, nobody, "-topic=*"),
		tooltest.Ends(1, "", ` invalid channel name\n$`, nobody, "-topic=t", "-channel=*"),
		tooltest.Ends(1, "", ` invalid MaxInFlight ! -1 < 0\n$`, nobody, "-topic=t", "-max-in-flight=-1"),
		tooltest.Ends(1, "", ` HeartbeatInterval 2m0s must be less than ReadTimeout 1m0s\n$`, nobody, "-topic=t", "-consumer-opt=heartbeat-interval,2m"),
		tooltest.Ends(1, "", `\n\S+ \S+ dial tcp 127\.0\.0\.1:1: connect: connection refused\n$`, nobody, "-topic=t"),
		tooltest.Ends(1, "", ` dial tcp: address x: missing port in address\n$`, "--nsqd-tcp-address=x", "-topic=t"),
		tooltest.Ends(1, "", ` missing port\n$`, "--lookupd-http-address=x", "-topic=t"),
	})
}

// Lines of several topics do not mix, the last message shown is finished, those
// beyond -n go back to nsqd.
func TestTail(t *testing.T) {
	// The timeout is for messages that come while the connection is being closed.
	nsqd := tooltest.StartNSQD(t, "", "--msg-timeout=1s")
	for _, topic := range []string{"one", "two"} {
		nsqd.CreateChannel(topic, "c")
		for i := range 50 {
			nsqd.Publish(topic, fmt.Sprintf("%s-%02d", topic, i))
		}
	}
	args := []string{"-topic=one", "-topic=two", "-channel=c", "-print-topic", "-nsqd-tcp-address=" + nsqd.TCPAddr}
	seen := map[string]int{}
	for range 2 {
		code, stdout, stderr := tooltest.Run(t, "", "nsq_tail", append(args, "-n=30")...)
		lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
		if code != 0 || len(lines) != 30 {
			t.Fatalf("exit code %d, %d lines\n%s", code, len(lines), stderr)
		}
		for _, line := range lines {
			topic, body, ok := strings.Cut(line, " | ")
			if !ok || !strings.HasPrefix(body, topic+"-") {
				t.Errorf("line %q", line)
			}
			seen[body]++
		}
		// Those beyond -n went back, and did not go to and fro until they were given up.
		tooltest.WaitFor(t, func() error {
			one, two := nsqd.Channel("one", "c"), nsqd.Channel("two", "c")
			if one.InFlight+two.InFlight+one.Deferred+two.Deferred > 0 || int(one.Depth+two.Depth) != 100-len(seen) {
				return fmt.Errorf("after %d messages: %+v, %+v", len(seen), one, two)
			}
			return nil
		})
	}
	// The rest, until SIGTERM, over a restart of nsqd.
	p := tooltest.Start(t, "nsq_tail", append(args, "-consumer-opt=lookupd_poll_interval,50ms")...)
	p.Stdout.WaitN("\n", 40)
	nsqd.WaitEmpty("one", "c")
	nsqd.WaitEmpty("two", "c")
	nsqd.Kill()
	nsqd.Start()
	nsqd.Publish("one", "one-again")
	p.Stdout.Wait("one-again\n")
	nsqd.WaitEmpty("one", "c")
	p.Stop()
	for line := range strings.Lines(p.Stdout.String()) {
		_, body, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
		seen[body]++
	}
	if len(seen) != 101 {
		t.Errorf("%d messages shown, want 101", len(seen))
	}
	for body, n := range seen {
		if n > 1 {
			t.Errorf("%s was shown %d times", body, n)
		}
	}
}

// Through nsqlookupd, with a channel of its own, on JSON.
func TestJSON(t *testing.T) {
	lookupd := tooltest.StartLookupd(t)
	nsqd := tooltest.StartNSQD(t, lookupd.TCPAddr)
	nsqd.Publish("t", "first")
	tooltest.WaitFor(t, func() error {
		var answer struct{ Topics []string }
		if err := lookupd.GetJSON(t.Context(), "/topics", &answer); err != nil || len(answer.Topics) == 0 {
			return fmt.Errorf("topics %v: %w", answer.Topics, err)
		}
		return nil
	})
	p := tooltest.Start(t, "nsq_tail", "-topic=t", "-n=3", "--json", "--log-level=error", "-lookupd-http-address="+lookupd.HTTPAddr)
	p.Stdout.Wait(`"first"`)
	nsqd.Publish("t", "say \"hello\" <&>", "\xff\x00")
	p.ExpectExit(0)
	if text := p.Stderr.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "Adding consumer for topic: t") {
		t.Errorf("stderr %q", text)
	}
	type record struct {
		Topic, ID, NSQD string
		Timestamp       time.Time
		Attempts        int
		Body            *string
		BodyBase64      []byte `json:"body_base64"`
	}
	bodies := map[string]bool{}
	for line := range strings.Lines(p.Stdout.String()) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.Topic != "t" || len(r.ID) != 16 || r.NSQD != nsqd.TCPAddr || r.Attempts != 1 || time.Since(r.Timestamp).Abs() > time.Minute {
			t.Errorf("%+v", r)
		}
		if r.Body != nil {
			bodies[*r.Body] = true
		} else {
			bodies[string(r.BodyBase64)] = true
		}
	}
	if !bodies["first"] || !bodies["say \"hello\" <&>"] || !bodies["\xff\x00"] {
		t.Errorf("bodies %v", bodies)
	}
}

// The config file has the flags with _ for each -.
func TestConfigFile(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.Publish("t", "a", "b")
	file := t.TempDir() + "/tail.cfg"
	writeFile(t, file, fmt.Sprintf("topics = ['t']\nnsqd_tcp_addresses = ['%s']\nn = 2\nconsumer_opts = ['client_id,x', 'snappy']\nnope = 1\n", nsqd.TCPAddr))
	code, stdout, stderr := tooltest.Run(t, "", "nsq_tail", "--config="+file)
	if code != 0 || stdout != "a\nb\n" && stdout != "b\na\n" || !strings.Contains(stderr, "unknown option nope") {
		t.Errorf("exit code %d, stdout %q\n%s", code, stdout, stderr)
	}
	const strict = "--strict-config: config file: unknown option nope is ignored; arguments from here on are ignored: stray\n"
	if code, stdout, stderr := tooltest.Run(t, "", "nsq_tail", "--config="+file, "--strict-config", "stray"); code != 1 || stdout != "" || !strings.HasSuffix(stderr, strict) {
		t.Errorf("exit code %d, stdout %q\n%s", code, stdout, stderr)
	}
	writeFile(t, file, "consumer_opts = ['bogus']\n")
	if code, _, stderr := tooltest.Run(t, "", "nsq_tail", "--config="+file); code != 1 || !strings.Contains(stderr, "failed parsing consumer_opts [bogus] - invalid option bogus") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
