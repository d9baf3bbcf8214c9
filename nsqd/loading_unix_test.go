//go:build unix

package nsqd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// While topics are loaded, health and metrics are told, everything else waits as
// if nobody listened, and the log does not say yet that somebody does. Here
// loading takes as long as the test likes: the metadata comes from a pipe.
func TestLoading(t *testing.T) {
	for _, c := range []struct{ metadata, wait, failure string }{
		{metadata: `{"topics":[{"name":"t","channels":[]}]}`, wait: "200 OK"},
		{metadata: `nonsense`, wait: `503 {"message":"EXITING"}`, failure: "failed to load metadata - failed to parse metadata"},
	} {
		path := filepath.Join(t.TempDir(), metadataFile)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		var logged logLines
		d := startDaemon(t, inDir(filepath.Dir(path)), func(o *Options) { o.Logger = logging.New(&logged, "", logging.LevelInfo) })
		resp, body := d.request("GET", "/health/ready", "")
		if resp.StatusCode != http.StatusServiceUnavailable || body != `{"status":"unavailable","reasons":["loading metadata"]}` {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
		resp, _ = d.request("GET", "/health/live", "")
		nsqtest.Equal(t, resp.StatusCode, 200)
		published := make(chan string, 1)
		go func() {
			w := httptest.NewRecorder()
			d.onceReady(d.api).ServeHTTP(w, httptest.NewRequest("POST", "/pub?topic=t", strings.NewReader("m")))
			published <- fmt.Sprint(w.Code, " ", w.Body)
		}()
		if strings.Contains(logged.String(), "listening") {
			t.Errorf("too early in the log: %s", logged.String())
		}
		// The write returns when the daemon has opened the pipe to read it.
		if err := os.WriteFile(path, []byte(c.metadata), 0); err != nil {
			t.Fatal(err)
		}
		nsqtest.Equal(t, <-published, c.wait)
		if c.failure != "" {
			if err := <-d.result; err == nil || !strings.Contains(err.Error(), c.failure) {
				t.Errorf("Run returned %v", err)
			}
			d.result = nil
			continue
		}
		resp, body = d.request("GET", "/health/ready", "")
		if resp.StatusCode != http.StatusOK || body != `{"status":"ok"}` {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
		nsqtest.Equal(t, strings.Count(logged.String(), "HTTP: listening on "+d.HTTPAddr().String()), 1)
	}
}
