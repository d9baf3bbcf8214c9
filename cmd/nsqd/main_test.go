package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/program"
	"github.com/nsq-suite/nsq/internal/program/programtest"
	"github.com/nsq-suite/nsq/nsqd"
)

// asNSQD, set in the environment, makes this test binary be nsqd.
const asNSQD = "NSQD_OF_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asNSQD) != "" {
		main()
	}
	os.Exit(m.Run())
}

// sample is the distributed config file, on free ports and without an nsqlookupd.
func sample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/distributed.cfg")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("0.0.0.0:4150", "127.0.0.1:0", "0.0.0.0:4151", "127.0.0.1:0", `"127.0.0.1:4160"`, "").Replace(string(text))
}

func start() programtest.Program { return command() }

func TestStartAndStop(t *testing.T) {
	dir := t.TempDir()
	code, stderr := programtest.Until(t, command(), "HTTP: listening on ",
		"--config="+programtest.ConfigFile(t, sample(t)), "--log-prefix=x ", "--data-path="+dir, "--worker-id", "--strict-config")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		`(?m)^x \S+ \S+ INFO: nsqd v1\.3\.0 \(built w/go`,
		`(?m)^x \S+ \S+ INFO: ID: \d+$`,
		`(?m)^x \S+ \S+ INFO: NSQ: persisting topic/channel metadata to .*nsqd\.dat$`,
		`(?m)^x \S+ \S+ INFO: TCP: listening on 127\.0\.0\.1:\d+$`,
		`(?m)^x \S+ \S+ INFO: HTTP: listening on 127\.0\.0\.1:\d+$`,
		`(?m)^x \S+ \S+ INFO: TCP: closing 127\.0\.0\.1:\d+$`,
		`(?m)^x \S+ \S+ INFO: NSQ: bye\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("stderr lacks %s:\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, "WARNING") || strings.Contains(stderr, "ERROR") {
		t.Errorf("a start with the sample file is not clean:\n%s", stderr)
	}
	content, err := os.ReadFile(filepath.Join(dir, "nsqd.dat"))
	if err != nil || string(content) != `{"topics":null,"version":"1.3.0"}` {
		t.Errorf("nsqd.dat is %q, %v", content, err)
	}
}

func TestOutcomes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := regexp.QuoteMeta(taken.Addr().String())
	dir := t.TempDir()
	here := "--data-path=" + dir
	missing := filepath.Join(dir, "none")
	broken, empty := t.TempDir(), t.TempDir()
	for d, content := range map[string]string{broken: "{", empty: ""} {
		if err := os.WriteFile(filepath.Join(d, "nsqd.dat"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		fatal   = `(?m)^\[nsqd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} FATAL: `
		noStart = fatal + `failed to instantiate nsqd - `
	)
	tcp, http := "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"
	programtest.Check(t, start, []programtest.Outcome{
		programtest.Ends("version", []string{"--version"}, 0, `^nsqd v1\.3\.0 \(built w/go\S+\)\n$`, `^$`),
		programtest.Ends("help", []string{"--help"}, 0, `^$`, `^Usage of nsqd:\n(.|\n)*--mem-queue-size`),
		programtest.Ends("unknown flag", []string{"--nope"}, 2, `^$`, `^flag provided but not defined: -nope\nUsage of nsqd:\n`),
		programtest.Ends("bad value", []string{"--msg-timeout=5"}, 2, `^$`, `^invalid value "5" for flag -msg-timeout: parse error\nUsage`),
		programtest.Ends("no data path", []string{"--data-path=" + missing}, 1, `^$`,
			noStart+`failed to lock data-path: open `+regexp.QuoteMeta(missing)+`: no such file or directory\n$`),
		programtest.Ends("deflate level", []string{here, "--max-deflate-level=10"}, 1, `^$`, noStart+`--max-deflate-level must be \[1,9\]\n$`),
		programtest.Ends("node id", []string{here, "--node-id=1024"}, 1, `^$`, noStart+`--node-id must be \[0,1024\)\n$`),
		programtest.Ends("negative memory", []string{here, "--mem-queue-size=-1"}, 1, `^$`, noStart+`--mem-queue-size is -1, must be from 0 to \d+\n$`),
		programtest.Ends("no flush time", []string{here, "--output-buffer-timeout=0"}, 1, `^$`, noStart+`--output-buffer-timeout is 0s, must be above 0\n$`),
		programtest.Ends("no sync time", []string{here, "--sync-timeout=0"}, 1, `^$`, noStart+`--sync-timeout is 0s, must be above 0\n$`),
		programtest.Ends("TCP port taken", []string{here, "--tcp-address=" + taken.Addr().String()}, 1, `^$`,
			noStart+`listen \(`+addr+`\) failed - listen tcp `+addr+`: bind: .*\n$`),
		programtest.Ends("HTTP port taken", []string{here, tcp, "--http-address=" + taken.Addr().String()}, 1, `^$`,
			noStart+`listen \(`+addr+`\) failed - listen tcp `+addr+`: bind: .*\n$`),
		programtest.Ends("metadata broken", []string{tcp, http, "--data-path=" + broken}, 1, `^$`,
			fatal+`failed to load metadata - failed to parse metadata in .*nsqd\.dat - .*\n$`),
		programtest.Ends("metadata empty", []string{tcp, http, "--data-path=" + empty}, 1, `^$`,
			fatal+`failed to load metadata - failed to parse metadata in .*nsqd\.dat - .*\n$`),
	})
}

// What is wrong in the file stops the start, with the option, the value and what is
// allowed.
func TestBadConfigFiles(t *testing.T) {
	dir := "--data-path=" + t.TempDir()
	const fatal = `^\[nsqd\] \S+ \S+ FATAL: `
	var outcomes []programtest.Outcome
	for _, c := range []struct{ toml, want string }{
		{`mem_queue_size = "many"`, `invalid value for mem_queue_size in config file \S+: the string "many" is not a whole number from -\d+ to \d+`},
		{`mem_queue_size = -1`, `failed to instantiate nsqd - --mem-queue-size is -1, must be from 0 to \d+`},
		{`snappy = 1`, `invalid value for snappy in config file \S+: the integer 1 is not true or false`},
		{`msg_timeout = "5"`, `invalid value for msg_timeout in config file \S+: the string "5" is not a duration: .*`},
		{`nsqlookupd_tcp_addresses = ["a:1", 5]`, `invalid value for nsqlookupd_tcp_addresses in config file \S+: element the integer 5 is not a string; .*`},
		{`nsqlookupd_tcp_addresses = "a"`, `failed to instantiate nsqd - --lookupd-tcp-address is "a", must be <addr>:<port>`},
		{`log_level = "warning"`, `failed parsing log_level warning - .*debug, info, warn, error, fatal`},
		{`log_format = "xml"`, `failed parsing log_format xml - .*classic, json, logfmt`},
		{`tls_required = ""`, `failed parsing tls_required  - must be true, false or tcp-https`},
		{`tls_min_version = "ssl3.0"`, `failed parsing tls_min_version ssl3.0 - must be tls1.0, .*`},
		{"id = 1\nid = 2", `failed to load config file \S+ - .*`},
	} {
		outcomes = append(outcomes, programtest.Ends(c.toml, []string{dir, "--config=" + programtest.ConfigFile(t, c.toml)}, 1, `^$`, fatal+c.want+`\n$`))
	}
	programtest.Check(t, start, outcomes)
}

// In JSON each line is an object, whatever it says.
func TestLogInJSON(t *testing.T) {
	check := func(log string) {
		t.Helper()
		for line := range strings.Lines(log) {
			var fields struct{ Time, Level, Msg, Prefix string }
			if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Time == "" || fields.Level == "" || fields.Msg == "" || fields.Prefix != "[nsqd]" {
				t.Errorf("%q: %v, %+v", line, err, fields)
			}
		}
	}
	args := []string{"--log-format=json", "--data-path=" + t.TempDir(), "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"}
	_, log := programtest.Until(t, command(), "HTTP: listening on ", args...)
	check(log)
	if strings.Count(log, "\n") < 5 {
		t.Errorf("logged only %s", log)
	}
	var stderr bytes.Buffer
	if code := command().Run(t.Context(), program.Process{Args: append(args, "--node-id=2000"), Stdout: io.Discard, Stderr: &stderr}); code != 1 {
		t.Errorf("exit %d", code)
	}
	check(stderr.String())
}

// A second daemon does not touch the data of the first.
func TestDataPathIsLocked(t *testing.T) {
	opts := nsqd.NewOptions()
	opts.DataPath, opts.TCPAddress, opts.HTTPAddress = t.TempDir(), "127.0.0.1:0", ""
	first, err := nsqd.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	dir := regexp.QuoteMeta(opts.DataPath)
	programtest.Check(t, start, []programtest.Outcome{programtest.Ends(
		"second daemon", []string{"--data-path=" + opts.DataPath}, 1, `^$`,
		`FATAL: failed to instantiate nsqd - failed to lock data-path: cannot flock directory `+dir+
			` - resource temporarily unavailable \(possibly in use by another instance of nsqd\)\n$`,
	)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Run(ctx); err != nil {
		t.Error(err)
	}
}

// A file of NSQ loads as it is, without a warning, and means what it says.
func TestDistributedConfig(t *testing.T) {
	opts := nsqd.NewOptions()
	warnings, err := config.Load(opts, config.NewFlagSet("nsqd", opts), "testdata/distributed.cfg")
	if err != nil || len(warnings)+len(opts.Doubts()) > 0 {
		t.Fatalf("%v, %q, %q", err, warnings, opts.Doubts())
	}
	want := nsqd.NewOptions()
	want.NSQLookupdTCPAddresses = []string{"127.0.0.1:4160"}
	want.MaxMsgSize, want.MaxBodySize = 1024768, 5123840
	want.MaxOutputBufferTimeout = time.Second
	want.E2EProcessingLatencyPercentiles = []float64{1, 0.99, 0.95}
	if live, fixed := config.Changed(want, opts); len(live)+len(fixed) > 0 {
		t.Errorf("%q and %q are not as they should be", live, fixed)
	}
}

func TestExampleConfig(t *testing.T) {
	programtest.CheckExample(t, command(), "nsqd.cfg.example", "id", "broadcast_address")
}
