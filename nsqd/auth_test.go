package nsqd

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/auth"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// grantAll is an answer of an auth server that expires after an hour.
const grantAll = `{"ttl":3600,"identity":"joe","identity_url":"http://joe/",` +
	`"authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}`

// An authServer is one in memory.
type authServer struct {
	answer func() string          // "" to fail
	asked  atomic.Int64           // questions
	last   atomic.Pointer[string] // parameters of the last one
}

// startAuthBubble runs a daemon in a bubble whose clients need AUTH.
func startAuthBubble(t *testing.T) (*bubble, *authServer) {
	t.Helper()
	s := &authServer{answer: func() string { return grantAll }}
	dial := nsqtest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.last.Store(&r.URL.RawQuery)
		s.asked.Add(1)
		answer := s.answer()
		if answer == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, answer) // nsqd may have gone
	}))
	b := startBubble(t, func(o *Options) { o.AuthHTTPAddresses = []string{"auth:80"} })
	opts := b.options()
	b.svc.auth = auth.NewClient(auth.Config{
		Addresses:      opts.AuthHTTPAddresses,
		RequestTimeout: opts.HTTPClientRequestTimeout,
		Log:            b.log,
		DialContext:    dial,
	})
	return b, s
}

// authed connects a client and authenticates it.
func (b *bubble) authed(secret string) *nsqtest.Conn {
	b.t.Helper()
	return b.connect().CommandBody(secret, "AUTH").ExpectResponse(`{"identity":"joe","identity_url":"http://joe/","permission_count":1}`)
}

func TestGrantIsAskedForAgainWhenItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := startAuthBubble(t)
		c := b.authed("secret")
		nsqtest.Equal(t, *server.last.Load(), "common_name=&remote_ip=127.0.0.1&secret=secret&tls=false")
		c.Identify(`{"heartbeat_interval":-1}`)
		time.Sleep(time.Hour - 1)
		c.Pub("t", "a").Mpub("t", "b").Dpub("t", 0, "c")
		nsqtest.Equal(t, server.asked.Load(), int64(1))
		time.Sleep(time.Nanosecond)
		for _, publish := range []func(){
			func() { c.Pub("t", "a") },
			func() { c.Mpub("t", "a") },
			func() { c.Dpub("t", time.Second, "a") },
			func() { c.Pub("t", strings.Repeat("a", 100_000)) }, // does not arrive at once
		} {
			before := server.asked.Load()
			publish()
			publish()
			nsqtest.Equal(t, server.asked.Load(), before+1)
			nsqtest.Equal(t, *server.last.Load(), "common_name=&remote_ip=127.0.0.1&secret=secret&tls=false")
			time.Sleep(time.Hour)
		}
		c.Identify(`{"heartbeat_interval":60000}`)
		c.Sub("t", "ch")
		nsqtest.Equal(t, server.asked.Load(), int64(6))
	})
}

func TestRevokedGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := startAuthBubble(t)
		publisher, consumer := b.authed("p"), b.authed("c").Sub("t", "ch").Rdy(10)
		publisher.Identify(`{"heartbeat_interval":-1}`)
		publisher.Pub("t", "before")
		b.consume(consumer, "before")
		server.answer = func() string { return strings.ReplaceAll(grantAll, ".*", "^x$") }
		publisher.Pub("t", "not expired yet")
		b.consume(consumer, "not expired yet")
		b.keepAlive(consumer, time.Hour)
		publisher.CommandBody("late", "PUB", "t").ExpectError(`E_UNAUTHORIZED AUTH failed for PUB on "t" ""`).ExpectClosed()
		// Who has subscribed stays subscribed.
		b.post("t", "over HTTP")
		b.consume(consumer, "over HTTP")
		consumer.CommandBody("a", "PUB", "t").ExpectError(`E_UNAUTHORIZED AUTH failed for PUB on "t" ""`).ExpectClosed()
	})
}

// consume reads a message and finishes it.
func (b *bubble) consume(c *nsqtest.Conn, body string) {
	b.t.Helper()
	m := c.ReadMessage()
	nsqtest.Equal(b.t, m.Body, body)
	c.Fin(m.ID)
}

