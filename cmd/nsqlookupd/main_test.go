package main

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/program/programtest"
)

// sample is a config file as it is distributed.
const sample = `
log_level = "info"
tcp_address = "127.0.0.1:0"
http_address = "127.0.0.1:0"
inactive_producer_timeout = "300s"
tombstone_lifetime = "45s"
`

func start() programtest.Program { return command() }

func TestStartAndStop(t *testing.T) {
	code, stderr := programtest.Until(t, command(), "HTTP: listening on ", "--config="+programtest.ConfigFile(t, sample), "--log-prefix=x ")
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
	_, stderr := programtest.Until(t, command(), "HTTP: listening on ", "--config="+programtest.ConfigFile(t, sample+"tombstone_time = 5\n"), "stray", "--verbose")
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
	programtest.Check(t, start, []programtest.Outcome{
		programtest.Ends("version", []string{"--version"}, 0, `^nsqlookupd v1\.3\.0 \(built w/go\S+\)\n$`, `^$`),
		programtest.Ends("version before a bad file", []string{"-version", "--config=" + missing}, 0, `^nsqlookupd v`, `^$`),
		programtest.Ends("help", []string{"--help"}, 0, `^$`, `^Usage of nsqlookupd:\n(.|\n)*--tombstone-lifetime duration\n.*\(default 45s\)`),
		programtest.Ends("unknown flag", []string{"--nope", "--version"}, 2, `^$`, `^flag provided but not defined: -nope\nUsage of nsqlookupd:\n`),
		programtest.Ends("bad value", []string{"--inactive-producer-timeout=5"}, 2, `^$`,
			`^invalid value "5" for flag -inactive-producer-timeout: parse error\nUsage`),
		programtest.Ends("missing file", []string{"--config=" + missing, "--log-prefix=x"}, 1, `^$`, fatal+`failed to load config file \S+none\.cfg - open .*\n$`),
		programtest.Ends("bad level in file", []string{"--config=" + programtest.ConfigFile(t, `log_level = "warning"`)}, 1, `^$`, fatal+`failed parsing log_level warning.*\n$`),
		programtest.Ends("bad type in file", []string{"--config=" + programtest.ConfigFile(t, `tombstone_lifetime = true`)}, 1, `^$`,
			fatal+`invalid value for tombstone_lifetime in config file \S+: the boolean true is not a duration.*\n$`),
		programtest.Ends("TCP port taken", []string{"--tcp-address=" + taken.Addr().String(), "--log-level=fatal"}, 1, `^$`,
			fatal+`failed to instantiate nsqlookupd - listen \(`+addr+`\) failed - listen tcp `+addr+`: bind: .*\n$`),
		programtest.Ends("HTTP port taken", []string{"--tcp-address=127.0.0.1:0", "--http-address=" + taken.Addr().String(), "--log-level=fatal"}, 1, `^$`,
			fatal+`failed to instantiate nsqlookupd - listen \(`+addr+`\) failed - listen tcp `+addr+`: bind: .*\n$`),
	})
}

func TestExampleConfig(t *testing.T) {
	programtest.CheckExample(t, command(), "nsqlookupd.cfg.example", "broadcast_address")
}
