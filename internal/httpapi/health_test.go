package httpapi_test

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

func TestHealth(t *testing.T) {
	logged := new(logBuffer)
	a := httpapi.New(config(logging.New(logged, "", slog.LevelInfo)))
	var reasons []string
	a.Health(func() []string { return reasons })
	const ok = `{"status":"ok"}`
	for _, c := range []struct {
		method, path string
		reasons      []string
		status       int
		body         string
	}{
		{"GET", "/health/live", nil, 200, ok},
		{"GET", "/health/ready", nil, 200, ok},
		{"HEAD", "/health/ready", nil, 200, ok}, // whose body a real server does not send
		{"GET", "/health/live", []string{"draining"}, 200, ok},
		{"GET", "/health/ready", []string{"draining", "disk <full>"}, 503, `{"status":"unavailable","reasons":["draining","disk \u003cfull\u003e"]}`},
		{"POST", "/health/ready", nil, 405, `{"message":"METHOD_NOT_ALLOWED"}`},
	} {
		reasons = c.reasons
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s %s with %q: got %d %q, %v", c.method, c.path, c.reasons, w.Code, w.Body, w.Header())
		}
	}
	if got := logged.String(); len(got) == 0 || len(got) > 200 {
		t.Errorf("only the 405 is for the access log; got %s", got)
	}
}

// Requests are counted by route and status, also those that are not logged.
func TestRequestsAreCounted(t *testing.T) {
	a := newAPI(slog.New(slog.DiscardHandler))
	for _, request := range []string{"POST /pub", "POST /pub", "GET /pub", "GET /nope", "GET /nope/again", "GET /panic", "GET /config/a", "GET /config/b"} {
		method, path, _ := strings.Cut(request, " ")
		a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
	}
	nsqtest.Equal(t, a.Requests(), []httpapi.RequestCount{
		{Status: 404, Count: 2},
		{Status: 405, Count: 1},
		{Method: "POST", Path: "/pub", Status: 200, Count: 2},
		{Method: "GET", Path: "/panic", Status: 500, Count: 1},
		{Method: "GET", Path: "/config/:opt", Status: 200, Count: 2},
	})
}
