package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

const everything = `{"ttl":3600,"identity":"joe","identity_url":"http://joe/","authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}`

func newClient(t *testing.T, config Config) *Client {
	config.Log = slog.New(slog.DiscardHandler)
	c := NewClient(config)
	t.Cleanup(c.Close)
	return c
}

// serve runs an auth server until the test ends and returns its URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may have gone
	}
}

func TestQuestion(t *testing.T) {
	who := Credentials{Secret: "se cret&<", RemoteIP: "10.0.0.9", CommonName: "joe", TLS: true}
	for _, test := range []struct {
		method, want string
		bare         bool // the address is host:port
	}{
		{method: "get", want: "GET /path?common_name=joe&remote_ip=10.0.0.9&secret=se+cret%26%3C&tls=true|||"},
		{method: "GET", bare: true, want: "GET /auth?common_name=joe&remote_ip=10.0.0.9&secret=se+cret%26%3C&tls=true|||"},
		{method: "post", want: `POST /path|application/json|` +
			`{"common_name":["joe"],"remote_ip":["10.0.0.9"],"secret":["se cret\u0026\u003c"],"tls":["true"]}|`},
		{method: "Post", bare: true, want: `POST /auth|application/json|` +
			`{"common_name":["joe"],"remote_ip":["10.0.0.9"],"secret":["se cret\u0026\u003c"],"tls":["true"]}|`},
	} {
		var got string
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			got = fmt.Sprintf("%s %s|%s|%s|", r.Method, r.RequestURI, r.Header.Get("Content-Type"), body)
			if err != nil || r.Header.Get("Accept") != "application/vnd.nsq; version=1.0" {
				t.Errorf("%v, Accept %q", err, r.Header.Get("Accept"))
			}
			answering(200, everything)(w, r)
		})
		addr := url + "/path"
		if test.bare {
			addr = strings.TrimPrefix(url, "http://")
		}
		c := newClient(t, Config{Addresses: []string{addr}, Method: test.method})
		grant, err := c.Ask(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		nsqtest.Equal(t, got, test.want)
		nsqtest.Equal(t, []any{grant.Identity, grant.IdentityURL, grant.Len()}, []any{"joe", "http://joe/", 1})
	}
}

func TestUnusableAnswers(t *testing.T) {
	ok := `"authorizations":[{"topic":"t","channels":["c"],"permissions":["publish"]}]`
	for name, h := range map[string]http.HandlerFunc{
		"status 500":             answering(500, everything),
		"status 201":             answering(201, everything),
		"status 403":             answering(403, everything),
		"403 without port":       answering(403, `{"https_port":0}`),
		"403 to a closed port":   answering(403, `{"https_port":1}`),
		"empty":                  answering(200, ``),
		"no JSON":                answering(200, `<html>`),
		"something behind":       answering(200, everything+`}`),
		"ttl missing":            answering(200, `{`+ok+`}`),
		"ttl 0":                  answering(200, `{"ttl":0,`+ok+`}`),
		"ttl negative":           answering(200, `{"ttl":-1,`+ok+`}`),
		"ttl text":               answering(200, `{"ttl":"1",`+ok+`}`),
		"unknown permission":     answering(200, `{"ttl":1,"authorizations":[{"topic":"t","channels":["c"],"permissions":["publish","admin"]}]}`),
		"bad topic":              answering(200, `{"ttl":1,"authorizations":[{"topic":"(","channels":["c"],"permissions":["publish"]}]}`),
		"bad channel":            answering(200, `{"ttl":1,"authorizations":[{"topic":"t","channels":["c","("],"permissions":["publish"]}]}`),
		"too long":               answering(200, everything+strings.Repeat(" ", maxAnswer)),
		"redirected in a circle": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.RequestURI, http.StatusFound) },
		"gone":                   func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Config{Addresses: []string{serve(t, h)}, Method: "get"})
			grant, err := c.Ask(t.Context(), Credentials{Secret: "hidden"})
			if err == nil || grant != nil {
				t.Fatalf("got %+v, %v", grant, err)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestBadAddresses(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:x", "http://%zz/", "ftp://127.0.0.1/", "http://127.0.0.1:1"} {
		_, err := newClient(t, Config{Addresses: []string{addr}}).Ask(t.Context(), Credentials{Secret: "hidden"})
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v", addr, err)
		}
	}
	if _, err := newClient(t, Config{}).Ask(t.Context(), Credentials{}); err == nil {
		t.Error("somebody was asked where there is nobody")
	}
}

