package nsqd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A receiver stands for the network between nsqd and statsd: it notes what is sent
// when, on the clock of a bubble.
type receiver struct {
	net.Conn
	start time.Time

	mu       sync.Mutex
	unknown  error // the address cannot be resolved
	refusing error // packets cannot be sent
	sent     []string
	at       []time.Duration
}

func (r *receiver) dial(context.Context) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r, r.unknown
}

func (r *receiver) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusing != nil {
		return 0, r.refusing
	}
	r.sent = append(r.sent, string(p))
	r.at = append(r.at, time.Since(r.start))
	return len(p), nil
}

func (r *receiver) Close() error { return nil }

func (r *receiver) fail(unknown, refusing error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unknown, r.refusing = unknown, refusing
}

// take returns what was sent since it was called last, and when.
func (r *receiver) take() (packets []string, at []time.Duration) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	packets, at = r.sent, r.at
	r.sent, r.at = nil, nil
	return packets, at
}

// startStatsdBubble runs a daemon that pushes to a receiver every minute.
func startStatsdBubble(t *testing.T, configure func(*Options)) (*bubble, *receiver) {
	t.Helper()
	r := &receiver{start: time.Now()}
	b := startBubble(t, func(o *Options) {
		o.StatsdAddress, o.StatsdMemStats = "statsd.example:8125", false
		o.BroadcastAddress, o.BroadcastHTTPPort = "10.0.0.1", 4151
		if configure != nil {
			configure(o)
		}
	}, func(n *NSQD) { n.statsd.dial = r.dial })
	return b, r
}

// Names, order and values, to the byte.
func TestStatsd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := startStatsdBubble(t, func(o *Options) { withLatencies(o); o.MsgTimeout = 90 * time.Second })
		consumer := b.connect().Sub("b", "d").Rdy(3)
		b.connect().Sub("b", "c#ephemeral")
		b.connect().Pub("a", "12345").Mpub("b", "1", "22", "333")
		time.Sleep(time.Second)
		consumer.Fin(consumer.ReadMessage().ID).Req(consumer.ReadMessage().ID, time.Hour).ReadMessage() // which times out, after the client
		synctest.Wait()
		if packets, _ := r.take(); len(packets) > 0 {
			t.Errorf("before its time: %q", packets)
		}
		time.Sleep(59 * time.Second)
		packets, at := r.take()
		const first = `topic.a.message_count:1|c
topic.a.message_bytes:5|c
topic.a.depth:1|g
topic.a.backend_depth:0|g
topic.b.message_count:3|c
topic.b.message_bytes:6|c
topic.b.depth:0|g
topic.b.backend_depth:0|g
topic.b.e2e_processing_latency_100:0|g
topic.b.e2e_processing_latency_99:0|g
topic.b.e2e_processing_latency_50:0|g
topic.b.channel.c#ephemeral.message_count:3|c
topic.b.channel.c#ephemeral.depth:3|g
topic.b.channel.c#ephemeral.backend_depth:0|g
topic.b.channel.c#ephemeral.in_flight_count:0|g
topic.b.channel.c#ephemeral.deferred_count:0|g
topic.b.channel.c#ephemeral.requeue_count:0|c
topic.b.channel.c#ephemeral.timeout_count:0|c
topic.b.channel.c#ephemeral.clients:1|g
topic.b.channel.c#ephemeral.e2e_processing_latency_100:0|g
topic.b.channel.c#ephemeral.e2e_processing_latency_99:0|g
topic.b.channel.c#ephemeral.e2e_processing_latency_50:0|g
topic.b.channel.d.message_count:3|c
topic.b.channel.d.depth:0|g
topic.b.channel.d.backend_depth:0|g
topic.b.channel.d.in_flight_count:1|g
topic.b.channel.d.deferred_count:1|g
topic.b.channel.d.requeue_count:1|c
topic.b.channel.d.timeout_count:0|c
topic.b.channel.d.clients:1|g
topic.b.channel.d.e2e_processing_latency_100:0|g
topic.b.channel.d.e2e_processing_latency_99:0|g
topic.b.channel.d.e2e_processing_latency_50:0|g
`
		want := prefixed("nsq.10_0_0_1_4151.", first)
		nsqtest.Equal(t, at, []time.Duration{time.Minute})
		time.Sleep(59 * time.Second)
		more, atMore := r.take()
		nsqtest.Equal(t, strings.Join(append(packets, more...), ""), want)
		checkPackets(t, append(packets, more...), 508)
		// One after the other, the last one early enough for the next push.
		gap := 59 * time.Second / time.Duration(len(more)+1)
		for i, at := range atMore {
			nsqtest.Equal(t, at, time.Minute+time.Duration(i+1)*gap)
		}

		// Counters are differences, gauges are not.
		b.connect().Pub("a", "66")
		time.Sleep(59 * time.Second)
		packets, _ = r.take()
		got := strings.Join(packets, "")
		for _, want := range []string{"topic.a.message_count:1|c\n", "topic.a.message_bytes:2|c\n", "topic.a.depth:2|g\n", "topic.b.message_bytes:0|c\n", "channel.d.requeue_count:0|c\n", "channel.d.timeout_count:1|c\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("lacks %q:\n%s", want, got)
			}
		}
	})
}

