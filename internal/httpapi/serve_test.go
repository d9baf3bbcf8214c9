package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
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

// An answer to a body that is too big reaches a client that first sends all of it.
func TestAnswerToUnreadBody(t *testing.T) {
	a := httpapi.New(config(slog.New(slog.DiscardHandler)))
	a.Handle("POST", "/pub", failure(httpapi.Error{Status: 413, Text: "MSG_TOO_BIG", Unread: true}))
	l, _, _, _ := serve(t, a.ServeHTTP, nil)
	const size = 8 << 20
	for _, head := range []string{
		fmt.Sprintf("POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size),
		fmt.Sprintf("POST /pub HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", size),
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, size)); err != nil {
			t.Fatalf("while sending the body: %v", err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 413 || string(body) != `{"message":"MSG_TOO_BIG"}` || !resp.Close || resp.ContentLength != int64(len(body)) {
			t.Errorf("got %d %q, %v with %v", resp.StatusCode, body, err, resp.Header)
		}
	}
}

// Who waits to be asked for the body is not.
func TestNoContinueForUnreadBody(t *testing.T) {
	a := httpapi.New(config(slog.New(slog.DiscardHandler)))
	a.Handle("POST", "/pub", failure(httpapi.Error{Status: 413, Text: "MSG_TOO_BIG", Unread: true}))
	l, _, _, _ := serve(t, a.ServeHTTP, nil)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 413 ") || !strings.HasSuffix(string(all), `{"message":"MSG_TOO_BIG"}`) {
		t.Errorf("got %q, %v", all, err)
	}
}

// Requests that take longer than they may are cut, and the log says so.
func TestServeCutsWhatTakesTooLong(t *testing.T) {
	begun, finish := make(chan bool), make(chan bool)
	l, logged, stop, result := serve(t, func(http.ResponseWriter, *http.Request) {
		begun <- true
		<-finish
	}, func(l *httpapi.Listener) { l.Grace = 10 * time.Millisecond })
	answer := make(chan error)
	go func() {
		_, err := http.Get("http://" + l.Addr().String())
		answer <- err
	}()
	<-begun
	stop()
	if err := <-answer; err == nil {
		t.Error("the client got an answer")
	}
	close(finish) // a handler is waited for in any case
	if err := <-result; err != nil {
		t.Error(err)
	}
	if want := "WARNING: HTTP: cutting requests that take too long limit=10ms connections=1\n"; !strings.Contains(logged.String(), want) {
		t.Errorf("got log %q, want in it %q", logged, want)
	}
}

// A profile that is being made ends with the server.
func TestStopEndsProfiles(t *testing.T) {
	a := httpapi.New(config(slog.New(slog.DiscardHandler)))
	a.Pprof()
	begun := make(chan bool, 1)
	l, _, stop, result := serve(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		a.ServeHTTP(w, r)
	}, func(l *httpapi.Listener) { l.Grace = 0 })
	answer := make(chan int)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/debug/pprof/trace?seconds=3000")
		if err != nil {
			t.Error(err)
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	<-begun
	stop()
	if got := <-answer; got != 200 {
		t.Errorf("got %d", got)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// One connection too many is closed at once; when one has ended there is room.
func TestMaxConnections(t *testing.T) {
	l, logged, _, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") },
		func(l *httpapi.Listener) { l.MaxConnections = 2 })
	ask := func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(conn), nil)
		return err
	}
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	first, second := dial(), dial()
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := ask(dial()); err == nil {
			t.Error("a third connection is served")
		}
	}
	if err := ask(second); err != nil {
		t.Errorf("the second connection: %v", err)
	}
	if got := strings.Count(logged.String(), "WARNING: HTTP: refusing connections max_connections=2\n"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, logged)
	}
	first.Close()
	for deadline := time.Now().Add(10 * time.Second); ask(dial()) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("there is no room after a connection has ended")
		}
	}
}
