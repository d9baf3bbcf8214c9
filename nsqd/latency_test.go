package nsqd

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// withLatencies keeps latencies of the last minute.
func withLatencies(o *Options) {
	o.E2EProcessingLatencyPercentiles = []float64{1, 0.99, 0.5}
	o.E2EProcessingLatencyWindowTime = time.Minute
}

// get asks for an HTTP path without a socket.
func (b *bubble) get(path string) string {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.api.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if w.Code != 200 {
		b.t.Fatalf("GET %s: got %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// latency is a topic's latency in JSON, and that of its channels.
func (b *bubble) latency(topic string) (all string, channels map[string]string) {
	b.t.Helper()
	var s struct {
		Topics []struct {
			Latency  json.RawMessage `json:"e2e_processing_latency"`
			Channels []struct {
				Name    string          `json:"channel_name"`
				Latency json.RawMessage `json:"e2e_processing_latency"`
			} `json:"channels"`
		} `json:"topics"`
	}
	if err := json.Unmarshal([]byte(b.get("/stats?format=json&topic="+topic)), &s); err != nil {
		b.t.Fatal(err)
	}
	channels = make(map[string]string)
	for _, c := range s.Topics[0].Channels {
		channels[c.Name] = string(c.Latency)
	}
	return string(s.Topics[0].Latency), channels
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, withLatencies)
		producer := b.connect()
		const none = `{"count":0,"percentiles":[{"quantile":1,"value":0},{"quantile":0.99,"value":0},{"quantile":0.5,"value":0}]}`
		check := func(topic, c, d string) {
			t.Helper()
			all, channels := b.latency("t")
			nsqtest.Equal(t, all, topic)
			nsqtest.Equal(t, channels, map[string]string{"c": c, "d": d})
		}
		producer.Pub("other", "m")
		all, _ := b.latency("other")
		nsqtest.Equal(t, all, `{"count":0,"percentiles":null}`) // no channel

		c, d := b.connect().Sub("t", "c").Rdy(1), b.connect().Sub("t", "d").Rdy(1)
		check(none, none, none)
		producer.Mpub("t", "1", "2")
		time.Sleep(time.Second)
		c.Fin(c.ReadMessage().ID)
		again := c.ReadMessage()
		c.Req(again.ID, time.Second)
		c.Fin(c.ReadMessage().ID) // two seconds after its publish
		m := d.ReadMessage()
		second := d.Fin(m.ID).ReadMessage()
		d.Fin(m.ID) // which does not count
		d.ExpectError("E_FIN_FAILED FIN " + string(m.ID[:]) + " failed ID not in flight")
		synctest.Wait()
		ofC := `{"count":2,"percentiles":[{"quantile":1,"value":2000000000},{"quantile":0.99,"value":2000000000},{"quantile":0.5,"value":1002438655}]}`
		ofD := `{"count":1,"percentiles":[{"quantile":1,"value":2000000000},{"quantile":0.99,"value":2000000000},{"quantile":0.5,"value":2000000000}]}`
		both := `{"count":3,"percentiles":[{"quantile":1,"value":2000000000},{"quantile":0.99,"value":2000000000},{"quantile":0.5,"value":2000000000}]}`
		check(both, ofC, ofD)
		text := b.get("/stats?include_mem=0")
		for _, want := range []string{
			"\n   [t              ] depth: 0     be-depth: 0     msgs: 2        e2e%: 2.0s, 2.0s, 2.0s\n",
			"      [c                        ] depth: 0     be-depth: 0     inflt: 0    def: 0    re-q: 1     timeout: 0     msgs: 2        e2e%: 2.0s, 2.0s, 1.0s\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("lacks %q:\n%s", want, text)
			}
		}

		// What is older than half a window may be gone, and what is older than a
		// window is.
		time.Sleep(29 * time.Second)
		check(both, ofC, ofD)
		d.Fin(second.ID) // 31 seconds after its publish
		time.Sleep(28 * time.Second)
		synctest.Wait()
		onlyNow := `{"count":1,"percentiles":[{"quantile":1,"value":31000000000},{"quantile":0.99,"value":31000000000},{"quantile":0.5,"value":31000000000}]}`
		_, channels := b.latency("t")
		if !strings.HasPrefix(channels["d"], `{"count":2,`) {
			t.Errorf("got %s", channels["d"])
		}
		time.Sleep(2 * time.Second)
		check(onlyNow, none, onlyNow)
		time.Sleep(time.Minute)
		check(none, none, none)
	})
}

