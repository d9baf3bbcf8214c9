// Package programtest runs a [program.Program] in tests.
package programtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/program"
)

// A Program is a [program.Program] with any options.
type Program interface {
	Run(context.Context, program.Process) int
}

// Running is a program that has been started.
type Running struct {
	t         *testing.T
	stop      context.CancelFunc
	reload    chan os.Signal
	terminate chan os.Signal
	log       *watcher
	stdout    bytes.Buffer
	code      chan int
}

// Start runs the program until Stop is called or the test ends.
func Start(t *testing.T, p Program, args ...string) *Running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &Running{t: t, stop: stop, reload: make(chan os.Signal), terminate: make(chan os.Signal), log: &watcher{more: make(chan struct{})}, code: make(chan int, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.code <- p.Run(ctx, program.Process{Args: args, Stdout: &r.stdout, Stderr: r.log, Reload: r.reload, Terminate: r.terminate})
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return r
}

// longest is how long a test waits for what must happen.
const longest = 20 * time.Second

// Wait waits until the log has text that matches the regular expression, and
// returns the match and its groups. What Wait has matched before is not looked at
// again.
func (r *Running) Wait(pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.After(longest); ; {
		match, more := r.log.find(re)
		if match != nil {
			return match
		}
		select {
		case <-more:
		case code := <-r.code:
			r.code <- code
			if match, _ := r.log.find(re); match != nil {
				return match
			}
			r.t.Fatalf("ended with %d and without %s:\n%s", code, pattern, r.log)
		case <-deadline:
			r.t.Fatalf("the log lacks %s:\n%s", pattern, r.log)
		}
	}
}

// Reload does what SIGHUP does. It returns before the program has reloaded.
func (r *Running) Reload() { r.reload <- syscall.SIGHUP }

// Terminate does what SIGTERM does. It does not wait for the end.
func (r *Running) Terminate() { r.terminate <- syscall.SIGTERM }

// Stop ends the program as SIGINT does. It returns the exit code and the whole
// log.
func (r *Running) Stop() (code int, stderr string) {
	r.t.Helper()
	r.stop()
	return r.End()
}

// End waits until the program has ended by itself. It returns the exit code and
// the whole log.
func (r *Running) End() (code int, stderr string) {
	r.t.Helper()
	select {
	case code = <-r.code:
	case <-time.After(longest):
		r.t.Fatalf("does not stop:\n%s", r.log)
	}
	if r.stdout.Len() > 0 {
		r.t.Errorf("stdout %q", r.stdout.String())
	}
	return code, r.log.String()
}

// Until runs the program until its log has the text, then ends it as SIGINT
// does. It returns the exit code and the log.
func Until(t *testing.T, p Program, text string, args ...string) (code int, stderr string) {
	t.Helper()
	r := Start(t, p, args...)
	r.Wait(regexp.QuoteMeta(text))
	return r.Stop()
}

// watcher is a log that can be waited for.
type watcher struct {
	mu   sync.Mutex
	b    bytes.Buffer
	seen int           // bytes that find has matched
	more chan struct{} // closed, and replaced, when there is more
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	close(w.more)
	w.more = make(chan struct{})
	return len(p), nil
}

// find returns what matches behind the last match, or else a Go channel that is
// closed when there is more to look at.
func (w *watcher) find(re *regexp.Regexp) (match []string, more <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.b.String()[w.seen:]
	at := re.FindStringSubmatchIndex(rest)
	if at == nil {
		return nil, w.more
	}
	w.seen += at[1]
	return re.FindStringSubmatch(rest), nil
}

func (w *watcher) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
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
func Check(t *testing.T, command func() Program, outcomes []Outcome) {
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := command().Run(t.Context(), program.Process{Args: o.args, Stdout: &stdout, Stderr: &stderr}); code != o.code {
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