// prefixed puts prefix before each line.
func prefixed(prefix, lines string) string {
	return prefix + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n"+prefix) + "\n"
}

// checkPackets checks that packets are full and have whole lines.
func checkPackets(t *testing.T, packets []string, size int) {
	t.Helper()
	for i, p := range packets {
		if len(p) > size || !strings.HasSuffix(p, "\n") {
			t.Errorf("packet of %d bytes: %q", len(p), p)
		}
		if i > 0 && len(packets[i-1])+strings.IndexByte(p, '\n')+1 <= size {
			t.Errorf("%q would have fitted into the packet before", p)
		}
	}
}

func TestStatsdExcludesEphemeral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := startStatsdBubble(t, func(o *Options) { o.StatsdExcludeEphemeral, o.StatsdPrefix, o.StatsdUDPPacketSize = true, "", 0 })
		b.connect().Sub("t", "c#ephemeral")
		b.connect().Sub("u#ephemeral", "c")
		time.Sleep(time.Minute)
		packets, _ := r.take()
		nsqtest.Equal(t, packets, []string{"topic.t.message_count:0|c\ntopic.t.message_bytes:0|c\ntopic.t.depth:0|g\ntopic.t.backend_depth:0|g\n"})
	})
}

// A topic that was deleted and created again starts at 0: no difference is
// negative, nor too small because the name is the same.
func TestStatsdOfTopicCreatedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := startStatsdBubble(t, nil)
		count := func() string {
			time.Sleep(time.Minute)
			packets, _ := r.take()
			got, _, _ := strings.Cut(packets[0], "\n")
			return got
		}
		producer := b.connect()
		producer.Mpub("t", "1", "2", "3")
		nsqtest.Equal(t, count(), "nsq.10_0_0_1_4151.topic.t.message_count:3|c")
		for _, n := range []int{2, 4} {
			if err := b.deleteTopic(b.topic("t")); err != nil {
				t.Fatal(err)
			}
			producer.Mpub("t", strings.Split(strings.Repeat("x", n), "")...)
			nsqtest.Equal(t, count(), fmt.Sprintf("nsq.10_0_0_1_4151.topic.t.message_count:%d|c", n))
		}
	})
}

// An address that cannot be resolved costs no counts, and lost packets are not
// passed over in silence.
func TestStatsdOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged logLines
		b, r := startStatsdBubble(t, func(o *Options) {
			o.StatsdPrefix = "x"
			o.Logger = logging.New(&logged, "", slog.LevelInfo)
		})
		b.connect().Mpub("t", "1", "2", "3")
		r.fail(errors.New("no such host"), nil)
		time.Sleep(time.Minute)
		r.take()
		r.fail(nil, nil)
		time.Sleep(time.Minute)
		packets, _ := r.take()
		nsqtest.Equal(t, packets, []string{"x.topic.t.message_count:3|c\nx.topic.t.message_bytes:3|c\nx.topic.t.depth:3|g\nx.topic.t.backend_depth:0|g\n"})
		r.fail(nil, errors.New("connection refused"))
		time.Sleep(3 * time.Minute)
		r.take()
		r.fail(nil, nil)
		time.Sleep(time.Minute)
		r.take()
		if n := b.statsd.sendErrors.Load(); n != 3 {
			t.Errorf("counted %d errors, want 3", n)
		}
		for text, want := range map[string]int{
			"ERROR: failed to create UDP socket to statsd(statsd.example:8125)": 1,
			"WARNING: STATSD: packets to statsd.example:8125 are lost":          1,
			"INFO: STATSD: packets to statsd.example:8125 are sent again":       1,
			"INFO: STATSD: pushing stats to statsd.example:8125\n":              5,
		} {
			if got := strings.Count(logged.String(), text); got != want {
				t.Errorf("%q is in the log %d times, want %d:\n%s", text, got, want, logged.String())
			}
		}
	})
}