// A quantile has the rank it should have, within 1 % of the value, also when
// sketches are merged.
func TestLatencySketch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 3, 100, 10_000} {
		var parts [3]latencySketch
		values := make([]int64, n)
		for i := range values {
			values[i] = int64(math.Exp(random.Float64() * 43)) // to 4.7e18, near the largest
			parts[random.IntN(3)].add(values[i])
		}
		var s latencySketch
		for i := range parts {
			s.merge(&parts[i])
		}
		slices.Sort(values)
		for _, q := range []float64{1, 0.999, 0.99, 0.5, 0.1, 1e-9} {
			want := float64(values[max(int(math.Ceil(q*float64(n)))-1, 0)])
			if got := s.quantile(q); math.Abs(got-want) > want/100 || q == 1 && got != want {
				t.Errorf("quantile %v of %d values is %v, want %v", q, n, got, want)
			}
		}
		s.reset()
		if s.count != 0 || s.quantile(0.5) != 0 || s.quantile(1) != 0 {
			t.Error("reset leaves something")
		}
	}
}

// Every bucket contains its middle, and they follow each other without a gap.
func TestLatencyBuckets(t *testing.T) {
	for _, nanos := range []int64{0, 1, 63, 64, 65, 127, 128, 1e3, 1e6, 1e9, 3.6e12, math.MaxInt64} {
		page, i := latencyBucket(nanos)
		if i < 0 || i >= len(latencyPage{}) || page >= len(latencySketch{}.pages) {
			t.Fatalf("%d is in page %d, bucket %d", nanos, page, i)
		}
		if middle := latencyOf(page, i); math.Abs(float64(middle-nanos)) > float64(nanos)/128 {
			t.Errorf("%d is in the bucket of %v", nanos, middle)
		}
	}
	for nanos := range int64(1 << 14) {
		page, i := latencyBucket(nanos)
		nextPage, next := latencyBucket(nanos + 1)
		if nextPage == page && next != i && next != i+1 || nextPage != page && (nextPage != page+1 || next != 0 || i != 63) {
			t.Fatalf("%d is in page %d, bucket %d, the next in page %d, bucket %d", nanos, page, i, nextPage, next)
		}
	}
}

// What is switched off keeps its old defaults, whatever they are.
func TestStatisticsOptions(t *testing.T) {
	for _, c := range []struct {
		configure func(*Options)
		want      string
	}{
		{func(o *Options) { o.E2EProcessingLatencyPercentiles = []float64{0.5, 1.5} }, "invalid E2E processing latency percentile: 1.5"},
		{func(o *Options) { o.E2EProcessingLatencyPercentiles = []float64{0} }, "invalid E2E processing latency percentile: 0"},
		{func(o *Options) { o.E2EProcessingLatencyPercentiles = []float64{math.NaN()} }, "invalid E2E processing latency percentile: NaN"},
		{func(o *Options) { withLatencies(o); o.E2EProcessingLatencyWindowTime = 0 }, "--e2e-processing-latency-window-time is 0s, must be above 0"},
		{func(o *Options) { o.E2EProcessingLatencyWindowTime = 0 }, ""},
	} {
		opts := NewOptions()
		c.configure(opts)
		got := ""
		if err := opts.validateRest(); err != nil {
			got = err.Error()
		}
		nsqtest.Equal(t, got, c.want)
	}
}

func BenchmarkLatencyRecord(b *testing.B) {
	w := newLatencyWindow(clock{time.Now()}, time.Minute)
	published := make([]int64, 64)
	for i := range published {
		published[i] = time.Now().UnixNano() - int64(i)*1e6
	}
	for b.Loop() {
		w.record(published)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(published)), "ns/FIN")
}
