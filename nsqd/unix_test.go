package nsqd_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/nsqd"
)

// Over Unix sockets clients have no address; the socket files go with a clean stop.
func TestUnixSockets(t *testing.T) {
	dir := shortTempDir(t)
	tcp, web := filepath.Join(dir, "tcp.sock"), filepath.Join(dir, "http.sock")
	d := daemon.Start(t, func(o *nsqd.Options) { o.TCPAddress, o.HTTPAddress = tcp, web })
	for _, path := range []string{tcp, web} {
		if info, err := os.Stat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
			t.Errorf("%s is no socket: %v", path, err)
		}
	}
	d.Dial().Pub("t", "a").Sub("t", "ch")
	stats := getUnix(t, web, "/stats?format=json")
	for _, want := range []string{`"client_id":"","hostname":""`, `"remote_address":"@"`} {
		if strings.Count(stats, want) != 2 { // as a producer and as a consumer
			t.Errorf("no %s in %s", want, stats)
		}
	}
	if info := getUnix(t, web, "/info"); !strings.Contains(info, `"http_port":-1,"tcp_port":-1`) {
		t.Errorf("/info says %s", info)
	}
	d.Stop()
	for _, path := range []string{tcp, web} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

func getUnix(t *testing.T, socket, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	response, err := client.Get("http://nsqd" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A socket that a crash has left is replaced. One that somebody listens on is not,
// nor is another file; then what was opened before is closed again.
func TestStaleUnixSocket(t *testing.T) {
	dir := shortTempDir(t)
	stale, fresh := filepath.Join(dir, "stale.sock"), filepath.Join(dir, "fresh.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	refused := func() {
		t.Helper()
		for _, addresses := range [][2]string{{stale, fresh}, {fresh, stale}} {
			opts := nsqd.NewOptions()
			opts.DataPath, opts.TCPAddress, opts.HTTPAddress = t.TempDir(), addresses[0], addresses[1]
			_, err := nsqd.New(opts)
			if err == nil || !strings.HasPrefix(err.Error(), "listen ("+stale+") failed - listen unix "+stale+": bind: ") {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left behind: %v", fresh, err)
			}
		}
	}
	refused()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d := daemon.Start(t, func(o *nsqd.Options) { o.TCPAddress, o.HTTPAddress = stale, fresh })
	d.Dial().Pub("t", "a")
	d.Stop()
	if err := os.WriteFile(stale, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused()
	if content, err := os.ReadFile(stale); err != nil || string(content) != "precious" {
		t.Errorf("the file is %q, %v", content, err)
	}
}
