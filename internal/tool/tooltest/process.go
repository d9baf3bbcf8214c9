package tooltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Process is a tool that runs.
type Process struct {
	Stdin  io.WriteCloser
	Stdout *Output
	Stderr *Output

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
}

// Start starts a tool. It is killed when the test ends.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, Stdout: newOutput(t), Stderr: newOutput(t), done: make(chan struct{})}
	p.cmd = command(t, name, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.Stdout, p.Stderr
	var err error
	if p.Stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		_ = p.cmd.Wait() // the exit code says it
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Kill ends the process at once, as kill -9 does.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(os.Kill)
	<-p.done
}

// Exit waits for the end of the process, and returns its exit code, or -1 if a
// signal ended it.
func (p *Process) Exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(Longest + 15*time.Second):
		p.t.Fatalf("still running\nstderr:\n%s", p.Stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

// ExpectExit fails the test unless the process ends with this code.
func (p *Process) ExpectExit(code int) {
	p.t.Helper()
	if got := p.Exit(); got != code {
		p.t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", got, code, p.Stdout, p.Stderr)
	}
}

// Stop sends SIGTERM and expects the end with code 0.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	p.ExpectExit(0)
}

// Run runs a tool to its end with this input.
func Run(t testing.TB, input string, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := command(t, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() < 0 {
			t.Fatalf("%s: %v\n%s", name, err, &errs)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// An Outcome is how a tool ends that does not get to work.
type Outcome struct {
	args   []string
	code   int
	stdout string
	stderr *regexp.Regexp
}

// Ends returns an Outcome: with these arguments the tool ends with this exit code
// and output, and stderr matches the regular expression.
func Ends(code int, stdout, stderr string, args ...string) Outcome {
	return Outcome{args, code, stdout, regexp.MustCompile(stderr)}
}

// Refuses is Ends with exit code 1, and one line on stderr.
func Refuses(text string, args ...string) Outcome {
	return Ends(1, "", Line(regexp.QuoteMeta(text)), args...)
}

// Line returns a regular expression that matches one line of log with this text,
// itself a regular expression, and nothing else.
func Line(text string) string { return `^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ` + text + `\n$` }

// Check runs the tool for each outcome.
func Check(t *testing.T, name string, outcomes []Outcome) {
	for _, o := range outcomes {
		t.Run(strings.Join(o.args, " "), func(t *testing.T) {
			code, stdout, stderr := Run(t, "", name, o.args...)
			if code != o.code {
				t.Errorf("exit code %d, want %d", code, o.code)
			}
			if stdout != o.stdout {
				t.Errorf("stdout %q, want %q", stdout, o.stdout)
			}
			if !o.stderr.MatchString(stderr) {
				t.Errorf("stderr %q, want %s", stderr, o.stderr)
			}
		})
	}
}

// An Output is what a process writes. Its methods may overlap.
type Output struct {
	t testing.TB

	mu   sync.Mutex // guards what follows
	b    bytes.Buffer
	more chan struct{} // closed, and replaced, when there is more
}

func newOutput(t testing.TB) *Output { return &Output{t: t, more: make(chan struct{})} }

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Write(p)
	close(o.more)
	o.more = make(chan struct{})
	return len(p), nil
}

func (o *Output) String() string {
	text, _ := o.now()
	return text
}

func (o *Output) now() (text string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String(), o.more
}

// Wait waits until there is a match of the regular expression.
func (o *Output) Wait(pattern string) { o.WaitN(pattern, 1) }

// WaitN waits until there are n matches of the regular expression.
func (o *Output) WaitN(pattern string, n int) {
	o.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.After(Longest); ; {
		text, more := o.now()
		if len(re.FindAllString(text, n)) >= n {
			return
		}
		select {
		case <-more:
		case <-deadline:
			o.t.Fatalf("not %d times %s in what ends with:\n%s", n, pattern, text[max(len(text)-4000, 0):])
		}
	}
}

// post sends a POST request.
func post(addr, path, body string) error {
	resp, err := http.Post("http://"+addr+path, "", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s %s", path, resp.Status, text))
	}
	return err
}
