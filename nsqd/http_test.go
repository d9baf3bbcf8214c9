package nsqd

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// The check vectors of the HTTP specification, in order, in one daemon. It listens
// on other addresses than by default.
func TestHTTPCheckVectors(t *testing.T) {
	t.Run("HTTP", func(t *testing.T) { checkVectors(t, startDaemon(t)) })
	t.Run("HTTPS", func(t *testing.T) {
		ca := nsqtest.NewCA(t)
		d := startDaemon(t, func(o *Options) { o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd") })
		d.base, d.client.TLSClientConfig = "https://"+d.HTTPSAddr().String(), ca.Client()
		checkVectors(t, d)
	})
}

func checkVectors(t *testing.T, d *daemon) {
	messageOfSize := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string // body
		header, value      string // and one header
	}{
		{"GET", "/ping", "", 200, "OK", "X-Nsq-Content-Type", ""},
		{"HEAD", "/ping", "", 405, "", "Allow", "GET, OPTIONS"},
		{"GET", "/ping/", "", 301, "", "Location", "/ping"},
		{"POST", "/PUB?topic=a", "x", 307, "", "Location", "/pub?topic=a"},
		{"GET", "/nope", "", 404, `{"message":"NOT_FOUND"}`, "", ""},
		{"GET", "/pub", "", 405, `{"message":"METHOD_NOT_ALLOWED"}`, "Allow", "OPTIONS, POST"},
		{"POST", "/pub", "", 400, `{"message":"MSG_EMPTY"}`, "Content-Type", "application/json; charset=utf-8"},
		{"POST", "/pub", "x", 400, `{"message":"MISSING_ARG_TOPIC"}`, "", ""},
		{"POST", "/pub?topic=", "x", 400, `{"message":"INVALID_TOPIC"}`, "", ""},
		{"POST", "/pub?topic=a;b=c", "x", 400, `{"message":"INVALID_REQUEST"}`, "", ""},
		{"POST", "/pub?topic=t", messageOfSize(1048576), 200, "OK", "X-Nsq-Content-Type", "nsq; version=1.0"},
		{"POST", "/pub?topic=t", messageOfSize(1048577), 413, `{"message":"MSG_TOO_BIG"}`, "", ""},
		{"POST", "/pub", messageOfSize(1048577), 413, `{"message":"MSG_TOO_BIG"}`, "", ""},
		{"POST", "/pub?topic=d&defer=3600000", "x", 200, "OK", "", ""},
		{"POST", "/pub?topic=d&defer=3600001", "x", 400, `{"message":"INVALID_DEFER"}`, "", ""},
		{"POST", "/mpub?topic=t", "", 200, "OK", "", ""},
		{"POST", "/mpub?topic=t", "a\nb\n\nc\r\n", 200, "OK", "", ""},
		{"POST", "/mpub?topic=t&binary=true", "", 413, `{"message":"BAD_BODY"}`, "", ""},
		{"POST", "/mpub?topic=t&binary=true", "\x00\x00\x00\x01\x00\x00\x00\x00", 413, `{"message":"BAD_MESSAGE"}`, "", ""},
		{"POST", "/mpub?topic=t&binary=true", batchOfTwo, 200, "OK", "", ""},
		{"POST", "/mpub?topic=t&binary=yes", batchOfTwo, 200, "OK", "", ""},
		{"POST", "/mpub?topic=t&binary=", batchOfTwo, 200, "OK", "", ""},
		{"POST", "/mpub?topic=t", messageOfSize(5242881), 413, `{"message":"BODY_TOO_BIG"}`, "", ""},
		{"POST", "/topic/delete?topic=b%20c", "", 404, `{"message":"TOPIC_NOT_FOUND"}`, "", ""},
		{"POST", "/topic/empty?topic=b%20c", "", 400, `{"message":"INVALID_TOPIC"}`, "", ""},
		{"POST", "/channel/create?topic=b%20c", "", 400, `{"message":"INVALID_ARG_TOPIC"}`, "", ""},
		{"POST", "/channel/create?topic=t", "", 400, `{"message":"MISSING_ARG_CHANNEL"}`, "", ""},
		{"POST", "/channel/create?topic=nope&channel=a%20b", "", 400, `{"message":"INVALID_ARG_CHANNEL"}`, "", ""},
		{"POST", "/channel/create?topic=nope&channel=c", "", 404, `{"message":"TOPIC_NOT_FOUND"}`, "", ""},
		{"POST", "/channel/pause?topic=t&channel=nope", "", 404, `{"message":"CHANNEL_NOT_FOUND"}`, "", ""},
		{"GET", "/config/log_level", "", 200, "2", "Content-Type", "application/json; charset=utf-8"},
		{"PUT", "/config/log_level", "DEBUG", 200, "1", "", ""},
		{"PUT", "/config/log_level", `"debug"`, 400, `{"message":"INVALID_VALUE"}`, "", ""},
		{"PUT", "/config/nope", "", 413, `{"message":"INVALID_VALUE"}`, "", ""},
		{"PUT", "/config/nope", "x", 400, `{"message":"INVALID_OPTION"}`, "", ""},
		{"PUT", "/config/mem_queue_size", "5", 400, `{"message":"INVALID_OPTION"}`, "", ""},
		{"GET", "/config/node_id", "", 400, `{"message":"INVALID_OPTION"}`, "", ""},
		{"GET", "/config/tcp_address", "", 200, "127.0.0.1:0", "Content-Type", "text/plain; charset=utf-8"},
		{"GET", "/config/msg_timeout", "", 200, "60000000000", "", ""},
		{"GET", "/config/statsd_address", "", 200, "", "Content-Type", ""},
		{"GET", "/stats?format=json&topic=nope&include_mem=0", "", 200, fmt.Sprintf(`{"version":"1.3.0","health":"OK","start_time":%d,"topics":null,"producers":null}`, d.started.Unix()), "", ""},
		{"POST", "/config/log_level", "", 405, `{"message":"METHOD_NOT_ALLOWED"}`, "Allow", "GET, OPTIONS, PUT"},
	} {
		resp, body := d.request(c.method, c.path, c.body)
		if redirect := c.status < 400 && c.status >= 300; resp.StatusCode != c.status || body != c.want && !redirect {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.path, resp.StatusCode, body, c.status, c.want)
		}
		if got := resp.Header.Get(c.header); c.header != "" && got != c.value {
			t.Errorf("%s %s: got %s %q, want %q", c.method, c.path, c.header, got, c.value)
		}
	}
}

