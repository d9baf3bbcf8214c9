package httpapi_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/logging"
)

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func result(v any) httpapi.Handler {
	return func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) { return v, nil }
}

func failure(err error) httpapi.Handler {
	return func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) { return nil, err }
}

// config is that of an API open to everybody.
func config(log *slog.Logger) httpapi.Config {
	return httpapi.Config{Guard: new(httpapi.Guard), AccessLog: func() httpapi.AccessLog { return httpapi.AccessAll }, Log: log}
}

func newAPI(log *slog.Logger) *httpapi.API {
	a := httpapi.New(config(log))
	a.Handle("GET", "/ping", result("OK"), httpapi.Plain)
	a.Handle("GET", "/sick", failure(httpapi.Error{Status: 500, Text: "NOK - disk full"}), httpapi.Plain)
	a.Handle("POST", "/pub", result("OK"), httpapi.Unlogged)
	a.Handle("GET", "/text", result([]byte("<html>")))
	a.Handle("GET", "/empty", result(""))
	a.Handle("POST", "/nothing", result(nil))
	a.Handle("GET", "/object", result(struct {
		B string   `json:"b"`
		L []string `json:"l"`
	}{"<&>", []string{}}))
	a.Handle("GET", "/number", result(7))
	a.Handle("GET", "/raw", result(httpapi.AppendJSON(func(b []byte) []byte { return append(b, `{"a":1}`...) })))
	a.Handle("GET", "/rawerror", func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
		return httpapi.AppendJSON(func(b []byte) []byte { panic("boom") }), nil
	})
	a.Handle("GET", "/big", result(strings.Repeat("x", 5000)))
	a.Handle("GET", "/unencodable", result(make(chan int)))
	a.Handle("GET", "/error", failure(fmt.Errorf("wrapped: %w", httpapi.Error{Status: 404, Text: "TOPIC_NOT_FOUND"})))
	a.Handle("GET", "/other", failure(errors.New("secret reason")))
	a.Handle("GET", "/panic", func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) { panic("boom") })
	a.Handle("GET", "/config/:opt", func(_ http.ResponseWriter, _ *http.Request, ps httprouter.Params) (any, error) {
		return ps.ByName("opt"), nil
	})
	a.Handle("PUT", "/config/:opt", result(nil))
	a.Handle("GET", "/query", func(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
		params, err := httpapi.Query(r)
		if err != nil {
			return nil, err
		}
		topic, ok := params.Get("topic")
		return fmt.Sprintf("%q %t", topic, ok), nil
	})
	a.Raw("GET", "/rawpanic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("raw boom") }))
	a.Pprof()
	return a
}

func newServer(t *testing.T) (base string, log *logBuffer) {
	log = new(logBuffer)
	logger := logging.New(log, "", logging.LevelInfo)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = httpapi.NewServer(newAPI(logger), logger)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL, log
}

// answer is what the tables below look at.
type answer struct {
	status                                int
	body, contentType, nsq, allow, locate string
}

func do(t *testing.T, method, url, body string) (answer, *http.Response) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirects
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	return answer{resp.StatusCode, string(b), h.Get("Content-Type"), h.Get("X-NSQ-Content-Type"), h.Get("Allow"), h.Get("Location")}, resp
}

const (
	text = "text/plain; charset=utf-8"
	js   = "application/json; charset=utf-8"
	nsq  = "nsq; version=1.0"
)