func TestServersInTurn(t *testing.T) {
	var asked [3]atomic.Int64
	var addresses []string
	for i := range asked {
		addresses = append(addresses, serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked[i].Add(1)
			answering([]int{500, 200, 404}[i], everything)(w, r)
		}))
	}
	c := newClient(t, Config{Addresses: addresses, Method: "get"})
	for range 100 {
		if _, err := c.Ask(t.Context(), Credentials{}); err != nil {
			t.Fatal(err)
		}
	}
	// It begins anywhere, and ends at the one that answers: the first is asked
	// when it is begun with or after the third, the third only when begun with.
	first, second, third := asked[0].Load(), asked[1].Load(), asked[2].Load()
	if second != 100 || third == 0 || first <= third || first == 100 {
		t.Errorf("asked %d, %d and %d times", first, second, third)
	}
}

func TestHTTPSRequired(t *testing.T) {
	secure := httptest.NewUnstartedServer(answering(200, everything))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	_, port, err := net.SplitHostPort(secure.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	plain := serve(t, answering(403, `{"message": "TLS_REQUIRED", "https_port": `+port+`}`))
	roots := secure.Client().Transport.(*http.Transport).TLSClientConfig
	for _, method := range []string{"get", "post"} {
		for _, addr := range []string{plain, secure.URL} {
			if _, err := newClient(t, Config{Addresses: []string{addr}, Method: method, TLS: roots}).Ask(t.Context(), Credentials{}); err != nil {
				t.Errorf("%s %s: %v", method, addr, err)
			}
			if _, err := newClient(t, Config{Addresses: []string{addr}, Method: method}).Ask(t.Context(), Credentials{}); err == nil {
				t.Errorf("%s %s: a certificate of an unknown CA was accepted", method, addr)
			}
		}
	}
}

func TestRedirectDoesNotTellTheSecret(t *testing.T) {
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Referer() != "" {
			t.Errorf("referred by %s", r.Referer())
		}
		answering(200, everything)(w, r)
	})
	from := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
	if _, err := newClient(t, Config{Addresses: []string{from}, Method: "get"}).Ask(t.Context(), Credentials{Secret: "s"}); err != nil {
		t.Error(err)
	}
}

func TestAllows(t *testing.T) {
	grant, err := parseGrant([]byte(`{"ttl":1,"authorizations":[
		{"topic":"test","channels":[".*"],"permissions":["subscribe","publish"]},
		{"topic":"^narrow$","channels":["^ch$","^other$"],"permissions":["subscribe","publish"]},
		{"topic":"^empty$","channels":[],"permissions":["subscribe","publish"]},
		{"topic":"^in$","channels":[".*"],"permissions":["publish"]},
		{"topic":"^out$","channels":[".*"],"permissions":["subscribe"]},
		{"topic":"^none$","channels":[".*"],"permissions":[]}
	]}`), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		topic, channel string
		want           bool
	}{
		{"mytest2", "", true}, // not anchored
		{"mytest2", "any", true},
		{"narrow", "", false}, // the channel of a publish is matched too
		{"narrow", "ch", true},
		{"narrow", "other", true},
		{"narrow", "chx", false},
		{"xnarrow", "ch", false},
		{"empty", "", false},
		{"empty", "ch", false},
		{"in", "", true},
		{"in", "ch", false},
		{"out", "", false},
		{"out", "ch", true},
		{"none", "", false},
		{"none", "ch", false},
		{"unknown", "", false},
	} {
		if got := grant.Allows(test.topic, test.channel); got != test.want {
			t.Errorf("%q %q: got %v", test.topic, test.channel, got)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	for ttl, valid := range map[string]time.Duration{"1": time.Second, "3600": time.Hour, "9223372036854775807": 290 * 365 * 24 * time.Hour} {
		grant, err := parseGrant([]byte(`{"ttl":`+ttl+`}`), now)
		if err != nil || !grant.Valid(now) || !grant.Valid(now.Add(valid-1)) {
			t.Errorf("ttl %s: %v, %+v", ttl, err, grant)
		}
		if ttl != "9223372036854775807" && grant.Valid(now.Add(valid)) {
			t.Errorf("ttl %s: valid at its end", ttl)
		}
	}
}

// A bubble is an auth server in memory, in a synctest bubble.
type bubble struct {
	*Client
	dials  atomic.Int64
	asked  atomic.Int64
	answer func() (status int, body string)
}

func startBubble(t *testing.T, config Config) *bubble {
	b := &bubble{answer: func() (int, string) { return 200, everything }}
	dial := nsqtest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		status, body := b.answer()
		answering(status, body)(w, r)
	}))
	config.Addresses = []string{"auth:80"}
	config.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		b.dials.Add(1)
		return dial(ctx, network, addr)
	}
	b.Client = newClient(t, config)
	return b
}

