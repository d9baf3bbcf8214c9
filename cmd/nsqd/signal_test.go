//go:build unix

package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is an nsqd whose log is read.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log *bufio.Reader
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], append(args, "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0")...)}
	p.cmd.Env = append(os.Environ(), asNSQD+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = p.cmd.Process.Kill() } // it has ended if the test goes well
	t.Cleanup(kill)
	time.AfterFunc(30*time.Second, kill)
	p.log = bufio.NewReader(stderr)
	return p
}

// wait returns the groups of the next line that matches.
func (p *process) wait(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var before strings.Builder
	for {
		line, err := p.log.ReadString('\n')
		before.WriteString(line)
		if m := re.FindStringSubmatch(line); m != nil {
			return m
		}
		if err != nil {
			p.t.Fatalf("the log ends without %s:\n%s", pattern, &before)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// SIGHUP reloads and loses nothing, whatever is in the file; SIGTERM and SIGINT
// stop with exit code 0, and what was in memory is there again.
func TestSignals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nsqd.cfg")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		write("")
		p := startProcess(t, "--data-path="+dir, "--config="+file)
		addr := p.wait(`INFO: HTTP: listening on (\S+)`)[1]
		ask := func(method, path, want string) {
			t.Helper()
			req, err := http.NewRequest(method, "http://"+addr+path, strings.NewReader("m"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || !strings.Contains(string(body), want) {
				t.Fatalf("%s %s: got %q, %v, want %q", method, path, body, err, want)
			}
		}
		ask("POST", "/pub?topic=t", "OK")
		write("log_level = \"debug\"\n")
		p.signal(syscall.SIGHUP)
		p.wait(`INFO: reloading\n`)
		p.wait(`INFO: reloaded\n`)
		ask("GET", "/config/log_level", "1")
		write("log_level = 5\n")
		p.signal(syscall.SIGHUP)
		p.wait(`ERROR: reload failed, nothing has changed err="failed parsing log_level 5 - must be a string, not the integer 5"\n`)
		ask("GET", "/config/log_level", "1")
		p.signal(end)
		p.wait(`INFO: NSQ: bye\n`)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v: %v", end, err)
		}
	}
	write("")
	p := startProcess(t, "--data-path="+dir, "--config="+file)
	addr := p.wait(`INFO: HTTP: listening on (\S+)`)[1]
	resp, err := http.Get("http://" + addr + "/stats?format=json&topic=t")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"depth":2,`) {
		t.Errorf("got %s, %v", body, err)
	}
	p.signal(syscall.SIGTERM)
	p.wait(`INFO: NSQ: bye\n`)
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}