func TestAnswers(t *testing.T) {
	base, _ := newServer(t)
	notFound := answer{404, `{"message":"NOT_FOUND"}`, js, nsq, "", ""}
	refused := func(allow string) answer { return answer{405, `{"message":"METHOD_NOT_ALLOWED"}`, js, nsq, allow, ""} }
	internal := answer{500, `{"message":"INTERNAL_ERROR"}`, js, nsq, "", ""}
	for _, tt := range []struct {
		method, path string
		want         answer
	}{
		// 1.4
		{"GET", "/ping", answer{200, "OK", text, "", "", ""}},
		{"GET", "/sick", answer{500, "NOK - disk full", text, "", "", ""}},
		{"POST", "/pub?topic=a", answer{200, "OK", text, nsq, "", ""}},
		{"GET", "/text", answer{200, "<html>", text, nsq, "", ""}},
		{"GET", "/empty", answer{200, "", "", nsq, "", ""}},
		{"POST", "/nothing", answer{200, "", "", nsq, "", ""}},
		{"GET", "/object", answer{200, `{"b":"\u003c\u0026\u003e","l":[]}`, js, nsq, "", ""}},
		{"GET", "/number", answer{200, "7", js, nsq, "", ""}},
		{"GET", "/raw", answer{200, `{"a":1}`, js, nsq, "", ""}},
		{"GET", "/error", answer{404, `{"message":"TOPIC_NOT_FOUND"}`, js, nsq, "", ""}},
		{"GET", "/other", internal},
		{"GET", "/unencodable", internal},
		{"GET", "/panic", internal},
		{"GET", "/rawerror", internal},
		{"GET", "/rawpanic", internal},
		{"GET", "/config/mem_queue_size", answer{200, "mem_queue_size", text, nsq, "", ""}},
		// 1.5
		{"GET", "/nope", notFound},
		{"DELETE", "/nope", notFound},
		{"GET", "/", notFound},
		{"GET", "/config", notFound},
		{"GET", "/config/", notFound},
		{"GET", "/config/a/b", notFound},
		{"GET", "/metrics", notFound},
		{"POST", "/ping/", notFound},
		{"GET", "/PUB", notFound},
		{"GET", "/pub", refused("OPTIONS, POST")},
		{"POST", "/ping", refused("GET, OPTIONS")},
		{"DELETE", "/config/x", refused("GET, OPTIONS, PUT")},
		{"HEAD", "/ping", answer{405, "", js, nsq, "GET, OPTIONS", ""}},
		{"OPTIONS", "/ping", answer{200, "", "", "", "GET, OPTIONS", ""}},
		{"OPTIONS", "/pub", answer{200, "", "", "", "OPTIONS, POST", ""}},
		{"OPTIONS", "/config/x", answer{200, "", "", "", "GET, OPTIONS, PUT", ""}},
		{"OPTIONS", "/nope", notFound},
		{"POST", "/PUB?topic=a", answer{307, "", "", "", "", "/pub?topic=a"}},
		{"POST", "/pub/?topic=a", answer{307, "", "", "", "", "/pub?topic=a"}},
		{"PUT", "/config/x/", answer{307, "", "", "", "", "/config/x"}},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			if got, _ := do(t, tt.method, base+tt.path, ""); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	base, _ := newServer(t)
	for path, want := range map[string]string{
		"/ping/":       "/ping",
		"/PING":        "/ping",
		"//ping":       "/ping",
		"/x/../ping":   "/ping",
		"/Ping/?a=b":   "/ping?a=b",
		"/debug/pprof": "/debug/pprof/",
	} {
		got, _ := do(t, "GET", base+path, "")
		if got.status != 301 || got.locate != want || got.nsq != "" {
			t.Errorf("%s: %+v, want 301 to %s", path, got, want)
		}
	}
}

func TestContentLength(t *testing.T) {
	base, _ := newServer(t)
	for path, want := range map[string]int64{"/ping": 2, "/object": 33, "/empty": 0, "/big": -1} {
		if _, resp := do(t, "GET", base+path, ""); resp.ContentLength != want {
			t.Errorf("%s: Content-Length %d, want %d", path, resp.ContentLength, want)
		}
	}
}

func TestAbsoluteFormWithoutPath(t *testing.T) {
	base, _ := newServer(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, line := range []string{"GET http://x HTTP/1.1", "OPTIONS http://x HTTP/1.1", "GET http://x?a HTTP/1.1"} {
		fmt.Fprintf(conn, "%s\r\nHost: x\r\n\r\n", line)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != `{"message":"NOT_FOUND"}` {
			t.Errorf("%s: %s %s", line, resp.Status, b)
		}
	}
}

func TestAccessLog(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		want         string // regular expressions of the lines, without head
	}{
		{"GET", "/number?x=y%20z", `INFO: 200 GET /number\?x=y%20z \(127\.0\.0\.1:\d+\) [\d.]+(µs|ms|ns)`},
		{"GET", "/ping", `INFO: 200 GET /ping \(\S+\) \S+`},
		{"GET", "/nope", `INFO: 404 GET /nope \(\S+\) \S+`},
		{"GET", "/pub", `INFO: 405 GET /pub \(\S+\) \S+`},
		{"GET", "/panic", `ERROR: panic in HTTP handler - boom stack=".*"\n.* INFO: 500 GET /panic \(\S+\) \S+`},
		{"GET", "/rawpanic", `ERROR: panic in HTTP handler - raw boom stack=".*"\n.* INFO: 500 GET /rawpanic \(\S+\) \S+`},
		{"GET", "/other", `ERROR: HTTP handler failed err="secret reason"\n.* INFO: 500 GET /other \(\S+\) \S+`},
		{"POST", "/pub", ``},
		{"OPTIONS", "/ping", ``},
		{"GET", "/ping/", ``},
		{"GET", "/debug/pprof/cmdline", ``},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			var log logBuffer
			a := newAPI(logging.New(&log, "", logging.LevelInfo))
			r := httptest.NewRequest(tt.method, tt.path, nil)
			r.RemoteAddr = "127.0.0.1:5"
			a.ServeHTTP(httptest.NewRecorder(), r)
			want := "^$"
			if tt.want != "" {
				want = `^\S+ \S+ ` + tt.want + "\n$"
			}
			if got := log.String(); !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("logged %q\nwant   %s", got, want)
			}
		})
	}
}

