package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/logging"
)

// serve runs httpapi.Serve on a free port, with what change makes of the listener.
func serve(t *testing.T, h http.HandlerFunc, change func(*httpapi.Listener)) (l net.Listener, logged *logBuffer, stop func(), result chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	logged = new(logBuffer)
	result = make(chan error, 1)
	listener := httpapi.Listener{Listener: l, Name: "HTTP", Grace: 5 * time.Second, Log: logging.New(logged, "", slog.LevelInfo)}
	if change != nil {
		change(&listener)
	}
	go func() { result <- httpapi.Serve(ctx, listener, h) }()
	return l, logged, stop, result
}

// A request in progress is answered before Serve returns; connections without a
// request do not hold it up.
func TestServeFinishesRequests(t *testing.T) {
	begun, finish := make(chan bool), make(chan bool)
	l, logged, stop, result := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		begun <- true
		<-finish
		_, _ = io.WriteString(w, "done")
	}, nil)
	idle, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	answer := make(chan string)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-begun
	stop()
	// The idle connection is closed while the request goes on.
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle connection got data")
	}
	select {
	case err := <-result:
		t.Fatalf("Serve returned %v before the request was answered", err)
	default:
	}
	close(finish)
	if got := <-answer; got != "done" {
		t.Errorf("got answer %q", got)
	}
	start := time.Now()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("Serve took %v to return", d)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
	for _, want := range []string{"INFO: HTTP: listening on " + l.Addr().String(), "INFO: HTTP: closing " + l.Addr().String()} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("got log %q, want in it %q", logged, want)
		}
	}
}

// A listener that fails is why Serve returns.
func TestServeReportsFailure(t *testing.T) {
	l, _, _, result := serve(t, nil, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err == nil {
		t.Error("got no error")
	}
}
