package nsqd

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A daemon is an nsqd under test, spoken to over real sockets.
type daemon struct {
	*NSQD
	t      *testing.T
	base   string         // of URLs; plain HTTP unless the test says otherwise
	client http.Transport // follows no redirects
	stop   context.CancelFunc
	result chan error // of Run
}

// startDaemon runs a daemon with free ports and a data directory of its own,
// until the test ends. It checks how the daemon stops.
func startDaemon(t *testing.T, configure ...func(*Options)) *daemon {
	t.Helper()
	opts := NewOptions()
	opts.DataPath = t.TempDir()
	opts.TCPAddress, opts.HTTPAddress, opts.HTTPSAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	opts.BroadcastAddress = "127.0.0.1"
	for _, c := range configure {
		c(opts)
	}
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	d := &daemon{NSQD: n, t: t, stop: stop, result: make(chan error, 1)}
	if n.HTTPAddr() != nil {
		d.base = "http://" + n.HTTPAddr().String()
	}
	go func() { d.result <- n.Run(ctx) }()
	t.Cleanup(d.shutdown)
	return d
}

// inDir makes startDaemon use the data directory of an earlier daemon.
func inDir(dir string) func(*Options) { return func(o *Options) { o.DataPath = dir } }

// shutdown stops the daemon cleanly and waits for it. It may be called twice.
func (d *daemon) shutdown() {
	d.t.Helper()
	if d.result == nil {
		return
	}
	d.client.CloseIdleConnections()
	d.stop()
	if err := <-d.result; err != nil {
		d.t.Errorf("Run returned %v", err)
	}
	d.result = nil
}

// dial connects a TCP client.
func (d *daemon) dial() *nsqtest.Conn {
	d.t.Helper()
	return nsqtest.Dial(d.t, d.TCPAddr().String())
}

// url is the URL of an HTTP path.
func (d *daemon) url(path string) string { return d.base + path }

// request sends one HTTP request and returns the answer with its body.
func (d *daemon) request(method, path, body string) (*http.Response, string) {
	d.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return d.send(method, path, reader)
}

// send is request with a body from a reader; one whose length the client does
// not know is sent in chunks.
func (d *daemon) send(method, path string, body io.Reader) (*http.Response, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, d.url(path), body)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.client.RoundTrip(req)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(data)
}

// post sends a POST and fails the test if the answer is not 200 with this body.
func (d *daemon) post(path, body, want string) {
	d.t.Helper()
	resp, got := d.request(http.MethodPost, path, body)
	if resp.StatusCode != http.StatusOK || got != want {
		d.t.Fatalf("POST %s: got %d %q, want 200 %q", path, resp.StatusCode, got, want)
	}
}

// metadataFile returns the content of the metadata file.
func (d *daemon) metadataFile() string {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, metadataFile))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(data)
}
