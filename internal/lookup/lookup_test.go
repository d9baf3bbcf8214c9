package lookup_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