// batchOfTwo is a binary batch of the messages "a" and "bc".
const batchOfTwo = "\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bc"

func TestParameterChecksOfAdminEndpoints(t *testing.T) {
	d := startDaemon(t)
	d.post("/topic/create?topic=t", "", "")
	for _, c := range []struct {
		paths, query string
		status       int
		message      string
	}{
		{"/topic/create /topic/delete /topic/empty /topic/pause /topic/unpause", "a=;", 400, "INVALID_REQUEST"},
		{"/topic/create /topic/delete /topic/empty /topic/pause /topic/unpause", "channel=c", 400, "MISSING_ARG_TOPIC"},
		{"/topic/create /topic/empty", "topic", 400, "INVALID_TOPIC"},
		{"/topic/delete /topic/pause /topic/unpause", "topic", 404, "TOPIC_NOT_FOUND"},
		{"/topic/delete /topic/empty /topic/pause /topic/unpause", "topic=nope", 404, "TOPIC_NOT_FOUND"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "topic=%zz", 400, "INVALID_REQUEST"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "", 400, "MISSING_ARG_TOPIC"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "topic=&channel=c", 400, "INVALID_ARG_TOPIC"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "topic=t", 400, "MISSING_ARG_CHANNEL"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "topic=nope", 400, "MISSING_ARG_CHANNEL"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "topic=t&channel=%23ephemeral", 400, "INVALID_ARG_CHANNEL"},
		{"/channel/create /channel/delete /channel/empty /channel/pause /channel/unpause", "topic=nope&channel=c", 404, "TOPIC_NOT_FOUND"},
		{"/channel/delete /channel/empty /channel/pause /channel/unpause", "topic=t&channel=c", 404, "CHANNEL_NOT_FOUND"},
	} {
		for path := range strings.FieldsSeq(c.paths) {
			resp, body := d.request("POST", path+"?"+c.query, "")
			if want := `{"message":"` + c.message + `"}`; resp.StatusCode != c.status || body != want {
				t.Errorf("%s?%s: got %d %q, want %d %q", path, c.query, resp.StatusCode, body, c.status, want)
			}
		}
	}
}

func TestSuccessfulAdminAnswersAreEmpty(t *testing.T) {
	d := startDaemon(t)
	for path := range strings.FieldsSeq(`/topic/create /topic/create /topic/pause /topic/pause /topic/unpause /topic/empty
		/channel/create /channel/create /channel/pause /channel/unpause /channel/empty /channel/delete /topic/delete`) {
		resp, body := d.request("POST", path+"?topic=t&channel=c", "ignored")
		if resp.StatusCode != 200 || body != "" || resp.ContentLength != 0 || resp.Header.Get("Content-Type") != "" ||
			resp.Header.Get("X-Nsq-Content-Type") != "nsq; version=1.0" {
			t.Errorf("%s: got %d %q with %v", path, resp.StatusCode, body, resp.Header)
		}
	}
}

