package nsqtohttp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/tool"
)

func TestParseHeaders(t *testing.T) {
	got, err := parseHeaders([]string{"a: b", "c:d", "X-Y : e:f ", "a: g"})
	if want := (http.Header{"A": {"g"}, "C": {"d"}, "X-Y": {"e:f"}}); err != nil || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"a", "a:", ":b", ":", " : "} {
		if _, err := parseHeaders([]string{"x: y", bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestParseTemplate(t *testing.T) {
	for text, want := range map[string]string{
		"http://x/?a=%s":            "http://x/?a=M",
		"http://x/a%20b?c=%s&d=%41": "http://x/a%20b?c=M&d=%41",
		"http://x/a%%20b?c=%s":      "http://x/a%20b?c=M",
		"http://x/%%s?c=%s%%":       "http://x/%s?c=M%",
		"http://x/":                 "",
		"http://x/%%s":              "",
		"http://x/?a=%s&b=%s":       "",
		"http://x/?a=%d":            "",
	} {
		got, ok := parseTemplate(text)
		if ok != (want != "") || ok && got.with("M") != want {
			t.Errorf("%q: %+v, %t", text, got, ok)
		}
	}
}

// A server notes requests, and answers as it is told.
type server struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	requests []string   // method, URL, body
	headers  http.Header
	statuses []int // the next answers, before only 200s
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // what is missing fails the test
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
	s.headers = r.Header.Clone()
	if len(s.statuses) > 0 {
		if s.statuses[0]/100 == 3 {
			w.Header().Set("Location", "/redirected")
		}
		w.WriteHeader(s.statuses[0])
		s.statuses = s.statuses[1:]
	}
	fmt.Fprint(w, "an answer")
}

// take returns the requests so far, and forgets them.
func (s *server) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.requests = nil }()
	return s.requests
}

