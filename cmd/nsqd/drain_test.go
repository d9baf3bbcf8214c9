package main

import (
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/suite"
)

// startDraining runs nsqd as a process of its own, which drains when it gets SIGTERM.
func startDraining(t *testing.T, dataPath string, args ...string) *suite.Daemon {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNSQD, "1")
	d, err := suite.Start(t.Context(), self, t.Output(), time.Second, append([]string{"--data-path=" + dataPath,
		"--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--sigterm=drain", "--drain-grace=0s"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// stats asks for the part of /stats that shows depths.
func stats(t *testing.T, d *suite.Daemon) string {
	t.Helper()
	resp, err := http.Get("http://" + d.HTTPAddr + "/stats?include_mem=0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A process that gets SIGTERM lets its consumer finish, and ends with 0.
func TestSigtermDrains(t *testing.T) {
	d := startDraining(t, t.TempDir())
	consumer, producer := nsqtest.Dial(t, d.TCPAddr).Sub("t", "c").Rdy(1), nsqtest.Dial(t, d.TCPAddr)
	producer.Mpub("t", "1", "2")
	first := consumer.ReadMessage()
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(20 * time.Second) }()
	// The producer is the first to learn of it.
	for producer.CommandBody("3", "PUB", "ephemeral#ephemeral"); producer.TryReadOK() == nil; {
		producer.CommandBody("3", "PUB", "ephemeral#ephemeral")
	}
	if got := stats(t, d); !strings.Contains(got, "\nDraining: publishes refused: true, messages left: 2\n") {
		t.Errorf("got %s", got)
	}
	consumer.Fin(first.ID)
	consumer.Fin(consumer.ReadMessage().ID)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	consumer.ExpectClosed()
}

// A second SIGTERM stops at once, and so does the end of --drain-timeout; what is
// left is there again.
func TestSigtermTwice(t *testing.T) {
	dir := t.TempDir()
	d := startDraining(t, dir, "--drain-timeout=1h")
	nsqtest.Dial(t, d.TCPAddr).Mpub("t", "1", "2").Close()
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(20 * time.Second) }()
	for !strings.Contains(stats(t, d), "\nDraining: ") { // the signal is on its way
	}
	if err := d.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}

	d = startDraining(t, dir, "--drain-timeout=10ms")
	if got := stats(t, d); !strings.Contains(got, "depth: 2     be-depth: 2 ") {
		t.Errorf("got %s", got)
	}
	if err := d.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
}
