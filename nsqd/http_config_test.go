package nsqd

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
)

// expect sends a request and fails the test if the answer is another.
func (d *daemon) expect(method, path, body string, status int, want string) *http.Response {
	d.t.Helper()
	resp, got := d.request(method, path, body)
	if resp.StatusCode != status || got != want {
		d.t.Errorf("%s %s with %.40q: got %d %q, want %d %q", method, path, body, resp.StatusCode, got, status, want)
	}
	return resp
}

// Every kind of option is told in its form.
func TestGetConfig(t *testing.T) {
	d := startDaemon(t, func(o *Options) {
		o.NSQLookupdTCPAddresses = []string{"127.0.0.1:1"}
		o.LogPrefix = "<nsqd> "
		o.TLSMinVersion = 0x303
		o.E2EProcessingLatencyPercentiles = []float64{1, 0.99, 0.5}
	})
	const text, js = "text/plain; charset=utf-8", "application/json; charset=utf-8"
	for _, c := range []struct{ key, want, contentType string }{
		{"log_prefix", "<nsqd> ", text},
		{"log_level", "2", js},
		{"log_format", `"classic"`, js},
		{"http_access_log", `"all"`, js},
		{"id", fmt.Sprint(d.options().ID), js},
		{"data_path", d.dir, text},
		{"mem_queue_size", "10000", js},
		{"snappy", "true", js},
		{"sync_timeout", "2000000000", js},
		{"nsqlookupd_tcp_addresses", `["127.0.0.1:1"]`, js},
		{"auth_http_addresses", "[]", js},
		{"enable_experiment", "[]", js},
		{"tls_required", "0", js},
		{"tls_min_version", "771", js},
		{"tls_client_auth_policy", "", ""},
		{"statsd_address", "", ""},
		{"statsd_prefix", fmt.Sprintf("nsq.127_0_0_1_%d.", boundPort(d.http)), text},
		{"e2e_processing_latency_percentiles", "[1,0.99,0.5]", js},
		{"e2e_processing_latency_window_time", "600000000000", js},
		{"broadcast_tcp_port", fmt.Sprint(boundPort(d.tcp)), js},
		{"broadcast_http_port", fmt.Sprint(boundPort(d.http)), js},
	} {
		resp := d.expect("GET", "/config/"+c.key, "", 200, c.want)
		if got := resp.Header.Get("Content-Type"); got != c.contentType || resp.Header.Get("X-Nsq-Content-Type") != "nsq; version=1.0" {
			t.Errorf("%s: got headers %v", c.key, resp.Header)
		}
	}
	for _, key := range []string{"node_id", "node-id", "lookupd_tcp_address", "version", "config", "strict_config", "verbose", "worker_id", "queue_scan_interval", "client_timeout", "logger", "LogLevel", "-"} {
		d.expect("GET", "/config/"+key, "", 400, `{"message":"INVALID_OPTION"}`)
	}
}

