package metrics_test

import (
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/metrics"
	"github.com/nsq-suite/nsq/internal/metrics/metricstest"
)

// start serves the metrics of a program "test".
func start(t testing.TB, gather func(*metrics.Samples)) (url string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	api := httpapi.New(httpapi.Config{Guard: httpapi.NewGuard("test"), AccessLog: func() httpapi.AccessLog { return httpapi.AccessAll }, Log: log})
	metrics.Route(api, "test", log, gather)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return server.URL
}

func TestScrape(t *testing.T) {
	n := 0
	url := start(t, func(s *metrics.Samples) {
		n++
		depth := s.Gauge("test_depth", "Messages that wait.")
		for i := range 100 * n { // memory of the last scrape is used again, and grows
			depth.Add(float64(i), metrics.NewLabels("topic", strings.Repeat("x", i+1)))
		}
		s.Gauge("test_unused", "Never there.")
		s.Gauge("test_ready", "Whether it is.").AddBool(n%2 == 0, nil)
		s.Counter("test_messages_total", "Messages so far.").Add(7, metrics.NewLabels("channel", "c", "topic", `a"\`+"\n"))
		s.Histogram("test_latency_seconds", "From publish to FIN.").
			AddHistogram([]float64{0.5, 1}, []uint64{1, 2, 3}, 12.5, nil)
	})
	for i := range 3 {
		got := metricstest.Scrape(t, url+"/metrics")
		got.Check(t, metricstest.Values{
			`test_depth{topic="x"}`:   0,
			`test_depth{topic="xxx"}`: 2,
			"test_ready":              float64(i % 2),
			`test_messages_total{channel="c",topic="a\"\\\n"}`:                       7,
			"test_latency_seconds_count":                                             6,
			"test_latency_seconds_sum":                                               12.5,
			`test_latency_seconds_bucket{le="0.5"}`:                                  1,
			`test_latency_seconds_bucket{le="1"}`:                                    3,
			`test_latency_seconds_bucket{le="+Inf"}`:                                 6,
			`test_build_info{goversion="` + runtime.Version() + `",version="1.3.0"}`: 1,
		})
		if i > 0 {
			got.Check(t, metricstest.Values{`test_http_requests_total{code="404",method="",route=""}`: float64(i)})
		}
		for _, name := range []string{"go_goroutines", "process_cpu_seconds_total", "go_memstats_heap_inuse_bytes"} {
			if _, ok := got[name]; !ok && runtime.GOOS == "linux" {
				t.Errorf("no %s", name)
			}
		}
		if count := countPrefix(got, "test_depth{"); count != 100*(i+1) {
			t.Errorf("got %d samples of test_depth", count)
		}
		if countPrefix(got, "test_unused") != 0 {
			t.Error("got a family without samples")
		}
		if resp, err := http.Get(url + "/nope"); err != nil {
			t.Fatal(err)
		} else if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func countPrefix(v metricstest.Values, prefix string) (n int) {
	for key := range v {
		if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n
}

// OpenMetrics is another text, for those who ask for it.
func TestOpenMetrics(t *testing.T) {
	url := start(t, func(s *metrics.Samples) {
		s.Counter("test_messages_total", "Messages so far.").Add(math.MaxUint32, nil)
	})
	req, err := http.NewRequest(http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("got %s", got)
	}
	for _, want := range []string{
		"# HELP test_messages Messages so far.\n# TYPE test_messages counter\ntest_messages_total 4.294967295e+09\n",
		"\n# EOF\n",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("lacks %q:\n%s", want, body)
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	labels := make([]metrics.Labels, 10_000)
	for i := range labels {
		labels[i] = metrics.NewLabels("channel", "channel", "topic", "topic-"+string(rune('a'+i%26)))
	}
	h := metrics.Handler("test", slog.New(slog.DiscardHandler), func(s *metrics.Samples) {
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			f := s.Gauge("test_"+name, "Some value.")
			for i, l := range labels {
				f.Add(float64(i), l)
			}
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
}
