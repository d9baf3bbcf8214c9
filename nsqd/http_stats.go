package nsqd

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/version"
)

// getStats answers GET /stats.
func (n *NSQD) getStats(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	httpapi.DiscardBody(r)
	params, err := httpapi.Query(r)
	if err != nil {
		return nil, err
	}
	f := statsFilter{latency: true, clients: boolParam(params, "include_clients"), memory: boolParam(params, "include_mem")}
	f.topic, _ = params.Get("topic")
	f.channel, _ = params.Get("channel")
	s := n.stats(f)
	if format, _ := params.Get("format"); format == "json" {
		return s, nil
	}
	return s.text(n.started, time.Since(n.started)), nil
}

// boolParam returns whether a parameter does not say no.
func boolParam(params httpapi.Params, key string) bool {
	value, _ := params.Get(key)
	return value != "false" && value != "0"
}

// text is the form for people. Scripts read its columns. Source: nsqd HTTP API,
// /stats, text document.
func (s *stats) text(started time.Time, uptime time.Duration) []byte {
	w := new(bytes.Buffer)
	fmt.Fprintln(w, version.String("nsqd"))
	fmt.Fprintf(w, "start_time %s\n", started.Format(time.RFC3339))
	fmt.Fprintf(w, "uptime %s\n", uptime)
	fmt.Fprintf(w, "\nHealth: %s\n", s.Health)
	if s.Drain != nil {
		fmt.Fprintf(w, "Draining: publishes refused: %t, messages left: %d\n", s.Drain.Refusing, s.Drain.Left)
	}
	if s.Memory != nil {
		s.Memory.text(w)
	}
	now := started.Add(uptime)
	if len(s.Topics) == 0 {
		fmt.Fprint(w, "\nTopics: None\n")
	} else {
		fmt.Fprint(w, "\nTopics:")
		for _, t := range s.Topics {
			t.text(w, now)
		}
	}
	if len(s.Producers) == 0 {
		fmt.Fprint(w, "\nProducers: None\n")
	} else {
		fmt.Fprint(w, "\nProducers:\n")
		for _, c := range s.Producers {
			fmt.Fprintf(w, "   %s\n", c.producerText(now))
		}
	}
	return w.Bytes()
}

func (m *memoryStats) text(w *bytes.Buffer) {
	fmt.Fprint(w, "\nMemory:\n")
	for _, row := range []struct {
		name  string
		value uint64
	}{
		{"heap_objects", m.HeapObjects},
		{"heap_idle_bytes", m.HeapIdleBytes},
		{"heap_in_use_bytes", m.HeapInUseBytes},
		{"heap_released_bytes", m.HeapReleasedBytes},
		{"gc_pause_usec_100", m.GCPauseUsec100},
		{"gc_pause_usec_99", m.GCPauseUsec99},
		{"gc_pause_usec_95", m.GCPauseUsec95},
		{"next_gc_bytes", m.NextGCBytes},
		{"gc_total_runs", m.GCTotalRuns},
	} {
		fmt.Fprintf(w, "   %-25s\t%d\n", row.name, row.value)
	}
}

// mark returns what stands before a topic or channel.
func mark(paused bool) string {
	if paused {
		return "*P "
	}
	return "   "
}

// text writes the topic, after the line before it, and its channels.
func (t *topicStats) text(w *bytes.Buffer, now time.Time) {
	fmt.Fprintf(w, "\n%s[%-15s] depth: %-5d be-depth: %-5d msgs: %-8d e2e%%: %s\n",
		mark(t.Paused), t.Name, t.Depth, t.BackendDepth, t.Messages, t.Latency.text())
	for _, c := range t.Channels {
		fmt.Fprintf(w, "   %s[%-25s] depth: %-5d be-depth: %-5d inflt: %-4d def: %-4d re-q: %-5d timeout: %-5d msgs: %-8d e2e%%: %s\n",
			mark(c.Paused), c.Name, c.Depth, c.BackendDepth, c.InFlight, c.Deferred, c.Requeued, c.Timeouts, c.Messages, c.Latency.text())
		for _, client := range c.Clients {
			fmt.Fprintf(w, "        %s\n", client.consumerText(now))
		}
	}
}

func (c *clientStats) consumerText(now time.Time) string {
	return fmt.Sprintf("[V2 %-21s] state: %d inflt: %-4d rdy: %-4d fin: %-8d re-q: %-8d msgs: %-8d connected: %s",
		c.label(), c.State, c.InFlight, c.Ready, c.Finished, c.Requeued, c.Messages, c.age(now))
}

// producerText counts what the client has published, to all topics that are
// listed together and to each.
func (c *clientStats) producerText(now time.Time) string {
	var total uint64
	topics := make([]string, len(c.PubCounts))
	for i, p := range c.PubCounts {
		total += p.Count
		topics[i] = fmt.Sprintf("%s=%d", p.Topic, p.Count)
	}
	return fmt.Sprintf("[V2 %-21s] msgs: %-8d topics: %s connected: %s", c.label(), total, strings.Join(topics, ","), c.age(now))
}

// label is host name, remote port and user agent.
func (c *clientStats) label() string {
	_, port, err := net.SplitHostPort(c.RemoteAddress)
	if err != nil {
		port = "" // a Unix socket
	}
	return c.Hostname + ":" + port + " " + c.UserAgent
}

func (c *clientStats) age(now time.Time) time.Duration {
	return max(now.Sub(time.Unix(c.Connected, 0)).Truncate(time.Second), 0)
}

func (l *latencyStats) text() string {
	list := make([]string, len(l.Percentiles))
	for i, p := range l.Percentiles {
		list[i] = nanosText(p.Value)
	}
	return strings.Join(list, ", ")
}

// nanosText prints nanoseconds in the largest unit of which there is more than
// one, with one decimal.
func nanosText(nanos float64) string {
	for _, unit := range []struct {
		nanos float64
		name  string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}} {
		if nanos > unit.nanos {
			return fmt.Sprintf("%.1f%s", nanos/unit.nanos, unit.name)
		}
	}
	return fmt.Sprintf("%.1fns", nanos)
}
