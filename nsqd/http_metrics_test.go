package nsqd

import (
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/metrics/metricstest"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// metrics asks for /metrics without a socket and lints what comes.
func (b *bubble) metrics() metricstest.Values {
	b.t.Helper()
	synctest.Wait()
	return metricstest.Parse(b.t, []byte(b.get("/metrics")))
}

// own leaves out what every program tells.
func own(v metricstest.Values) metricstest.Values {
	maps.DeleteFunc(v, func(name string, _ float64) bool {
		return !strings.HasPrefix(name, "nsqd_") || strings.HasPrefix(name, "nsqd_build_info")
	})
	return v
}

// All there is, after known traffic.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t, withLatencies)
		nsqtest.Equal(t, own(b.metrics()), metricstest.Values{
			"nsqd_ready": 1, "nsqd_draining": 0, "nsqd_failing_queues": 0, "nsqd_disk_write_errors_total": 0,
			"nsqd_connections": 0, "nsqd_connections_accepted_total": 0, "nsqd_connections_refused_total": 0,
			"nsqd_topics": 0, "nsqd_metrics_omitted_topics": 0,
			"nsqd_disk_syncs_total": 0, "nsqd_disk_sync_errors_total": 0, "nsqd_disk_sync_seconds_total": 0,
			"nsqd_disk_damaged_records": 0, "nsqd_disk_damaged_bytes": 0, "nsqd_disk_damaged_files": 0,
		})
		consumer, leaving := b.connect().Sub("t", "c").Rdy(4), b.connect().Sub("t", "d#ephemeral").Rdy(1)
		b.connect().Mpub("t", "1", "22", "333", "4444", "55555").Dpub("t", time.Hour, "666666").Close()
		consumer.Fin(consumer.ReadMessage().ID)
		time.Sleep(2 * time.Second)
		consumer.Fin(consumer.ReadMessage().ID).Req(consumer.ReadMessage().ID, time.Hour)
		leaving.Fin(leaving.ReadMessage().ID)
		b.connect().Pub("other", "m")
		b.expect("POST", "/topic/pause?topic=other", "", 200, "")
		b.expect("POST", "/pub?topic=other", "", 400, `{"message":"MSG_EMPTY"}`)
		b.expect("POST", "/pub?topic=other", "m", 200, "OK")
		b.Drain()
		want := metricstest.Values{
			"nsqd_ready": 0, "nsqd_draining": 1, "nsqd_connections": 3, "nsqd_connections_accepted_total": 4,
			"nsqd_topics":                                                     2,
			`nsqd_topic_messages_total{topic="t"}`:                            6,
			`nsqd_topic_message_bytes_total{topic="t"}`:                       21,
			`nsqd_topic_depth{topic="t"}`:                                     0,
			`nsqd_topic_depth{topic="other"}`:                                 2,
			`nsqd_topic_backend_depth{topic="other"}`:                         0,
			`nsqd_topic_paused{topic="t"}`:                                    0,
			`nsqd_topic_paused{topic="other"}`:                                1,
			`nsqd_http_requests_total{code="200",method="POST",route="/pub"}`: 1,
			`nsqd_http_requests_total{code="400",method="POST",route="/pub"}`: 1,
		}
		for name, value := range map[string]float64{
			"messages_total": 6, "deliveries_total": 5, "finished_messages_total": 2, "requeues_total": 1, "timeouts_total": 0, "discarded_messages_total": 0,
			"depth": 0, "backend_depth": 0, "in_flight_messages": 2, "deferred_messages": 2, "clients": 1, "paused": 0,
			"e2e_processing_latency_seconds_count": 2, "e2e_processing_latency_seconds_sum": 2,
		} {
			want["nsqd_channel_"+name+`{channel="c",topic="t"}`] = value
		}
		bucket := func(le string) string {
			return `nsqd_channel_e2e_processing_latency_seconds_bucket{channel="c",topic="t",le="` + le + `"}`
		}
		want[bucket("0.0001")], want[bucket("1")], want[bucket("2.5")], want[bucket("+Inf")] = 1, 1, 2, 2
		b.metrics().Check(t, want)

		// What a consumer has done stays when it leaves.
		consumer.Close()
		b.metrics().Check(t, metricstest.Values{
			`nsqd_channel_deliveries_total{channel="c",topic="t"}`:        5,
			`nsqd_channel_finished_messages_total{channel="c",topic="t"}`: 2,
			`nsqd_channel_clients{channel="c",topic="t"}`:                 0,
		})
		// What was recorded too long ago for percentiles still counts here.
		time.Sleep(50 * time.Second)
		b.drainOf("DELETE")
		time.Sleep(2 * time.Minute)
		b.metrics().Check(t, metricstest.Values{
			"nsqd_draining": 0,
			"nsqd_ready":    1,
			bucket("+Inf"):  2,
			`nsqd_channel_timeouts_total{channel="c",topic="t"}`:                     2,
			`nsqd_channel_depth{channel="c",topic="t"}`:                              2,
			`nsqd_channel_e2e_processing_latency_seconds_sum{channel="c",topic="t"}`: 2,
		})
		b.expect("POST", "/channel/empty?topic=t&channel=c", "", 200, "")
		b.expect("POST", "/topic/empty?topic=other", "", 200, "")
		b.metrics().Check(t, metricstest.Values{
			`nsqd_channel_discarded_messages_total{channel="c",topic="t"}`: 4,
			`nsqd_topic_discarded_messages_total{topic="other"}`:           2,
		})
	})
}

func TestMetricsOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t, func(o *Options) { o.MemQueueSize = 0; o.StatsdAddress = "statsd.example:8125" })
		disk := useFailing(b.NSQD)
		disk.fail(fullDisk("t"))
		b.connect().CommandBody("m", "PUB", "t").ExpectError("E_PUB_FAILED PUB failed " + fullDisk("t").Error())
		b.metrics().Check(t, metricstest.Values{"nsqd_failing_queues": 1, "nsqd_ready": 0, "nsqd_statsd_send_errors_total": 0})
		if n := b.metrics()["nsqd_disk_write_errors_total"]; n < 1 {
			t.Errorf("%v errors counted", n)
		}
		b.health.failed(newQueue(b.env, "q", false), 1, errors.New("x"))
		b.metrics().Check(t, metricstest.Values{"nsqd_failing_queues": 2})
	})
}

// Topics beyond the limit are left out, by name, and counted.
func TestMetricsMaxTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t, func(o *Options) { o.MetricsMaxTopics = 2 })
		for _, name := range []string{"d", "a", "c", "b"} {
			b.connect().Sub(name, "ch")
		}
		got := b.metrics()
		got.Check(t, metricstest.Values{"nsqd_topics": 4, "nsqd_metrics_omitted_topics": 2})
		var topics []string
		for _, key := range slices.Sorted(maps.Keys(got)) {
			if name, ok := strings.CutPrefix(key, "nsqd_channel_depth"); ok {
				topics = append(topics, name)
			}
		}
		nsqtest.Equal(t, topics, []string{`{channel="ch",topic="a"}`, `{channel="ch",topic="b"}`})
	})
}

// Over a real socket, with an nsqlookupd that is not there.
func TestMetricsOverHTTP(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.NSQLookupdTCPAddresses = []string{"127.0.0.1:1"}; o.MaxConnections = 1 })
	d.dial().Pub("t", "m")
	d.dial().ExpectClosed()
	metricstest.Scrape(t, d.url("/metrics")).Check(t, metricstest.Values{
		"nsqd_connections": 1, "nsqd_connections_accepted_total": 1, "nsqd_connections_refused_total": 1,
		`nsqd_lookupd_connected{lookupd="127.0.0.1:1"}`: 0,
		`nsqd_topic_depth{topic="t"}`:                   1,
	})
	resp, _ := d.request("POST", "/metrics", "")
	nsqtest.Equal(t, resp.StatusCode, 405)
}

// What a scrape and a look at /stats cost with ten thousand topics.
func BenchmarkManyTopics(b *testing.B) {
	const topics = 10_000
	opts := NewOptions()
	opts.DataPath = b.TempDir()
	n, err := newNSQD(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer n.lock.release()
	for i := range topics {
		t, err := n.addTopic(fmt.Sprintf("topic-%05d", i))
		if err == nil {
			_, err = t.GetChannel("channel")
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, path := range []string{"/metrics", "/stats?format=json", "/stats?format=json&include_clients=false&include_mem=false", "/stats"} {
		b.Run(path, func(b *testing.B) {
			bytes := 0
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				n.api.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				bytes = w.Body.Len()
			}
			b.ReportMetric(float64(bytes), "bytes")
		})
	}
}
