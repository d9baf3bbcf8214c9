package nsqd_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/nsqd"
)

// The transcripts are written from the protocol spec, not from what nsqd does.
// Each case has a daemon of its own and is spoken twice: over TCP with the
// client's bytes in as few writes as possible, and over a Unix socket byte by
// byte.
func TestTranscripts(t *testing.T) { replay(t, "testdata/transcripts/*.txt") }

// Those on a daemon that has an auth server.
func TestAuthTranscripts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(grantBySecret))
	defer server.Close()
	t.Run("server", func(t *testing.T) { // waits for those that run in parallel
		replay(t, "testdata/auth/*.txt", "--auth-http-address="+server.URL)
	})
}

// grantBySecret is the auth server of testdata/auth.
func grantBySecret(w http.ResponseWriter, r *http.Request) {
	answer, known := map[string]string{
		"all": `{"ttl":3600,"identity":"joe","identity_url":"http://joe/",
			"authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}`,
		"nobody": `{"ttl":3600,"authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}`,
		"some": `{"ttl":3600,"authorizations":[
			{"topic":"test","channels":[".*"],"permissions":["subscribe","publish"]},
			{"topic":"^narrow$","channels":["^ch$"],"permissions":["subscribe","publish"]},
			{"topic":"^in$","channels":[".*"],"permissions":["publish"]}]}`,
		"nothing": `{"ttl":3600,"authorizations":[]}`,
		"broken":  `<html>`,
	}[r.FormValue("secret")]
	if ip := r.FormValue("remote_ip"); !known || ip != "127.0.0.1" && ip != "" { // "" for a Unix socket
		w.WriteHeader(http.StatusForbidden)
	}
	_, _ = io.WriteString(w, answer) // nsqd may have gone
}

// replay speaks the transcripts of pattern to daemons with these flags.
func replay(t *testing.T, pattern string, flags ...string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("find transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		cases, err := nsqtest.ReadTranscript(file)
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		for _, c := range cases {
			for _, chunks := range []nsqtest.Chunks{nsqtest.Together, nsqtest.Bytes} {
				t.Run(name+"/"+c.Name+"/"+chunks.String(), func(t *testing.T) {
					t.Parallel()
					skipMissingFlags(t, c.Flags)
					d := daemon.Start(t, daemon.Flags(t, c.Flags...), daemon.Flags(t, flags...), func(o *nsqd.Options) {
						if chunks == nsqtest.Bytes {
							o.TCPAddress = socketPath(t)
						}
					})
					c.Replay(t, d.TCPAddr, d.HTTPAddr, chunks)
				})
			}
		}
	}
}

// socketPath returns a free path short enough for a Unix socket, which may have
// about 100 bytes.
func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "nsqd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "tcp")
}

// skipMissingFlags skips a case about an option that nsqd does not have yet.
func skipMissingFlags(t *testing.T, flags []string) {
	known := config.NewFlagSet("nsqd", nsqd.NewOptions())
	for _, flag := range flags {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		if known.Lookup(name) == nil {
			t.Skipf("nsqd has no flag --%s", name)
		}
	}
}