func TestInfo(t *testing.T) {
	d := startDaemon(t)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	_, body := d.request("GET", "/info", "")
	want := fmt.Sprintf(`{"version":"1.3.0","broadcast_address":"127.0.0.1","hostname":%q,"http_port":%d,"tcp_port":%d,`+
		`"start_time":%d,"max_heartbeat_interval":60000000000,"max_output_buffer_size":65536,`+
		`"max_output_buffer_timeout":30000000000,"max_deflate_level":6,"topology_zone":"","topology_region":""}`,
		hostname, boundPort(d.http), boundPort(d.tcp), d.started.Unix())
	nsqtest.Equal(t, body, want)
}

// What is published over HTTP arrives at a TCP consumer, byte for byte.
func TestPublishedOverHTTPReadOverTCP(t *testing.T) {
	d := startDaemon(t)
	consumer := d.dial().Sub("t", "c").Rdy(10)
	for _, c := range []struct {
		path, body string
		want       []string
	}{
		{"/pub?topic=t", "\x00any\nbytes\xff", []string{"\x00any\nbytes\xff"}},
		{"/pub?topic=t&defer=0", "not deferred", []string{"not deferred"}},
		{"/pub?topic=t&defer=%2B1", "deferred", []string{"deferred"}},
		{"/mpub?topic=t", "\n\na\nb\n\nc\r\nd", []string{"a", "b", "c\r", "d"}},
		{"/mpub?topic=t&binary=false", "e\n", []string{"e"}},
		{"/mpub?topic=t&binary=1", batchOfTwo + "what follows is ignored", []string{"a", "bc"}},
	} {
		d.post(c.path, c.body, "OK")
		for _, want := range c.want {
			m := consumer.ReadMessage()
			nsqtest.Equal(t, m.Body, want)
			consumer.Fin(m.ID)
		}
	}
}

// chunked hides the length of a body, so that it is sent in chunks.
func chunked(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }

// Limits hold whether or not a length is announced; and what is refused leaves
// no topic behind.
func TestPublishLimits(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MaxMsgSize, o.MaxBodySize = 10, 30 })
	batch := func(sizes ...int) string {
		b := fmt.Sprintf("\x00\x00\x00%c", len(sizes))
		for _, n := range sizes {
			b += fmt.Sprintf("\x00\x00\x00%c%s", n, strings.Repeat("m", n))
		}
		return b
	}
	for _, c := range []struct {
		path, body string
		status     int
		message    string
	}{
		{"/pub?topic=t", strings.Repeat("m", 10), 200, ""},
		{"/pub?topic=t", strings.Repeat("m", 11), 413, "MSG_TOO_BIG"},
		{"/pub?topic=t", "", 400, "MSG_EMPTY"},
		{"/pub?topic=t&defer=", "m", 400, "INVALID_DEFER"},
		{"/pub?topic=t&defer=-1", "m", 400, "INVALID_DEFER"},
		{"/pub?topic=t&defer=1e3", "m", 400, "INVALID_DEFER"},
		{"/pub?topic=t&defer=3600001", "m", 400, "INVALID_DEFER"},
		{"/pub?topic=t&defer=18446744073709", "m", 400, "INVALID_DEFER"}, // would wrap to a short delay in nanoseconds
		{"/pub?topic=t&defer=99999999999999999999", "m", 400, "INVALID_DEFER"},
		{"/mpub?topic=t", "0123456789\n0123456789\n0123456\n", 200, ""},
		{"/mpub?topic=t", "0123456789\n0123456789\n01234567\n", 413, "BODY_TOO_BIG"},
		{"/mpub?topic=t", "0123456789\n01234567890\n0\n", 413, "MSG_TOO_BIG"},
		{"/mpub?topic=t&binary=true", batch(10, 8), 200, ""},
		{"/mpub?topic=t&binary=true", batch(11), 413, "BAD_MESSAGE"},
		{"/mpub?topic=t&binary=true", batch(5)[:12], 413, "BAD_MESSAGE"},
		{"/mpub?topic=t&binary=true", "\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00", 413, "BAD_MESSAGE"},
		{"/mpub?topic=t&binary=true", "\x00\x00\x00\x01\xff\xff\xff\xff", 413, "BAD_MESSAGE"},
		{"/mpub?topic=t&binary=true", "\x00\x00\x00", 413, "BAD_BODY"},
		{"/mpub?topic=t&binary=true", "\x00\x00\x00\x00", 413, "BAD_BODY"},
		{"/mpub?topic=t&binary=true", "\xff\xff\xff\xff", 413, "BAD_BODY"},
		{"/mpub?topic=t&binary=true", "\x00\x00\x00\x06", 413, "BAD_BODY"}, // at most (30-4)/5 messages
	} {
		for name, body := range map[string]io.Reader{"length": strings.NewReader(c.body), "chunks": chunked(c.body)} {
			resp, got := d.send("POST", c.path, body)
			want := "OK"
			if c.status != 200 {
				want = `{"message":"` + c.message + `"}`
			}
			if resp.StatusCode != c.status || got != want {
				t.Errorf("%s with %s, body %q: got %d %q, want %d %q", c.path, name, c.body, resp.StatusCode, got, c.status, want)
			}
			if c.status == 200 {
				d.post("/topic/delete?topic=t", "", "")
			} else if d.existingTopic("t") != nil {
				t.Fatalf("%s with %s, body %q: left a topic behind", c.path, name, c.body)
			}
		}
	}
}

