// Package programtest runs a [program.Program] in tests.
package programtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nsq-suite/nsq/internal/program"
)

// Until runs the program until its log has the text, then ends it as SIGTERM
// does. It returns the exit code and the log.
func Until(t *testing.T, p program.Program, text string, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &watcher{text: text, found: cancel}
	var stdout bytes.Buffer
	code = p.Run(ctx, args, &stdout, w)
	if stdout.Len() > 0 {
		t.Errorf("stdout %q", stdout.String())
	}
	return code, w.b.String()
}

// watcher calls found when the text has been written.
type watcher struct {
	mu    sync.Mutex
	b     bytes.Buffer
	text  string
	found func()
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if strings.Contains(w.b.String(), w.text) {
		w.found()
	}
	return len(p), nil
}

// An Outcome is how a program ends that does not get to serve.
type Outcome struct {
	name           string
	args           []string
	code           int
	stdout, stderr *regexp.Regexp
}

// Ends returns an Outcome: with these arguments the program ends with this exit
// code, and prints what matches the regular expressions.
func Ends(name string, args []string, code int, stdout, stderr string) Outcome {
	return Outcome{name, args, code, regexp.MustCompile(stdout), regexp.MustCompile(stderr)}
}

// Check runs a program made by command for each outcome.
func Check(t *testing.T, command func() program.Program, outcomes []Outcome) {
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := command().Run(t.Context(), o.args, &stdout, &stderr); code != o.code {
				t.Errorf("exit %d, want %d", code, o.code)
			}
			if !o.stdout.Match(stdout.Bytes()) {
				t.Errorf("stdout %q, want %s", &stdout, o.stdout)
			}
			if !o.stderr.Match(stderr.Bytes()) {
				t.Errorf("stderr %q, want %s", &stderr, o.stderr)
			}
		})
	}
}

// ConfigFile writes a TOML file and returns its path.
func ConfigFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.cfg")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
