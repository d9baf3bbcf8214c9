package nsqd

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// The rules that hold for all endpoints, by the sections of the HTTP specification,
// and the tests that show them.
//
//	1.1  listeners, HTTPS like TCP, HTTP/1.1 only        TestPlainHTTPRefused, TestClientCertificatePolicies
//	     clear text to the HTTPS port                    TestClearTextToHTTPS
//	     no CORS, no compression either way              TestNoNegotiation
//	     Unix sockets, empty addresses                   TestUnixSockets, TestListenersSwitchedOff
//	     Content-Length up to 2048 bytes                 TestContentLength in internal/httpapi
//	1.2  TLS required                                    TestPlainHTTPRefused, TestRefusalsAreNotLogged
//	1.3  Accept is ignored, X-NSQ-Content-Type           TestNoNegotiation, TestRoutes
//	1.4  forms of answers                                TestAnswers in internal/httpapi
//	1.5  404, 405, OPTIONS, redirects, panics            TestRoutes; TestAnswers, TestRedirects in internal/httpapi
//	1.6  parameters                                      TestQuery, TestDiscardBody in internal/httpapi
//	1.7  names                                           TestNames in internal/protocol, TestNameLength
//	1.8  routes, access log                              TestRoutes
//	2    /pub and /mpub, step by step                    TestPublishLimits, TestPublishTooMuchInChunks, TestBodyThatBreaksOff,
//	                                                     TestDeprecatedBinary, TestPublishedOverHTTPReadOverTCP
//	3.1  parameters of administration                    TestParameterChecksOfAdminEndpoints
//	3.2  its effects                                     TestSuccessfulAdminAnswersAreEmpty, http_topic_test.go
//	4    /ping, /info                                    TestDiskFailure, TestInfo

// routes is the table of section 1.8, with what is beyond it below.
var allRoutes = []struct {
	path, allow      string
	status           int // of a request without parameters, with the first method
	marked, accessed bool
}{
	{"/ping", "GET, OPTIONS", 200, false, true},
	{"/info", "GET, OPTIONS", 200, true, true},
	{"/pub", "OPTIONS, POST", 400, true, false},
	{"/mpub", "OPTIONS, POST", 400, true, false},
	{"/stats", "GET, OPTIONS", 200, true, true},
	{"/topic/create", "OPTIONS, POST", 400, true, true},
	{"/topic/delete", "OPTIONS, POST", 400, true, true},
	{"/topic/empty", "OPTIONS, POST", 400, true, true},
	{"/topic/pause", "OPTIONS, POST", 400, true, true},
	{"/topic/unpause", "OPTIONS, POST", 400, true, true},
	{"/channel/create", "OPTIONS, POST", 400, true, true},
	{"/channel/delete", "OPTIONS, POST", 400, true, true},
	{"/channel/empty", "OPTIONS, POST", 400, true, true},
	{"/channel/pause", "OPTIONS, POST", 400, true, true},
	{"/channel/unpause", "OPTIONS, POST", 400, true, true},
	{"/config/snappy", "GET, OPTIONS, PUT", 200, true, true},
	{"/debug/pprof/", "GET, OPTIONS", 200, false, false},
	{"/debug/pprof/cmdline", "GET, OPTIONS", 200, false, false},
	{"/debug/pprof/symbol", "GET, OPTIONS, POST", 200, false, false},
	{"/debug/pprof/heap", "GET, OPTIONS", 200, false, false},
	{"/debug/pprof/goroutine", "GET, OPTIONS", 200, false, false},
	{"/debug/pprof/block", "GET, OPTIONS", 200, false, false},
	{"/debug/pprof/threadcreate", "GET, OPTIONS", 200, false, false},
	{"/debug/setblockrate", "OPTIONS, PUT", 400, false, true},
	{"/debug/freememory", "OPTIONS, POST", 200, true, true},

	{"/drain", "DELETE, GET, OPTIONS, POST", 200, true, true},
	{"/debug/pprof/allocs", "GET, OPTIONS", 200, false, false},
	{"/debug/pprof/mutex", "GET, OPTIONS", 200, false, false},
}

func TestRoutes(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	d.client.MaxConnsPerHost = 1
	for _, c := range allRoutes {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			allowed := strings.Contains(c.allow, method)
			if allowed && method == "PUT" && strings.HasPrefix(c.path, "/config") {
				continue // it needs a body
			}
			if c.path == "/drain" && method == "POST" {
				continue // it would be the end
			}
			before := logged.String()
			resp, body := d.request(method, c.path, "")
			d.request("GET", "/info?", "") // on the same connection: what was before is over, and logged
			_, line, access := strings.Cut(strings.TrimPrefix(logged.String(), before), fmt.Sprintf(" %s %s (", method, c.path))
			header := resp.Header.Get("X-Nsq-Content-Type")
			switch {
			case method == "OPTIONS":
				if resp.StatusCode != 200 || body != "" || resp.Header.Get("Allow") != c.allow || header != "" || access {
					t.Errorf("OPTIONS %s: got %d %q with %v, logged %t", c.path, resp.StatusCode, body, resp.Header, access)
				}
			case allowed:
				if resp.StatusCode != c.status || (header == "nsq; version=1.0") != c.marked || access != c.accessed {
					t.Errorf("%s %s: got %d %q with %v, logged %t %s", method, c.path, resp.StatusCode, body, resp.Header, access, line)
				}
			default:
				want := `{"message":"METHOD_NOT_ALLOWED"}`
				if method == "HEAD" {
					want = ""
				}
				if resp.StatusCode != 405 || body != want || resp.Header.Get("Allow") != c.allow || header != "nsq; version=1.0" || !access {
					t.Errorf("%s %s: got %d %q with %v, logged %t", method, c.path, resp.StatusCode, body, resp.Header, access)
				}
			}
		}
	}
	for _, path := range []string{"/", "/config", "/config/", "/config/a/b", "/nope", "/topic", "/debug"} {
		resp := d.expect("GET", path, "", 404, `{"message":"NOT_FOUND"}`)
		nsqtest.Equal(t, resp.Header.Get("X-Nsq-Content-Type"), "nsq; version=1.0")
	}
}