// In chunks more can come than is allowed; the first broken limit decides.
func TestPublishTooMuchInChunks(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MaxMsgSize, o.MaxBodySize = 10, 30 })
	for _, c := range []struct{ path, body, message string }{
		{"/mpub?topic=t", "01234567890\n" + strings.Repeat("m\n", 40), "MSG_TOO_BIG"},
		{"/mpub?topic=t", strings.Repeat("m\n", 15) + "01234567890", "BODY_TOO_BIG"},
		{"/mpub?topic=t", strings.Repeat("m\n", 10) + "01234567890123456789", "BODY_TOO_BIG"},
		{"/mpub?topic=t", strings.Repeat("m\n", 9) + "01234567890\n\n\n\n\n", "MSG_TOO_BIG"},
		{"/mpub?topic=t&binary=true", "\x00\x00\x00\x03" + strings.Repeat("\x00\x00\x00\x0a0123456789", 3), "BODY_TOO_BIG"},
	} {
		resp, got := d.send("POST", c.path, chunked(c.body))
		if want := `{"message":"` + c.message + `"}`; resp.StatusCode != http.StatusRequestEntityTooLarge || got != want {
			t.Errorf("%s, body %q: got %d %q, want 413 %q", c.path, c.body, resp.StatusCode, got, want)
		}
	}
}

func TestDebugEndpoints(t *testing.T) {
	d := startDaemon(t)
	for _, c := range []struct {
		method, path string
		status       int
		body         string // "" for any
	}{
		{"PUT", "/debug/setblockrate?rate=0", 200, ""},
		{"PUT", "/debug/setblockrate?rate=abc", 400, `invalid block rate : strconv.Atoi: parsing "abc": invalid syntax`},
		{"POST", "/debug/freememory", 200, ""},
		{"GET", "/debug/pprof/", 200, ""},
		{"GET", "/debug/pprof/heap", 200, ""},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, ""},
		{"GET", "/debug/pprof", 301, ""},
		{"GET", "/debug/nope", 404, `{"message":"NOT_FOUND"}`},
	} {
		resp, body := d.request(c.method, c.path, "")
		if resp.StatusCode != c.status || c.body != "" && body != c.body {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.path, resp.StatusCode, body, c.status, c.body)
		}
	}
}

// A message that cannot be stored is refused, the reason is logged, and /ping and
// /stats tell until a message can be stored again.
func TestDiskFailure(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) {
		o.MemQueueSize = 0
		o.Logger = logging.New(&logged, "", slog.LevelInfo)
	})
	d.post("/topic/create?topic=t", "", "")
	inTheWay := filepath.Join(d.dir, "t.diskqueue.000000.dat")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/pub?topic=t", "/mpub?topic=t"} {
		resp, body := d.request("POST", path, "m")
		nsqtest.Equal(t, resp.StatusCode, http.StatusServiceUnavailable)
		nsqtest.Equal(t, body, `{"message":"EXITING"}`)
	}
	resp, body := d.request("GET", "/ping", "")
	if resp.StatusCode != 500 || !strings.HasPrefix(body, "NOK - ") || resp.Header.Get("X-Nsq-Content-Type") != "" {
		t.Errorf("/ping: got %d %q with %v", resp.StatusCode, body, resp.Header)
	}
	s, _ := d.gather("")
	nsqtest.Equal(t, s.Health, body)
	nsqtest.Equal(t, s.Topics[0].Messages, 0)
	if want := "ERROR: TOPIC(t) ERROR: failed to write message to backend - " + strings.TrimPrefix(body, "NOK - "); !strings.Contains(logged.String(), want) {
		t.Errorf("got log %s\nwant in it %s", logged.String(), want)
	}

	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	d.post("/pub?topic=t", "m", "OK")
	_, body = d.request("GET", "/ping", "")
	nsqtest.Equal(t, body, "OK")
	if strings.Contains(logged.String(), "/pub") {
		t.Error("publishing is access-logged")
	}
	logged.await(t, `INFO: 200 GET /ping \(127\.0\.0\.1:`)
}

// logLines collects the lines of a logger.
type logLines struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// await waits until the log has what matches the regular expression.
func (l *logLines) await(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); !re.MatchString(l.String()); <-ticks.C {
		if time.Now().After(deadline) {
			t.Fatalf("the log lacks %s:\n%s", pattern, l)
		}
	}
}
