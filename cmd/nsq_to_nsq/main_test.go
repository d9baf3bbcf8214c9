//go:build unix

package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

func TestMain(m *testing.M) { tooltest.Main(m, "nsq_to_nsq", main) }

func TestOutcomes(t *testing.T) {
	const nobody, destination = "--nsqd-tcp-address=127.0.0.1:1", "--destination-nsqd-tcp-address=127.0.0.1:1"
	tooltest.Check(t, "nsq_to_nsq", []tooltest.Outcome{
		tooltest.Ends(0, "nsq_to_nsq v1.3.0\n", `^$`, "-version"),
		tooltest.Ends(0, "", `(?s)^Usage of nsq_to_nsq:\n.*--whitelist-json-field.*\nExamples:\n`, "-h"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -producer-opt: invalid option x\n`, "-producer-opt=x"),
		tooltest.Refuses("--topic and --channel are required"),
		tooltest.Refuses("--topic and --channel are required", "-topic=t", "-channel="),
		tooltest.Refuses("--topic is invalid", "-topic=t", "-topic=*", "-destination-topic=*"),
		tooltest.Refuses("--destination-topic is invalid", "-topic=t", "-destination-topic=*", "-channel=*"),
		tooltest.Refuses("--channel is invalid", "-topic=t", "-channel=*"),
		tooltest.Refuses("--nsqd-tcp-address or --lookupd-http-address required", "-topic=t"),
		tooltest.Refuses("use --nsqd-tcp-address or --lookupd-http-address not both", "-topic=t", nobody, "--lookupd-http-address=a:1"),
		tooltest.Refuses("--destination-nsqd-tcp-address required", "-topic=t", nobody),
		tooltest.Refuses("failed creating producer HeartbeatInterval 2m0s must be less than ReadTimeout 1m0s", "-topic=t", nobody, destination, "-producer-opt=heartbeat_interval,2m"),
		tooltest.Ends(1, "", ` invalid MaxInFlight ! -1 < 0\n$`, "-topic=t", nobody, destination, "-max-in-flight=-1"),
		tooltest.Ends(1, "", `connection refused\n$`, "-topic=t", nobody, destination),
	})
}

// hasty are settings with which failures are tried again soon.
var hasty = []string{
	"--consumer-opt=default_requeue_delay,5ms", "--consumer-opt=backoff_multiplier,1ms",
	"--consumer-opt=max_backoff_duration,20ms", "--consumer-opt=lookupd_poll_interval,50ms",
}

// Two topics go to two destinations, in turn; one destination is away for a while,
// the source is killed, and so is the tool. Nothing is lost.
func TestKills(t *testing.T) {
	const durable, sync, soon = "--mem-queue-size=0", "--sync-every=1", "--msg-timeout=500ms"
	source := tooltest.StartNSQD(t, "", durable, sync, soon)
	one, two := tooltest.StartNSQD(t, "", durable, sync), tooltest.StartNSQD(t, "", durable, sync)
	for _, topic := range []string{"a", "b"} {
		source.CreateChannel(topic, "nsq_to_nsq")
		one.CreateChannel(topic, "book")
		two.CreateChannel(topic, "book")
	}
	args := append(hasty, "--topic=a", "--topic=b", "--mode=round-robin", "--nsqd-tcp-address="+source.TCPAddr,
		"--destination-nsqd-tcp-address="+one.TCPAddr, "--destination-nsqd-tcp-address="+two.TCPAddr, "--log-level=error")
	messages := map[string][]string{"a": tooltest.Numbered("a", 3000), "b": tooltest.Numbered("b", 3000)}
	publish := func(from, to int) {
		t.Helper()
		for topic, list := range messages {
			source.Publish(topic, list[from:to]...)
		}
	}
	arrived := func(n int) {
		t.Helper()
		tooltest.WaitFor(t, func() error {
			sum := 0
			for _, nsqd := range []*tooltest.NSQD{one, two} {
				for topic := range messages {
					sum += int(nsqd.Channel(topic, "book").Depth)
				}
			}
			if sum < n {
				return fmt.Errorf("%d messages", sum)
			}
			return nil
		})
	}
	p := tooltest.Start(t, "nsq_to_nsq", args...)
	publish(0, 1000)
	arrived(200)
	source.Kill()
	source.Start()
	publish(1000, 2000)
	arrived(2200)
	p.Kill()
	p = tooltest.Start(t, "nsq_to_nsq", args...)
	publish(2000, 3000)
	arrived(4200)
	two.Kill()
	p.Stderr.Wait(`handler returned an error `)
	two.Start()
	for topic := range messages {
		source.WaitEmpty(topic, "nsq_to_nsq")
	}
	p.Stop()
	for topic, list := range messages {
		var book tooltest.Book
		for _, nsqd := range []*tooltest.NSQD{one, two} {
			for _, m := range nsqd.Drain(topic, "book") {
				book.Add(m)
			}
		}
		// What the source had not noted as finished when it was killed, and what was
		// in flight in the tool or on its way to the destination, goes twice.
		book.Balance(t, list, 1000+200+200)
	}
}

func TestFilterAndRename(t *testing.T) {
	source, far := tooltest.StartNSQD(t, ""), tooltest.StartNSQD(t, "")
	far.CreateChannel("z", "book")
	source.Publish("a", `{"keep":"yes","n":9007199254740993,"x":1}`, `{"keep":"no"}`, `not json but `+strings.Repeat("long", 1000), `{"n":1}`)
	source.Publish("b", `{"n":2,"keep":"yes"}`)
	p := tooltest.Start(t, "nsq_to_nsq", "--topic=a", "--topic=b", "--destination-topic=z", "--nsqd-tcp-address="+source.TCPAddr,
		"--destination-nsqd-tcp-address="+far.TCPAddr, "--require-json-field=keep", "--require-json-value=yes",
		"--whitelist-json-field=keep", "--whitelist-json-field=n", "--progress=always", "--status-every=1", "--mode=any")
	source.WaitEmpty("a", "nsq_to_nsq")
	source.WaitEmpty("b", "nsq_to_nsq")
	p.Stop()
	var book tooltest.Book
	for _, m := range far.Drain("z", "book") {
		book.Add(m)
	}
	book.Balance(t, []string{`{"keep":"yes","n":9007199254740993}`, `{"n":2,"keep":"yes"}`}, 0)
	for _, pattern := range []string{
		`WARNING: --mode "any" is not known, round-robin is used`,
		`ERROR: Unable to decode json: "not json but long.{80,90}" \(4013 bytes\)`,
		`\[aggregate\]: finished 1 - 99th: `,
		`nsq_to_nsq: 2 messages published, `,
	} {
		if !regexp.MustCompile(pattern).MatchString(p.Stderr.String()) {
			t.Errorf("stderr lacks %s:\n%s", pattern, p.Stderr)
		}
	}
	if strings.Contains(p.Stderr.String(), "backing off") {
		t.Errorf("messages that do not match slow the others:\n%s", p.Stderr)
	}
}

// The order of messages is kept on the way to one destination, through nsqlookupd.
func TestOrder(t *testing.T) {
	lookupd := tooltest.StartLookupd(t)
	source, far := tooltest.StartNSQD(t, lookupd.TCPAddr), tooltest.StartNSQD(t, "")
	far.CreateChannel("t", "book")
	source.CreateChannel("t", "nsq_to_nsq")
	messages := tooltest.Numbered("m", 1000)
	p := tooltest.Start(t, "nsq_to_nsq", "--topic=t", "--lookupd-http-address="+lookupd.HTTPAddr, "--consumer-opt=lookupd_poll_interval,20ms",
		"--destination-nsqd-tcp-address="+far.TCPAddr)
	source.Publish("t", messages...)
	tooltest.WaitFor(t, func() error {
		if c := far.Channel("t", "book"); c.Depth < 1000 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	p.Stop()
	for i, m := range far.Drain("t", "book") {
		if m != messages[i] {
			t.Fatalf("%s comes instead of %s", m, messages[i])
		}
	}
}

// A message that would go round is warned of.
func TestLoop(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	p := tooltest.Start(t, "nsq_to_nsq", "--topic=t", "--nsqd-tcp-address="+nsqd.TCPAddr, "--destination-nsqd-tcp-address="+nsqd.TCPAddr)
	p.Stderr.Wait("WARNING: " + regexp.QuoteMeta(nsqd.TCPAddr) + " is source and destination of the same topic: its messages go round for ever")
	p.Stderr.Wait("connecting to nsqd")
	p.Stop()
}
