package nsqlookupd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/nsq-suite/nsq/nsqlookupd"
)

// What changes something, and the profiles, need a token where there are tokens;
// the questions of consumers and tools do not. A reload reads the tokens again.
func TestGuardedRoutes(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("right")
	var given nsqlookupd.Options
	d := start(t, func(o *nsqlookupd.Options) {
		o.AdminTokenFile = tokens
		given = *o
	})
	status := func(method, path, token string) int {
		t.Helper()
		req, err := http.NewRequest(method, d.base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, path := range []string{"/topic/create?topic=t", "/channel/create?topic=t&channel=c", "/topic/tombstone?topic=t&node=n",
		"/channel/delete?topic=t&channel=c", "/topic/delete?topic=t"} {
		if without, wrong, right := status("POST", path, ""), status("POST", path, "x"), status("POST", path, "right"); without != 401 || wrong != 401 || right != 200 {
			t.Errorf("%s: got %d without a token, %d with a wrong one, %d with the right one", path, without, wrong, right)
		}
	}
	for _, path := range []string{"/debug/pprof", "/debug/pprof/", "/debug/pprof/cmdline"} {
		if got := status("GET", path, ""); got != 401 {
			t.Errorf("%s: got %d", path, got)
		}
	}
	for _, path := range []string{"/ping", "/info", "/topics", "/nodes", "/channels?topic=t"} {
		if got := status("GET", path, ""); got != 200 {
			t.Errorf("%s: got %d", path, got)
		}
	}
	write("# none\n")
	if err := d.l.Reload(&given); err == nil {
		t.Error("a file without tokens is taken")
	}
	if got := status("POST", "/topic/create?topic=t", "right"); got != 200 {
		t.Errorf("after a reload that failed: got %d", got)
	}
	write("other")
	if err := d.l.Reload(&given); err != nil {
		t.Fatal(err)
	}
	if got := status("POST", "/topic/create?topic=t", "right"); got != 401 {
		t.Errorf("with a token that is gone: got %d", got)
	}
}