// Fifty clients of one identity ask at once, and one who differs.
func TestQuestionsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, Config{})
		b.answer = func() (int, string) { time.Sleep(time.Second); return 200, everything }
		for round, ask := range []func(context.Context, Credentials) (*Grant, error){b.Ask, b.Renew} {
			time.Sleep(time.Hour)
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if _, err := ask(t.Context(), Credentials{Secret: "s", RemoteIP: "10.0.0.1"}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() {
				if _, err := ask(t.Context(), Credentials{Secret: "s", RemoteIP: "10.0.0.2"}); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			nsqtest.Equal(t, b.asked.Load(), int64(2*round+2))
		}
	})
}

func TestRenewSharesAFreshGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, Config{})
		who := Credentials{Secret: "s"}
		for _, step := range []struct {
			ask   func(context.Context, Credentials) (*Grant, error)
			after time.Duration
			want  int64
		}{
			{b.Ask, 0, 1},
			{b.Ask, 0, 2}, // AUTH always asks: what was revoked is gone
			{b.Renew, shareFor - 1, 2},
			{b.Renew, 1, 3},
			{b.Renew, shareFor - 1, 3},
			{b.Ask, 0, 4},
		} {
			time.Sleep(step.after)
			if _, err := step.ask(t.Context(), who); err != nil {
				t.Fatal(err)
			}
			nsqtest.Equal(t, b.asked.Load(), step.want)
		}
		nsqtest.Equal(t, b.dials.Load(), int64(1)) // connections are reused

		// One that expires sooner is not shared longer than it is valid.
		b.answer = func() (int, string) { return 200, strings.Replace(everything, "3600", "2", 1) }
		time.Sleep(time.Hour)
		for range 3 {
			if _, err := b.Renew(t.Context(), who); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		nsqtest.Equal(t, b.asked.Load(), int64(7))

		// Nor is a failure.
		b.answer = func() (int, string) { return 500, "" }
		for range 3 {
			if _, err := b.Renew(t.Context(), who); err == nil {
				t.Error("a failing server granted something")
			}
		}
		nsqtest.Equal(t, b.asked.Load(), int64(10))
	})
}

// Old questions, which hold secrets, are not kept.
func TestQuestionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, Config{})
		for i := range 1000 {
			time.Sleep(shareFor / 10)
			if _, err := b.Ask(t.Context(), Credentials{Secret: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
			b.mu.Lock()
			n := len(b.questions)
			b.mu.Unlock()
			if n > 21 {
				t.Fatalf("%d questions kept", n)
			}
		}
	})
}

func TestSlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, Config{RequestTimeout: 5 * time.Second})
		b.answer = func() (int, string) { time.Sleep(time.Minute); return 200, everything }
		start := time.Now()
		_, err := b.Ask(t.Context(), Credentials{Secret: "hidden"})
		if took := time.Since(start); err == nil || took != 5*time.Second || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// When the daemon stops nobody waits for an auth server.
func TestCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, Config{})
		b.answer = func() (int, string) { time.Sleep(time.Minute); return 200, everything }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := b.Ask(ctx, Credentials{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		nsqtest.Equal(t, time.Since(start), time.Second)
	})
}

func FuzzParseGrant(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"ttl":1,"authorizations":null}`))
	f.Add([]byte(`{"ttl":9223372036854775807,"authorizations":[{"topic":"","channels":[""],"permissions":["publish"]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		now := time.Now()
		g, err := parseGrant(body, now)
		if err != nil {
			return
		}
		if !g.Valid(now) {
			t.Error("expired when it came")
		}
		g.Allows("topic", "channel")
		g.Allows("topic", "")
	})
}

func BenchmarkAllows(b *testing.B) {
	grant, err := parseGrant([]byte(everything), time.Now())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		grant.Allows("topic", "")
	}
}
