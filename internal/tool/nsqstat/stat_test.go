package nsqstat

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/lookup"
)

func TestRates(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(after time.Duration, nsqds map[string]nsqdSample) sample { return sample{start.Add(after), nsqds} }
	nsqd := func(started, messages, depth int64) nsqdSample {
		return nsqdSample{started, lookup.ChannelStats{Messages: messages, Depth: depth}}
	}
	for _, tt := range []struct {
		name            string
		before, now     sample
		ingress, egress int64
	}{
		{"steady", at(0, map[string]nsqdSample{"a": nsqd(1, 100, 10)}), at(2*time.Second, map[string]nsqdSample{"a": nsqd(1, 300, 50)}), 100, 80},
		{"a poll that was slow", at(0, map[string]nsqdSample{"a": nsqd(1, 0, 0)}), at(4*time.Second, map[string]nsqdSample{"a": nsqd(1, 400, 0)}), 100, 100},
		{"a hair more than the interval", at(0, map[string]nsqdSample{"a": nsqd(1, 0, 0)}), at(time.Second+time.Millisecond, map[string]nsqdSample{"a": nsqd(1, 100, 0)}), 100, 100},
		{"draining", at(0, map[string]nsqdSample{"a": nsqd(1, 50, 50)}), at(time.Second, map[string]nsqdSample{"a": nsqd(1, 50, 0)}), 0, 50},
		{"restarted", at(0, map[string]nsqdSample{"a": nsqd(1, 1000, 10)}), at(time.Second, map[string]nsqdSample{"a": nsqd(9, 30, 20)}), 30, 20},
		{"restarted within a second", at(0, map[string]nsqdSample{"a": nsqd(1, 1000, 0)}), at(time.Second, map[string]nsqdSample{"a": nsqd(1, 5, 500)}), 5, 0},
		{"one gone", at(0, map[string]nsqdSample{"a": nsqd(1, 10, 10), "b": nsqd(1, 1000, 1000)}), at(time.Second, map[string]nsqdSample{"a": nsqd(1, 20, 20)}), 10, 0},
		{"one new", at(0, map[string]nsqdSample{"a": nsqd(1, 10, 10)}), at(time.Second, map[string]nsqdSample{"a": nsqd(1, 20, 20), "b": nsqd(1, 1000, 1000)}), 10, 0},
	} {
		if l := tt.now.line(NewOptions(), tt.before); l.Ingress != tt.ingress || l.Egress != tt.egress {
			t.Errorf("%s: %d in, %d out; want %d, %d", tt.name, l.Ingress, l.Egress, tt.ingress, tt.egress)
		}
	}
}

// The head comes before the first line, and then every 25 polls.
func TestHead(t *testing.T) {
	var out bytes.Buffer
	for n := range int32(51) {
		if err := printPoll(&out, NewOptions(), n, sample{}, sample{}); err != nil {
			t.Fatal(err)
		}
	}
	var heads []int
	data := 0
	for text := range strings.Lines(out.String()) {
		switch {
		case strings.HasPrefix(text, "------"):
			heads = append(heads, data)
		case !strings.HasPrefix(text, "ingress"):
			data++
		}
	}
	if data != 50 || len(heads) != 3 || heads[0] != 0 || heads[1] != 24 || heads[2] != 49 {
		t.Errorf("%d lines, heads after %v", data, heads)
	}
}

// Numbers that are wider than their column push the others to the right.
func TestWideNumbers(t *testing.T) {
	var out bytes.Buffer
	s := sample{nsqds: map[string]nsqdSample{"a": {0, lookup.ChannelStats{
		Depth: 12345678, BackendDepth: 345678, InFlight: 1, Deferred: 2, Requeues: 3, Timeouts: 4, Messages: 5, Clients: 6}}}}
	if err := printPoll(&out, NewOptions(), 1, sample{}, s); err != nil {
		t.Fatal(err)
	}
	if want := "      0       0 | 12345678 12000000  345678     1     2 |       3       4            5       6\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}