func TestAccessLogFollowsTheLevel(t *testing.T) {
	var log logBuffer
	a := newAPI(logging.New(&log, "", logging.LevelWarn))
	a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/ping", nil))
	if log.String() != "" {
		t.Errorf("logged %q", log.String())
	}
}

func TestAbortedHandlerCutsTheConnection(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	a := httpapi.New(config(logger))
	a.Handle("GET", "/abort", func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
		panic(http.ErrAbortHandler)
	})
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = httpapi.NewServer(a, logger)
	srv.Start()
	defer srv.Close()
	if resp, err := http.Get(srv.URL + "/abort"); err == nil {
		t.Errorf("got %s, want no answer", resp.Status)
	}
}

func TestQuery(t *testing.T) {
	base, _ := newServer(t)
	for query, want := range map[string]string{
		"":                      `"" false`,
		"?":                     `"" false`,
		"?x=1":                  `"" false`,
		"?topic":                `"" true`,
		"?topic=":               `"" true`,
		"?topic=a&topic=b":      `"a" true`,
		"?&&x=1&topic=a=b":      `"a=b" true`,
		"?topic=e%23ephemeral":  `"e#ephemeral" true`,
		"?topic=a+b%20c":        `"a b c" true`,
		"?%74opic=a":            `"a" true`,
		"?topic=a;b=c":          `{"message":"INVALID_REQUEST"}`,
		"?topic=a&x=%zz":        `{"message":"INVALID_REQUEST"}`,
		"?topic=%":              `{"message":"INVALID_REQUEST"}`,
		"?%2=1&topic=a":         `{"message":"INVALID_REQUEST"}`,
		"?topic=" + "%3B" + "x": `";x" true`,
	} {
		if got, _ := do(t, "GET", base+"/query"+query, ""); got.body != want {
			t.Errorf("%s: %s, want %s", query, got.body, want)
		}
	}
}