func TestPutConfig(t *testing.T) {
	d := startDaemon(t)
	tooBig := strings.Repeat("x", 1<<20+1)
	for _, c := range []struct {
		key, body string
		status    int
		want      string // the answer, or the message in it
	}{
		{"log_level", "debug", 200, "1"},
		{"log_level", "Info", 200, "2"},
		{"log_level", "FATAL", 200, "5"},
		{"log_level", "warn", 200, "3"},
		{"log_level", "warning", 400, "INVALID_VALUE"},
		{"log_level", "info\n", 400, "INVALID_VALUE"},
		{"log_level", " info", 400, "INVALID_VALUE"},
		{"log_level", "2", 400, "INVALID_VALUE"},
		{"log_level", "", 413, "INVALID_VALUE"},
		{"log_level", tooBig, 413, "INVALID_VALUE"},
		{"nope", tooBig, 413, "INVALID_VALUE"},
		{"nsqlookupd_tcp_addresses", `["127.0.0.1:1","[::1]:2"]`, 200, `["127.0.0.1:1","[::1]:2"]`},
		{"nsqlookupd_tcp_addresses", `["x",5]`, 400, "INVALID_VALUE"},
		{"nsqlookupd_tcp_addresses", `["127.0.0.1:3","x"]`, 400, "INVALID_VALUE"},
		{"nsqlookupd_tcp_addresses", `["127.0.0.1:"]`, 400, "INVALID_VALUE"},
		{"nsqlookupd_tcp_addresses", `127.0.0.1:4`, 400, "INVALID_VALUE"},
		{"nsqlookupd_tcp_addresses", `["127.0.0.1:1","[::1]:2"]`, 200, `["127.0.0.1:1","[::1]:2"]`}, // as it was
		{"nsqlookupd_tcp_addresses", `[]`, 200, `[]`},
		{"nsqlookupd_tcp_addresses", `null`, 200, `null`},
		{"msg_timeout", "90s", 200, "90000000000"},
		{"msg_timeout", "30000000000", 200, "30000000000"},
		{"msg_timeout", "0", 400, "INVALID_VALUE"},
		{"msg_timeout", "90", 200, "90"}, // nanoseconds, as GET tells
		{"max_req_timeout", "100000h", 400, "INVALID_VALUE"},
		{"max_rdy_count", "5", 200, "5"},
		{"max_rdy_count", "-1", 400, "INVALID_VALUE"},
		{"max_body_size", "0", 400, "INVALID_VALUE"},
		{"max_deflate_level", "10", 400, "INVALID_VALUE"},
		{"max_deflate_level", "9", 200, "9"},
		{"snappy", "false", 200, "false"},
		{"snappy", "no", 400, "INVALID_VALUE"},
		{"http_access_log", "errors", 200, `"errors"`},
		{"sigterm", "drain", 200, "drain"},
		{"sigterm", "die", 400, "INVALID_VALUE"},
		{"metrics_max_topics", "7", 200, "7"},
		{"max_msg_size", "5", 400, "INVALID_OPTION"},
		{"data_path", "/", 400, "INVALID_OPTION"},
		{"tls_required", "true", 400, "INVALID_OPTION"},
		{"http_admin_token_file", "/etc/passwd", 400, "INVALID_OPTION"},
		{"verbose", "true", 400, "INVALID_OPTION"},
	} {
		want := c.want
		if c.status != 200 {
			want = `{"message":"` + c.want + `"}`
		}
		d.expect("PUT", "/config/"+c.key, c.body, c.status, want)
		if c.status == 200 {
			d.expect("GET", "/config/"+c.key, "", 200, want)
		}
	}
}

// A refusal says too little for an operator; the log says the rest.
func TestPutConfigRefusalIsExplained(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	for _, c := range []struct{ key, body, want string }{
		{"mem_queue_size", "5", `WARNING: PUT /config/mem_queue_size refused err="mem_queue_size: takes effect at the next start only"`},
		{"mem_queue", "5", `WARNING: PUT /config/mem_queue refused err="mem_queue: no such option"`},
		{"msg_timeout", "soon", `err="msg_timeout: \"soon\" is not a duration such as 90s, or a whole number of nanoseconds"`},
		{"max_rdy_count", "-1", `err="--max-rdy-count is -1, must be from 0 to 2147483647"`},
	} {
		d.request("PUT", "/config/"+c.key, c.body)
		if !strings.Contains(logged.String(), c.want) {
			t.Errorf("the log lacks %s:\n%s", c.want, &logged)
		}
	}
}

// The level of the log follows.
func TestPutLogLevel(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) {
		o.Options = logging.Options{LogLevel: logging.LevelInfo}
		o.Logger, o.Level = o.Options.Logger(&logged)
	})
	d.expect("PUT", "/config/log_level", "error", 200, "4")
	before := logged.String()
	d.post("/topic/create?topic=unheard", "", "")
	d.expect("PUT", "/config/log_level", "info", 200, "2")
	d.post("/topic/create?topic=heard", "", "")
	if after := strings.TrimPrefix(logged.String(), before); strings.Contains(after, "unheard") || !strings.Contains(after, "TOPIC(heard): created") {
		t.Errorf("logged %s", after)
	}
}

