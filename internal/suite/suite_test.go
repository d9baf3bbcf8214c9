//go:build unix

package suite

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this test binary stand in for a daemon: with fakeMode set it
// behaves as the mode says.
func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		fake(mode)
		return
	}
	os.Exit(m.Run())
}

const fakeMode = "SUITE_FAKE_DAEMON"

func fake(mode string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	fmt.Fprintln(os.Stderr, "[fake] 2026/01/02 15:04:05.000000 INFO: hello")
	if mode == "refuses" {
		fmt.Fprintln(os.Stderr, "[fake] 2026/01/02 15:04:05.000000 FATAL: no data directory")
		os.Exit(1)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"topics":[{"topic_name":"t","depth":1,"channels":[{"channel_name":"c","depth":2,"in_flight_count":3,"deferred_count":4}]}]}`)
	})
	go func() { panic(http.Serve(listener, nil)) }()
	fmt.Fprintf(os.Stderr, "[fake] 2026/01/02 15:04:05.000000 INFO: TCP: listening on 127.0.0.1:1\n")
	fmt.Fprintf(os.Stderr, "[fake] 2026/01/02 15:04:05.000000 INFO: HTTP: listening on %s\n", listener.Addr())
	<-terminated
	switch mode {
	case "fails":
		os.Exit(3)
	case "hangs":
		select {}
	}
	fmt.Fprintln(os.Stderr, "[fake] 2026/01/02 15:04:05.000000 INFO: bye")
}

func startFake(t *testing.T, mode string, log *bytes.Buffer) (*Daemon, error) {
	t.Helper()
	t.Setenv(fakeMode, mode)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Start(t.Context(), self, log, time.Second)
	if err == nil {
		t.Cleanup(func() {
			_ = d.cmd.Process.Kill() // it may be gone
			<-d.Done()
		})
	}
	return d, err
}

func TestDaemonRunsAndStops(t *testing.T) {
	var log bytes.Buffer
	d, err := startFake(t, "works", &log)
	if err != nil {
		t.Fatal(err)
	}
	if d.TCPAddr != "127.0.0.1:1" || !strings.HasPrefix(d.HTTPAddr, "127.0.0.1:") {
		t.Errorf("addresses are %q and %q", d.TCPAddr, d.HTTPAddr)
	}
	var stats Stats
	err = Poll(t.Context(), "the fake's stats", func() (bool, error) {
		return true, d.GetJSON(t.Context(), "/stats", &stats, "format", "json")
	})
	if err != nil {
		t.Fatal(err)
	}
	got, topicDepth, found := stats.Channel("t", "c")
	if want := (ChannelStats{Name: "c", Depth: 2, InFlight: 3, Deferred: 4}); got != want || topicDepth != 1 || !found {
		t.Errorf("got %+v, %d, %t", got, topicDepth, found)
	}
	if err := d.Post(t.Context(), "/nowhere"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("post to no path: %v", err)
	}
	for range 2 {
		if err := d.Stop(10 * time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if !strings.Contains(log.String(), "INFO: hello\n") || !strings.HasSuffix(log.String(), "INFO: bye\n") {
		t.Errorf("log is %q", log.String())
	}
}

func TestDaemonFails(t *testing.T) {
	t.Run("to start", func(t *testing.T) {
		_, err := startFake(t, "refuses", new(bytes.Buffer))
		if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "FATAL: no data directory") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("to exit with 0", func(t *testing.T) {
		d, err := startFake(t, "fails", new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Stop(10 * time.Second); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("to exit", func(t *testing.T) {
		d, err := startFake(t, "hangs", new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("when its context ends", func(t *testing.T) {
		t.Setenv(fakeMode, "hangs")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		d, err := Start(ctx, self, nil, 50*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-d.Done()
	})
}
