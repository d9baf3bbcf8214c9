package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// sample is a config file as it is distributed.
const sample = `
log_level = "info"
tcp_address = "127.0.0.1:0"
http_address = "127.0.0.1:0"
inactive_producer_timeout = "300s"
tombstone_lifetime = "45s"
`

// start runs the program until the log has the text, then ends it.
func start(t *testing.T, until string, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &watcher{text: until, found: cancel}
	var stdout bytes.Buffer
	code = run(ctx, args, &stdout, w)
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

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsqlookupd.cfg")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartAndStop(t *testing.T) {
	code, stderr := start(t, "HTTP: listening on ", "--config="+configFile(t, sample), "--log-prefix=x ")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		`(?m)^x \S+ \S+ INFO: nsqlookupd v1\.3\.0 \(built w/go`,
		`(?m)^x \S+ \S+ INFO: TCP: listening on 127\.0\.0\.1:\d+$`,
		`(?m)^x \S+ \S+ INFO: HTTP: listening on 127\.0\.0\.1:\d+$`,
		`(?m)^x \S+ \S+ INFO: TCP: closing 127\.0\.0\.1:\d+$`,
		`(?m)^x \S+ \S+ INFO: HTTP: closing 127\.0\.0\.1:\d+$`,
	} {
		if !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("stderr lacks %s:\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, "WARNING") {
		t.Errorf("the sample file gives warnings:\n%s", stderr)
	}
}

func TestWarnings(t *testing.T) {
	_, stderr := start(t, "HTTP: listening on ", "--config="+configFile(t, sample+"tombstone_time = 5\n"), "stray", "--verbose")
	for _, want := range []string{
		"WARNING: config file: unknown option tombstone_time is ignored, did you mean tombstone_lifetime?\n",
		"WARNING: arguments from here on are ignored: stray --verbose\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr)
		}
	}
}

func TestOutcomes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := regexp.QuoteMeta(taken.Addr().String())
	missing := filepath.Join(t.TempDir(), "none.cfg")
	const fatal = `^\[nsqlookupd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} FATAL: `
	for _, tt := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // regular expressions
	}{
		{"version", []string{"--version"}, 0, `^nsqlookupd v1\.3\.0 \(built w/go\S+\)\n$`, `^$`},
		{"version before a bad file", []string{"-version", "--config=" + missing}, 0, `^nsqlookupd v`, `^$`},
		{"help", []string{"--help"}, 0, `^$`, `^Usage of nsqlookupd:\n(.|\n)*--tombstone-lifetime duration\n.*\(default 45s\)`},
		{"unknown flag", []string{"--nope", "--version"}, 2, `^$`, `^flag provided but not defined: -nope\nUsage of nsqlookupd:\n`},
		{"bad value", []string{"--inactive-producer-timeout=5"}, 2, `^$`,
			`^invalid value "5" for flag -inactive-producer-timeout: parse error\nUsage`},
		{"missing file", []string{"--config=" + missing, "--log-prefix=x"}, 1, `^$`, fatal + `failed to load config file \S+none\.cfg - open .*\n$`},
		{"bad level in file", []string{"--config=" + configFile(t, `log_level = "warning"`)}, 1, `^$`, fatal + `failed parsing log_level warning.*\n$`},
		{"bad type in file", []string{"--config=" + configFile(t, `tombstone_lifetime = true`)}, 1, `^$`,
			fatal + `invalid value for tombstone_lifetime in config file \S+: the boolean true is not a duration.*\n$`},
		{"TCP port taken", []string{"--tcp-address=" + taken.Addr().String(), "--log-level=fatal"}, 1, `^$`,
			fatal + `failed to instantiate nsqlookupd - listen \(` + addr + `\) failed - listen tcp ` + addr + `: bind: .*\n$`},
		{"HTTP port taken", []string{"--tcp-address=127.0.0.1:0", "--http-address=" + taken.Addr().String(), "--log-level=fatal"}, 1, `^$`,
			fatal + `failed to instantiate nsqlookupd - listen \(` + addr + `\) failed - listen tcp ` + addr + `: bind: .*\n$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(context.Background(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			if !regexp.MustCompile(tt.stdout).Match(stdout.Bytes()) {
				t.Errorf("stdout %q, want %s", &stdout, tt.stdout)
			}
			if !regexp.MustCompile(tt.stderr).Match(stderr.Bytes()) {
				t.Errorf("stderr %q, want %s", &stderr, tt.stderr)
			}
		})
	}
}