// keepAlive lets time pass in which a consumer answers heartbeats.
func (b *bubble) keepAlive(c *nsqtest.Conn, d time.Duration) {
	b.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); c.Nop() {
		c.ExpectHeartbeat()
	}
}

// post puts a message into a topic as HTTP does.
func (b *bubble) post(topic, body string) {
	b.t.Helper()
	if _, err := b.topic(topic).PutMessages([]entry{newEntry(b.svc.ids, []byte(body), 0)}); err != nil {
		b.t.Fatal(err)
	}
}

func TestRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []string{"", "<html>", `{"ttl":0}`} {
			b, server := startAuthBubble(t)
			server.answer = func() string { return strings.Replace(grantAll, "3600", "1", 1) }
			c := b.authed("s").Pub("t", "a")
			server.answer = func() string { return answer }
			time.Sleep(time.Second)
			c.CommandBody("a", "PUB", "t").ExpectError("E_AUTH_FAILED AUTH failed").ExpectClosed()
		}
		b, server := startAuthBubble(t)
		server.answer = func() string { return strings.Replace(grantAll, "3600", "1", 1) }
		c := b.authed("s").Pub("t", "a")
		server.answer = func() string { return `{"ttl":1}` }
		time.Sleep(time.Second)
		c.Command("SUB", "t", "ch").ExpectError(`E_UNAUTHORIZED AUTH failed for SUB on "t" "ch"`).ExpectClosed()
	})
}

// Answers to what was said before are not held back while an auth server thinks,
// and neither are the messages that were published.
func TestSlowRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := startAuthBubble(t)
		server.answer = func() string { return strings.Replace(grantAll, "3600", "2", 1) }
		consumer := b.authed("c").Sub("t", "ch").Rdy(10)
		c := b.authed("s").Pub("u", "a")
		server.answer = func() string { time.Sleep(4 * time.Second); return grantAll }
		time.Sleep(time.Second)
		c.Pub("t", "a")
		time.Sleep(time.Second)
		start := time.Now()
		c.Send("NOP\nIDENTIFY\n\x00\x00\x00\x02{}PUB t\n\x00\x00\x00\x01bPUB u\n\x00\x00\x00\x01c").ExpectOK()
		took(t, start, 0)
		c.ExpectOK().ExpectOK()
		took(t, start, 4*time.Second)
		nsqtest.Equal(t, consumer.ReadMessage().Body+consumer.ReadMessage().Body, "ab")

		server.answer = func() string { time.Sleep(time.Minute); return grantAll }
		start = time.Now()
		b.connect().CommandBody("other", "AUTH").ExpectError("E_AUTH_FAILED AUTH failed").ExpectClosed()
		took(t, start, 5*time.Second) // --http-client-request-timeout
	})
}

// A daemon that stops does not wait for an auth server.
func TestStopWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := startAuthBubble(t)
		server.answer = func() string { time.Sleep(4 * time.Second); return grantAll }
		c := b.connect().CommandBody("s", "AUTH")
		synctest.Wait()
		start := time.Now()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > lingerStop {
			t.Errorf("the stop took %v", d)
		}
		c.Close()
	})
}

// Fifty connections of one identity whose grants expire together.
func TestOneQuestionForManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := startAuthBubble(t)
		server.answer = func() string { return strings.Replace(grantAll, "3600", "60", 1) }
		var conns []*nsqtest.Conn
		for range 50 {
			c := b.authed("s")
			c.Identify(`{"heartbeat_interval":-1}`)
			conns = append(conns, c.Pub("t", "a"))
		}
		nsqtest.Equal(t, server.asked.Load(), int64(50)) // every AUTH asks
		for round := range 3 {
			time.Sleep(time.Minute)
			server.answer = func() string { time.Sleep(time.Second); return strings.Replace(grantAll, "3600", "60", 1) }
			for _, c := range conns[:25] { // at the same time
				c.CommandBody("b", "PUB", "t")
			}
			for _, c := range conns[:25] {
				c.ExpectOK()
			}
			time.Sleep(5 * time.Second)
			for _, c := range conns[25:] { // a moment later
				c.Pub("t", "b")
			}
			nsqtest.Equal(t, server.asked.Load(), int64(51+round))
		}
		other := b.authed("other")
		nsqtest.Equal(t, *server.last.Load(), "common_name=&remote_ip=127.0.0.1&secret=other&tls=false")
		other.Pub("t", "c")
	})
}

func TestAuthInStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := startAuthBubble(t)
		b.authed("s").Pub("t", "a").Sub("t", "ch")
		server.answer = func() string { return strings.NewReplacer("http://joe/", "", "joe", "").Replace(grantAll) }
		b.connect().CommandBody("s", "AUTH").ExpectResponse(`{"identity":"","identity_url":"","permission_count":1}`).Sub("t", "ch")
		synctest.Wait()
		clients := b.channel("t", "ch").stats(statsFilter{clients: true}).Clients
		if len(clients) != 2 {
			t.Fatalf("%d clients", len(clients))
		}
		joes := 0
		for _, c := range clients {
			got := fmt.Sprintf("%v %s %s", c.Authed, c.AuthIdentity, c.AuthURL)
			if got == "true joe http://joe/" {
				joes++
			} else if !c.Authed || c.AuthIdentity != "" || c.AuthURL != "" {
				t.Errorf("got %s", got)
			}
		}
		nsqtest.Equal(t, joes, 1)
	})
}

func TestCredentials(t *testing.T) {
	for _, test := range []struct {
		addr   string
		layers layers
		want   auth.Credentials
	}{
		{"10.0.0.9:1234", layers{}, auth.Credentials{Secret: "s", RemoteIP: "10.0.0.9"}},
		{"[::1]:1234", layers{}, auth.Credentials{Secret: "s", RemoteIP: "::1"}},
		{"@", layers{}, auth.Credentials{Secret: "s"}}, // a Unix socket
		{"/tmp/client:1", layers{}, auth.Credentials{Secret: "s"}},
		{"@", layers{tls: &tlsLayer{}}, auth.Credentials{Secret: "s", TLS: true}},
		{"@", layers{tls: &tlsLayer{commonName: "joe"}}, auth.Credentials{Secret: "s", TLS: true, CommonName: "joe"}},
	} {
		c := &conn{addr: test.addr}
		c.layers.Store(&test.layers)
		nsqtest.Equal(t, c.credentials("s"), test.want)
	}
}

func TestAuthMethodIsChecked(t *testing.T) {
	for method, ok := range map[string]bool{"get": true, "GET": true, "post": true, "Post": true, "": false, "put": false} {
		opts := NewOptions()
		opts.AuthHTTPRequestMethod = method
		err := opts.validateRest()
		if (err == nil) != ok || err != nil && err.Error() != "--auth-http-request-method must be post or get" {
			t.Errorf("%q: %v", method, err)
		}
	}
}

// publishRuns returns a function that executes runs of 100 PUBs each to two
// topics, which discard them. With a grant the client has authenticated.
func publishRuns(t testing.TB, grant string) func() {
	opts := NewOptions()
	opts.DataPath, opts.MemQueueSize = t.TempDir(), 1
	n, err := newNSQD(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.lock.release(); err != nil {
			t.Error(err)
		}
	})
	c := loopConn(n, pubs("one#ephemeral", 100)+pubs("two#ephemeral", 100))
	if grant != "" {
		dial := nsqtest.ServeHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, grant) }))
		n.svc.auth = auth.NewClient(auth.Config{Addresses: []string{"auth:80"}, Log: n.log, DialContext: dial})
		t.Cleanup(n.svc.auth.Close)
		g, err := n.svc.auth.Ask(t.Context(), auth.Credentials{})
		if err != nil {
			t.Fatal(err)
		}
		c.grant.Store(g)
	}
	return func() { executeLoop(t, c) }
}

// AUTH costs a message nothing, and a run of messages no memory.
func TestAuthAllocatesNothingPerMessage(t *testing.T) {
	without := testing.AllocsPerRun(1000, publishRuns(t, ""))
	nsqtest.AllocatesAtMost(t, without, "200 messages with AUTH", publishRuns(t, grantAll))
}

func BenchmarkPublishRuns(b *testing.B) {
	for _, test := range []struct{ name, grant string }{{"auth=off", ""}, {"auth=on", grantAll}} {
		b.Run(test.name, func(b *testing.B) {
			run := publishRuns(b, test.grant)
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}