// FuzzQuery compares with the strict parser of net/url.
func FuzzQuery(f *testing.F) {
	f.Add("topic=a&channel=%23x&&=&a;b")
	f.Add("a=%zz")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		got, err := httpapi.Query(r)
		want, wantErr := url.ParseQuery(query)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, net/url says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		for key, values := range want {
			if v, ok := got.Get(key); !ok || v != values[0] {
				t.Errorf("Get(%q) = %q, %t; net/url says %q", key, v, ok, values[0])
			}
		}
	})
}

func TestDiscardBody(t *testing.T) {
	for size, left := range map[int]int{0: 0, 10: 0, 1 << 20: 0, 1<<20 + 5: 5} {
		body := strings.NewReader(strings.Repeat("x", size))
		r := httptest.NewRequest("POST", "/", body)
		httpapi.DiscardBody(r)
		if rest, _ := io.ReadAll(r.Body); len(rest) != left {
			t.Errorf("%d bytes: %d left, want %d", size, len(rest), left)
		}
	}
}

func TestPprof(t *testing.T) {
	base, _ := newServer(t)
	for _, path := range []string{"", "cmdline", "symbol", "heap", "goroutine?debug=1", "block", "threadcreate", "allocs", "mutex", "profile?seconds=1"} {
		got, resp := do(t, "GET", base+"/debug/pprof/"+path, "")
		if got.status != 200 || got.nsq != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, got.status, resp.Header)
		}
	}
	if got, _ := do(t, "POST", base+"/debug/pprof/symbol", "0x1"); got.status != 200 {
		t.Errorf("POST symbol: %d", got.status)
	}
	if got, _ := do(t, "GET", base+"/debug/pprof/nope", ""); got.status != 404 {
		t.Errorf("nope: %d", got.status)
	}
}

func TestServerComplaintsAreWarnings(t *testing.T) {
	log := new(logBuffer)
	srv := httpapi.NewServer(http.NotFoundHandler(), logging.New(log, "", logging.LevelInfo))
	srv.ErrorLog.Printf("http: TLS handshake error from %s: x", "a:1")
	if !strings.HasSuffix(log.String(), " WARNING: http: TLS handshake error from a:1: x\n") {
		t.Errorf("logged %q", log.String())
	}
}

func TestAccessLogChoice(t *testing.T) {
	for _, tt := range []struct{ flag, want string }{
		{"all", "200 GET /ping, 200 POST /nothing, 404 GET /error, 500 POST /fail"},
		{"changes", "200 POST /nothing, 404 GET /error, 500 POST /fail"},
		{"Errors", "404 GET /error, 500 POST /fail"},
		{"none", ""},
	} {
		var log logBuffer
		var choice httpapi.AccessLog
		if err := choice.Set(tt.flag); err != nil || choice.String() != strings.ToLower(tt.flag) {
			t.Errorf("Set(%s): %v, %v", tt.flag, choice, err)
		}
		c := config(logging.New(&log, "", logging.LevelInfo))
		c.AccessLog = func() httpapi.AccessLog { return choice }
		a := httpapi.New(c)
		a.Handle("GET", "/ping", result("OK"))
		a.Handle("POST", "/nothing", result(nil))
		a.Handle("GET", "/error", failure(httpapi.Error{Status: 404, Text: "NOT_FOUND"}))
		a.Handle("POST", "/fail", failure(httpapi.Error{Status: 500, Text: "INTERNAL_ERROR"}))
		for _, request := range []string{"GET /ping", "POST /nothing", "GET /error", "POST /fail"} {
			method, path, _ := strings.Cut(request, " ")
			a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
		}
		got := regexp.MustCompile(`INFO: (\d+ \S+ \S+) `).FindAllStringSubmatch(log.String(), -1)
		var lines []string
		for _, m := range got {
			lines = append(lines, m[1])
		}
		if strings.Join(lines, ", ") != tt.want {
			t.Errorf("%s: logged %s", tt.flag, &log)
		}
	}
	choice := httpapi.AccessErrors
	if err := choice.Set("some"); err == nil || choice != httpapi.AccessErrors {
		t.Errorf("Set(some): %v, %v", choice, err)
	}
}
