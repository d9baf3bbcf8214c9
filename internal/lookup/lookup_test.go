package lookup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/lookup"
)

// answering starts a server that gives the same answer to everything, after
// checking that the question is right.
func answering(t *testing.T, status int, body string) (addr string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/channels" || r.URL.RawQuery != "topic=e%23ephemeral" || r.Header.Get("Accept") != "application/vnd.nsq; version=1.0" {
			t.Errorf("asked %s with Accept %q", r.URL, r.Header.Get("Accept"))
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func newClient(t *testing.T, request time.Duration) *lookup.Client {
	c := lookup.NewClient(time.Second, request, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(c.Close)
	return c
}

func TestChannels(t *testing.T) {
	one := answering(t, 200, `{"channels":["b","a"]}`)
	two := answering(t, 200, `{"channels":["c","a"],"more":1}`)
	none := answering(t, 200, `{"channels":[]}`)
	missing := answering(t, 404, `{"message":"TOPIC_NOT_FOUND"}`)
	garbage := answering(t, 200, `<html>`)
	huge := answering(t, 200, `{"channels":["`+strings.Repeat("x", 16<<20)+`"]}`)
	for _, tt := range []struct {
		name  string
		addrs []string
		want  []string
		errs  []string
	}{
		{"nobody to ask", nil, nil, nil},
		{"one", []string{one}, []string{"a", "b"}, nil},
		{"union", []string{one, two, none}, []string{"a", "b", "c"}, nil},
		{"some fail", []string{missing, one, garbage}, []string{"a", "b"},
			[]string{missing + `/channels?topic=e%23ephemeral: got response 404 Not Found "{\"message\":\"TOPIC_NOT_FOUND\"}"`, "decode answer of http://" + garbage}},
		{"all fail", []string{"127.0.0.1:1", "bad host:1", huge}, nil, []string{"127.0.0.1:1", "bad host", "answer exceeds 16777216 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newClient(t, 10*time.Second).Channels(context.Background(), tt.addrs, "e#ephemeral")
			if !slices.Equal(got, tt.want) {
				t.Errorf("channels %v, want %v", got, tt.want)
			}
			if (err != nil) != (tt.errs != nil) {
				t.Errorf("err = %v", err)
			}
			for _, want := range tt.errs {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("err = %v\nlacks %s", err, want)
				}
			}
		})
	}
}

// TestSlowServerDelaysNobodyElse: the answers of the others are there when the
// time of the slow one is over.
func TestSlowServerDelaysNobodyElse(t *testing.T) {
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(release) })
	one := answering(t, 200, `{"channels":["a"]}`)
	got, err := newClient(t, 100*time.Millisecond).Channels(context.Background(), []string{strings.TrimPrefix(slow.URL, "http://"), one}, "e#ephemeral")
	if !slices.Equal(got, []string{"a"}) || err == nil {
		t.Errorf("channels %v, err %v", got, err)
	}
}

func TestContextEndsTheQuestion(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := newClient(t, 0).Channels(ctx, []string{"127.0.0.1:1"}, "t"); err == nil {
		t.Error("no error")
	}
}

func TestQuestionIsLogged(t *testing.T) {
	var log bytes.Buffer
	c := lookup.NewClient(0, 0, nil, logging.New(&log, "", logging.LevelInfo))
	defer c.Close()
	if _, err := c.Channels(context.Background(), []string{"127.0.0.1:1"}, "a"); err == nil {
		t.Error("no error")
	}
	if want := "INFO: CI: querying nsqlookupd http://127.0.0.1:1/channels?topic=a\n"; !strings.HasSuffix(log.String(), want) {
		t.Errorf("logged %q", log.String())
	}
}

func serve(t *testing.T, routes map[string]string) (addr string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := routes[r.URL.String()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			body = `{"message":"TOPIC_NOT_FOUND"}`
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestProducers(t *testing.T) {
	one := serve(t, map[string]string{"/lookup?topic=t": `{"producers":[{"broadcast_address":"b","http_port":2},{"broadcast_address":"::1","http_port":1}]}`})
	two := serve(t, map[string]string{"/lookup?topic=t": `{"producers":[{"broadcast_address":"b","http_port":2,"tcp_port":9},{"broadcast_address":"b","http_port":3}]}`})
	none := serve(t, nil)
	got, err := newClient(t, time.Second).Producers(t.Context(), []string{one, two, none}, "t")
	var addresses []string
	for _, p := range got {
		addresses = append(addresses, p.HTTPAddress())
	}
	if !slices.Equal(addresses, []string{"b:2", "[::1]:1", "b:3"}) {
		t.Errorf("producers %v", addresses)
	}
	if status, ok := errors.AsType[*lookup.StatusError](err); !ok || status.Code != 404 || status.Response() != `got response 404 Not Found "{\"message\":\"TOPIC_NOT_FOUND\"}"` {
		t.Errorf("error %v", err)
	}
}

func TestTopics(t *testing.T) {
	one, two := serve(t, map[string]string{"/topics": `{"topics":["b","a"]}`}), serve(t, map[string]string{"/topics": `{"topics":["c","a"]}`})
	got, err := newClient(t, time.Second).Topics(t.Context(), []string{one, "127.0.0.1:1", two})
	if !slices.Equal(got, []string{"a", "b", "c"}) || err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTopicStats(t *testing.T) {
	const question = "/stats?format=json&include_clients=false&topic=t"
	has := serve(t, map[string]string{
		question: `{"start_time":7,"topics":[{"topic_name":"t","channels":[{"channel_name":"c","depth":3,"backend_depth":1,"paused":true}]}]}`,
		"/info":  `{"broadcast_address":"b","http_port":2}`,
	})
	lacks := serve(t, map[string]string{question: `{"topics":null}`})
	c := newClient(t, time.Second)
	got, err := c.TopicStats(t.Context(), []string{has, lacks}, "t")
	want := lookup.ChannelStats{Channel: "c", Depth: 3, BackendDepth: 1, Paused: true}
	if err != nil || len(got) != 1 || got[has].Started != 7 || !slices.Equal(got[has].Channels, []lookup.ChannelStats{want}) {
		t.Errorf("%+v, %v", got, err)
	}
	if p, err := c.Info(t.Context(), has); err != nil || p.HTTPAddress() != "b:2" {
		t.Errorf("%+v, %v", p, err)
	}
}

// A daemon that wants HTTPS is asked there.
func TestForbiddenNamesHTTPS(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"topics":["over-tls"]}`)
	}))
	t.Cleanup(secure.Close)
	_, port, _ := net.SplitHostPort(secure.Listener.Addr().String())
	answer := `{"message":"TLS_REQUIRED","https_port":` + port + `}`
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(plain.Close)
	c := lookup.NewClient(time.Second, time.Second, secure.Client().Transport.(*http.Transport).TLSClientConfig, slog.New(slog.DiscardHandler))
	t.Cleanup(c.Close)
	got, err := c.Topics(t.Context(), []string{strings.TrimPrefix(plain.URL, "http://")})
	if err != nil || !slices.Equal(got, []string{"over-tls"}) {
		t.Errorf("%v, %v", got, err)
	}
	answer = `{"message":"FORBIDDEN"}`
	if _, err := c.Topics(t.Context(), []string{strings.TrimPrefix(plain.URL, "http://")}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("without a port: %v", err)
	}
}