// What a client says it would like changes nothing; bodies are raw bytes.
func TestNoNegotiation(t *testing.T) {
	d := startDaemon(t)
	d.client.DisableCompression = true
	ask := func(header http.Header) (http.Header, string) {
		t.Helper()
		req, err := http.NewRequest("GET", d.url("/info"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := d.client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Header.Del("Date")
		return resp.Header, string(body)
	}
	plainHeader, plain := ask(http.Header{})
	gotHeader, got := ask(http.Header{
		"Accept":          {"application/vnd.nsq; version=1.0"},
		"Accept-Encoding": {"gzip, deflate, br"},
		"Origin":          {"http://elsewhere.example"},
		"Accept-Language": {"eo"},
	})
	if got != plain || fmt.Sprint(gotHeader) != fmt.Sprint(plainHeader) || gotHeader.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("got %q with %v\nwant %q with %v", got, gotHeader, plain, plainHeader)
	}

	var zipped strings.Builder
	zip := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(zip, "hello"); err != nil || zip.Close() != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", d.url("/pub?topic=t"), strings.NewReader(zipped.String()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "gzip")
	resp, err := d.client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	nsqtest.Equal(t, resp.StatusCode, 200)
	nsqtest.Equal(t, d.dial().Sub("t", "c").Rdy(1).ReadMessage().Body, zipped.String())
}

func TestClearTextToHTTPS(t *testing.T) {
	var logged logLines
	ca := nsqtest.NewCA(t)
	d := startDaemon(t, func(o *Options) {
		o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd")
		o.Logger = logging.New(&logged, "", slog.LevelInfo)
	})
	conn, err := net.Dial("tcp", d.HTTPSAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n" {
		t.Errorf("got %q, %v", answer, err)
	}
	logged.await(t, `WARNING: http: TLS handshake error from 127\.0\.0\.1:\d+: `)
}

func TestRefusalsAreNotLogged(t *testing.T) {
	var logged logLines
	ca := nsqtest.NewCA(t)
	d := startDaemon(t, func(o *Options) {
		o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd")
		o.TLSRequired = TLSRequired
		o.Logger = logging.New(&logged, "", slog.LevelInfo)
	})
	resp, _ := d.request("GET", "/ping", "")
	if resp.StatusCode != 403 || strings.Contains(logged.String(), "/ping") {
		t.Errorf("got %d, logged %s", resp.StatusCode, &logged)
	}
}

func TestListenersSwitchedOff(t *testing.T) {
	ca := nsqtest.NewCA(t)
	d := startDaemon(t, func(o *Options) {
		o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd")
		o.HTTPAddress = ""
	})
	if d.HTTPAddr() != nil {
		t.Errorf("HTTP is served on %v", d.HTTPAddr())
	}
	d.base, d.client.TLSClientConfig = "https://"+d.HTTPSAddr().String(), ca.Client()
	d.expect("GET", "/ping", "", 200, "OK")
	if _, body := d.request("GET", "/info", ""); !strings.Contains(body, `"http_port":0,`) {
		t.Errorf("/info says %s", body)
	}
	if d := startDaemon(t); d.HTTPSAddr() != nil {
		t.Errorf("HTTPS is served on %v without a certificate", d.HTTPSAddr())
	}
}

// Names have up to 64 bytes, the suffix of ephemeral ones included.
func TestNameLength(t *testing.T) {
	d := startDaemon(t)
	for _, c := range []struct {
		name   string
		status int
	}{
		{strings.Repeat("n", 64), 200},
		{strings.Repeat("n", 65), 400},
		{strings.Repeat("n", 54) + "%23ephemeral", 200},
		{strings.Repeat("n", 55) + "%23ephemeral", 400},
		{"%23ephemeral", 400},
		{".", 200},
		{"aZ0._-", 200},
		{"%C3%A9", 400},
		{"a%23b", 400},
	} {
		if resp, body := d.request("POST", "/topic/create?topic="+c.name, ""); resp.StatusCode != c.status {
			t.Errorf("%s: got %d %q", c.name, resp.StatusCode, body)
		}
	}
}

// A body that ends before its announced length is not published, and the client,
// if it still listens, is told.
func TestBodyThatBreaksOff(t *testing.T) {
	d := startDaemon(t)
	for _, path := range []string{"/pub?topic=t", "/mpub?topic=t"} {
		conn, err := net.Dial("tcp", d.HTTPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", path); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 500 || string(body) != `{"message":"INTERNAL_ERROR"}` {
			t.Errorf("%s: got %d %q, %v", path, resp.StatusCode, body, err)
		}
	}
	if d.existingTopic("t") != nil {
		t.Error("there is a topic now")
	}
}

func TestDeprecatedBinary(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	d.post("/mpub?topic=t&binary=yes", batchOfTwo, "OK")
	if want := "WARNING: deprecated value 'yes' used for /mpub binary param\n"; !strings.Contains(logged.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, &logged)
	}
}