// An interval of a second or less leaves no time to spread packets over; they all
// go at once. A stop sends what is left without waiting.
func TestStatsdInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := startStatsdBubble(t, func(o *Options) { o.StatsdInterval, o.StatsdUDPPacketSize = time.Second/2, 1 })
		b.connect().Pub("t", "m")
		time.Sleep(time.Second)
		packets, at := r.take()
		const ms500 = 500 * time.Millisecond
		nsqtest.Equal(t, at, []time.Duration{ms500, ms500, ms500, ms500, 2 * ms500, 2 * ms500, 2 * ms500, 2 * ms500})
		nsqtest.Equal(t, packets[0], "nsq.10_0_0_1_4151.topic.t.message_count:1|c\n")
	})
	synctest.Test(t, func(t *testing.T) {
		b, r := startStatsdBubble(t, func(o *Options) { o.StatsdUDPPacketSize = 1 })
		b.connect().Pub("t", "m")
		time.Sleep(time.Minute)
		if packets, _ := r.take(); len(packets) != 1 {
			t.Errorf("got %q, want one packet so far", packets)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		_, at := r.take()
		nsqtest.Equal(t, at, []time.Duration{time.Minute, time.Minute, time.Minute})
	})
}

func TestStatsdPrefix(t *testing.T) {
	for _, c := range []struct{ prefix, address, want string }{
		{"nsq.%s", "10.0.0.1", "nsq.10_0_0_1_4151."},
		{"%s.nsq.%s.", "host.example", "host_example_4151.nsq.host_example_4151."},
		{"%s", "::1", "[__1]_4151."},
		{"nsq", "h", "nsq."},
		{"", "h", ""},
	} {
		nsqtest.Equal(t, statsdPrefix(&Options{StatsdPrefix: c.prefix, BroadcastAddress: c.address, BroadcastHTTPPort: 4151}), c.want)
	}
}

// Percentiles have names of their own, also where whole percents do not tell them
// apart.
func TestPercentName(t *testing.T) {
	for quantile, want := range map[float64]string{1: "100", 0.99: "99", 0.5: "50", 0.07: "7", 0.29: "29", 0.999: "99_9", 0.9999: "99_99", 0.005: "0_5"} {
		nsqtest.Equal(t, percentName(quantile), want)
	}
}

// The whole way, to a real UDP socket.
func TestStatsdOverUDP(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	d := startDaemon(t, func(o *Options) {
		o.StatsdAddress, o.StatsdInterval, o.StatsdPrefix = socket.LocalAddr().String(), 50*time.Millisecond, "nsq.%s"
	})
	d.post("/pub?topic=t", "m", "OK")
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf("nsq.127_0_0_1_%d.", boundPort(d.http))
	want := []string{"topic.t.message_count", "topic.t.message_bytes", "topic.t.depth", "topic.t.backend_depth", "mem.heap_objects", "mem.heap_idle_bytes",
		"mem.heap_in_use_bytes", "mem.heap_released_bytes", "mem.gc_pause_usec_100", "mem.gc_pause_usec_99", "mem.gc_pause_usec_95", "mem.next_gc_bytes", "mem.gc_runs"}
	buf := make([]byte, 4096)
	var got []string
	for len(got) < len(want) {
		n, _, err := socket.ReadFrom(buf)
		if err != nil {
			t.Fatalf("%v; got %q so far", err, got)
		}
		for line := range strings.Lines(string(buf[:n])) {
			name, ok := strings.CutPrefix(line, prefix)
			if !ok || !strings.HasSuffix(line, "\n") {
				t.Fatalf("got %q", line)
			}
			name, _, _ = strings.Cut(name, ":")
			if len(got) > 0 || name == want[0] { // a push before the topic came has no line of it
				got = append(got, name)
			}
		}
	}
	nsqtest.Equal(t, got, want)
}