func publisherOf(t *testing.T, log io.Writer, configure func(*Options)) *publisher {
	t.Helper()
	opts := NewOptions()
	configure(opts)
	p, err := newPublisher(opts, tool.NewEnv("nsq_to_http", nil, nil, log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

func message(body string) *nsq.Message { return nsq.NewMessage(nsq.MessageID{}, []byte(body)) }

func TestRequests(t *testing.T) {
	nsqtest.NoLeaks(t)
	s := newServer(t)
	post := publisherOf(t, io.Discard, func(o *Options) { o.Post, o.ContentType = []string{s.URL + "/p?a=%20"}, "text/x" })
	get := publisherOf(t, io.Discard, func(o *Options) { o.Get = []string{s.URL + "/g%20h?a=%s&b=1"} })
	unlimited := publisherOf(t, io.Discard, func(o *Options) { o.Post, o.HTTPLimits = []string{s.URL + "/u"}, tool.HTTPLimits{} })
	for _, tt := range []struct {
		p        *publisher
		body     string
		statuses []int
		want     []string
		err      string
	}{
		{post, "a b", nil, []string{"POST /p?a=%20 a b"}, ""},
		{post, "a", []int{299}, []string{"POST /p?a=%20 a"}, ""},
		{post, "a", []int{500}, []string{"POST /p?a=%20 a"}, "got status code 500"},
		{post, "a", []int{303}, []string{"POST /p?a=%20 a", "GET /redirected"}, ""},
		{post, "a", []int{308}, []string{"POST /p?a=%20 a", "POST /redirected a"}, ""},
		{post, "a", []int{302, 404}, []string{"POST /p?a=%20 a", "GET /redirected"}, "got status code 404"},
		{unlimited, "a", nil, []string{"POST /u a"}, ""},
		{get, "a b&c%", nil, []string{"GET /g%20h?a=a+b%26c%25&b=1"}, ""},
		{get, "a", []int{204}, []string{"GET /g%20h?a=a&b=1"}, ""},
		{get, "a", []int{404}, []string{"GET /g%20h?a=a&b=1"}, "got status code 404"},
	} {
		s.mu.Lock()
		s.statuses = tt.statuses
		s.mu.Unlock()
		err := tt.p.HandleMessage(message(tt.body))
		if got := s.take(); !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q %v: %q, %v", tt.body, tt.statuses, got, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newServer(t)
	send := func(configure func(*Options)) http.Header {
		t.Helper()
		if err := publisherOf(t, io.Discard, configure).HandleMessage(message("a")); err != nil {
			t.Fatal(err)
		}
		return s.headers
	}
	h := send(func(o *Options) { o.Post = []string{s.URL} })
	if h.Get("User-Agent") != "nsq_to_http v1.3.0" || h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%v", h)
	}
	h = send(func(o *Options) {
		o.Post, o.Headers = []string{s.URL}, []string{"user-agent: me", "Content-Type: text/y", "X-A: 1", "x-a: 2"}
	})
	if h.Get("User-Agent") != "me" || h.Get("Content-Type") != "text/y" || h.Get("X-A") != "2" {
		t.Errorf("%v", h)
	}
	h = send(func(o *Options) { o.Get = []string{s.URL + "/%s"} })
	if h.Get("User-Agent") != "nsq_to_http v1.3.0" || h["Content-Type"] != nil {
		t.Errorf("%v", h)
	}
}

func TestModes(t *testing.T) {
	one, two := newServer(t), newServer(t)
	send := func(mode string, messages string, fail ...int) (requests string, log string) {
		var b bytes.Buffer
		p := publisherOf(t, &b, func(o *Options) { o.Post, o.Mode, o.StatusEvery = []string{one.URL, two.URL}, mode, 0 })
		for i := range len(messages) {
			one.mu.Lock()
			if one.statuses = nil; slices.Contains(fail, i) {
				one.statuses = []int{500}
			}
			one.mu.Unlock()
			_ = p.HandleMessage(message(messages[i : i+1])) // a failure shows in what comes next
			for range one.take() {
				requests += "1"
			}
			for range two.take() {
				requests += "2"
			}
		}
		return requests, b.String()
	}
	for _, tt := range []struct {
		mode string
		fail []int
		want string
	}{
		{"hostpool", nil, "1212"}, {"hostpool", []int{0}, "1222"},
		{"round-robin", nil, "2121"}, {"round-robin", []int{1}, "2121"},
		{"every", nil, "12121212"}, {"every", []int{1}, "1211212"},
	} {
		got, log := send(tt.mode, "abcd", tt.fail...)
		if got != tt.want || (tt.mode == "every") != strings.Contains(log, `WARNING: --mode "every" is not known: each message goes to all 2 addresses`) {
			t.Errorf("%s %v: %s, want %s\n%s", tt.mode, tt.fail, got, tt.want, log)
		}
	}
}

func TestSample(t *testing.T) {
	s := newServer(t)
	for sample, want := range map[float64]int{0: 0, 0.25: 1, 0.5: 2, 1: 4} {
		p := publisherOf(t, io.Discard, func(o *Options) { o.Post, o.Sample = []string{s.URL}, sample })
		random := []float64{0, 0.25, 0.5, 0.75}
		for _, r := range random {
			p.random = func() float64 { return r }
			if err := p.HandleMessage(message("a")); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.take(); len(got) != want {
			t.Errorf("sample %v: %d requests, want %d", sample, len(got), want)
		}
	}
}

// All handlers that are busy keep their connections.
func TestConnectionsAreKept(t *testing.T) {
	var mu sync.Mutex
	connections := map[string]bool{}
	const n = 20
	var arrived sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections[r.RemoteAddr] = true
		mu.Unlock()
		arrived.Done()
		arrived.Wait() // each needs a connection of its own
	}))
	t.Cleanup(s.Close)
	p := publisherOf(t, io.Discard, func(o *Options) { o.Post, o.Handlers = []string{s.URL}, n })
	for range 3 {
		arrived.Add(n)
		var handlers sync.WaitGroup
		for range n {
			handlers.Go(func() {
				if err := p.HandleMessage(message("a")); err != nil {
					t.Error(err)
				}
			})
		}
		handlers.Wait()
	}
	if len(connections) != n {
		t.Errorf("%d connections for %d handlers", len(connections), n)
	}
}

func TestCertificates(t *testing.T) {
	ca := nsqtest.NewCA(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.TLS = ca.Client(ca.Issue("server"))
	s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, s.TLS.RootCAs
	s.StartTLS()
	t.Cleanup(s.Close)
	cert, key := ca.IssueFiles("client")
	for _, tt := range []struct {
		name string
		tls  tool.TLSOptions
		ok   bool
	}{
		{"unknown CA", tool.TLSOptions{CertFile: cert, KeyFile: key}, false},
		{"no certificate", tool.TLSOptions{RootCAFile: ca.File()}, false},
		{"both", tool.TLSOptions{RootCAFile: ca.File(), CertFile: cert, KeyFile: key}, true},
		{"any server", tool.TLSOptions{InsecureSkipVerify: true, CertFile: cert, KeyFile: key}, true},
	} {
		p := publisherOf(t, io.Discard, func(o *Options) { o.Post, o.TLSOptions = []string{s.URL}, tt.tls })
		if err := p.HandleMessage(message("a")); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, bad := range []tool.TLSOptions{{CertFile: cert}, {RootCAFile: "/none"}, {RootCAFile: key}, {CertFile: key, KeyFile: key}} {
		if _, err := bad.Config(); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