// Changes reach who comes after them, and who is there already where it matters.
func TestChangesTakeEffect(t *testing.T) {
	d := startDaemon(t)
	put := func(key, value string) {
		t.Helper()
		if resp, body := d.request("PUT", "/config/"+key, value); resp.StatusCode != 200 {
			t.Fatalf("%s: got %d %q", key, resp.StatusCode, body)
		}
	}
	connected := d.dial().Sub("t", "c")
	put("max_rdy_count", "3")
	connected.Send("RDY 4\n").ExpectError("E_INVALID RDY count 4 out of range 0-3")

	put("max_req_timeout", "1s")
	d.expect("POST", "/pub?topic=t&defer=1001", "m", 400, `{"message":"INVALID_DEFER"}`)

	put("max_body_size", "30")
	d.expect("POST", "/mpub?topic=t", strings.Repeat("m", 31), 413, `{"message":"BODY_TOO_BIG"}`)
	put("max_body_size", "5242880")

	put("max_channel_consumers", "1")
	d.dial().Sub("t", "alone")
	d.dial().Send("SUB t alone\n").ExpectError("E_SUB_FAILED SUB failed consumers for t:alone exceeds limit of 1")

	put("msg_timeout", "5s")
	put("snappy", "false")
	put("max_deflate_level", "2")
	var agreed struct {
		MsgTimeout      int64 `json:"msg_timeout"`
		MaxRdyCount     int64 `json:"max_rdy_count"`
		Snappy          bool  `json:"snappy"`
		MaxDeflateLevel int   `json:"max_deflate_level"`
	}
	d.dial().CommandBody(`{"feature_negotiation":true,"snappy":true}`, "IDENTIFY").ExpectJSON(&agreed)
	if agreed.MsgTimeout != 5000 || agreed.MaxRdyCount != 3 || agreed.Snappy || agreed.MaxDeflateLevel != 2 {
		t.Errorf("agreed on %+v", agreed)
	}

	put("max_connections", "1")
	d.dial().ExpectClosed()
}

// The peers follow the list: added ones are told everything, removed ones forget.
func TestPutLookupdAddresses(t *testing.T) {
	first, second := startLookupd(t), startLookupd(t)
	d := startDaemon(t, func(o *Options) { o.NSQLookupdTCPAddresses = []string{first.TCPAddr().String()} })
	d.post("/topic/create?topic=t", "", "")
	listed := func(f found) bool { return len(f.Producers) == 1 }
	awaitLookup(t, first, "t", listed)
	list := fmt.Sprintf(`["%s","%s"]`, first.TCPAddr(), second.TCPAddr())
	d.expect("PUT", "/config/nsqlookupd_tcp_addresses", list, 200, list)
	awaitLookup(t, second, "t", listed)
	list = fmt.Sprintf(`["%s"]`, second.TCPAddr())
	d.expect("PUT", "/config/nsqlookupd_tcp_addresses", list, 200, list)
	awaitLookup(t, first, "t", func(f found) bool { return len(f.Producers) == 0 })
	awaitLookup(t, second, "t", listed)
}

// Changes at the same time do not undo each other.
func TestConcurrentPuts(t *testing.T) {
	d := startDaemon(t)
	var g sync.WaitGroup
	keys := []string{"max_rdy_count", "max_channel_consumers", "max_connections", "max_body_size"}
	for _, key := range keys {
		g.Go(func() {
			for i := 1000; i <= 1020; i++ {
				if err := putOption(d.NSQD, key, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	for _, key := range keys {
		d.expect("GET", "/config/"+key, "", 200, "1020")
	}
}

func putOption(n *NSQD, key, value string) error {
	_, err := n.change(func(o *Options) error { return config.Set(o, key, value) })
	return err
}
