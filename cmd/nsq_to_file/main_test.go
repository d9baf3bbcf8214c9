//go:build unix

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

func TestMain(m *testing.M) { tooltest.Main(m, "nsq_to_file", main) }

func TestOutcomes(t *testing.T) {
	const nobody, lookupd = "--nsqd-tcp-address=127.0.0.1:1", "--lookupd-http-address=127.0.0.1:1"
	const fatal = `\[nsq_to_file\] \S+ \d\d:\d\d:\d\d\.\d{6} `
	out := "--output-dir=" + t.TempDir()
	tooltest.Check(t, "nsq_to_file", []tooltest.Outcome{
		tooltest.Refuses("unknown arguments: [a b]", "--version", "a", "b"),
		tooltest.Refuses("--log-level is invalid", "--version", "--log-level=warning"),
		tooltest.Ends(0, "nsq_to_file v1.3.0\n", `^$`, "--version", "--log-level=WARN"),
		tooltest.Ends(0, "", `(?s)^Usage of nsq_to_file:\n.*--rotate-size.*\nExamples:\n`, "-h"),
		tooltest.Ends(2, "", `^invalid value "bogus,1" for flag -consumer-opt: invalid option bogus\n`, "-consumer-opt=bogus,1"),
		tooltest.Ends(2, "", `^invalid value "tls_root_ca_file,/none" for flag -consumer-opt: ERROR: failed to read custom Certificate Authority file `, "-consumer-opt=tls_root_ca_file,/none"),
		tooltest.Ends(2, "", `^invalid value "lz4" for flag -compression: must be none, gzip or zstd\n`, "-compression=lz4"),
		tooltest.Refuses("--channel is required", "--channel=", "--http-client-connect-timeout=0"),
		tooltest.Refuses("--http-client-connect-timeout should be positive", "--http-client-connect-timeout=0", "--http-client-request-timeout=0"),
		tooltest.Refuses("--http-client-request-timeout should be positive", "--http-client-request-timeout=0"),
		tooltest.Refuses("--nsqd-tcp-address or --lookupd-http-address required.", "--gzip-level=0"),
		tooltest.Refuses("use --nsqd-tcp-address or --lookupd-http-address not both", nobody, lookupd, "--gzip-level=0"),
		tooltest.Refuses("invalid --gzip-level value (0), should be 1-9", nobody, "--gzip-level=0"),
		tooltest.Refuses("invalid --zstd-level value (23), should be 1-22", nobody, "--zstd-level=23"),
		tooltest.Refuses("--topic or --topic-pattern required", nobody),
		tooltest.Refuses("--lookupd-http-address must be specified when no --topic specified", nobody, "--topic-pattern=x"),
		tooltest.Refuses("--sync-interval should be positive", nobody, "--topic=t", "--sync-interval=0"),
		tooltest.Refuses("--topic-refresh should be positive", lookupd, "--topic-pattern=t", "--topic-refresh=0"),
		tooltest.Ends(1, "", `ERROR: couldn't create logger for new topic t: dial tcp `, nobody, out, "--topic=t", "--topic-refresh=0"),
		tooltest.Ends(1, "", tooltest.Line(`--topic-pattern is invalid: error parsing regexp: .*`), lookupd, "--topic-pattern=("),
		tooltest.Ends(1, "", `^`+fatal+`FATAL: invalid MaxInFlight ! -1 < 0\n$`, nobody, "--topic=t", "--max-in-flight=-1"),
		tooltest.Ends(1, "", `(?s)^`+fatal+`ERROR: (couldn't create logger for new topic t: missing <REV> in --filename-format when gzip, rotation, or work dir enabled)\n`+fatal+`FATAL: couldn't create logger`,
			nobody, out, "--topic=t", "--gzip", "--filename-format=x"),
		tooltest.Ends(1, "", `ERROR: couldn't create logger for new topic \*: invalid topic name\n`, nobody, out, "--topic=*"),
		tooltest.Ends(1, "", `ERROR: couldn't create logger for new topic t: dial tcp 127.0.0.1:1: connect: connection refused\n`, nobody, out, "--topic=t"),
		tooltest.Ends(1, "", `^`+fatal+`FATAL: --tls-cert and --tls-key are used together\n$`, nobody, out, "--topic=t", "--tls-cert=x"),
		tooltest.Ends(1, "", `^x.*FATAL: `, nobody, out, "--topic=t", "--log-level=fatal", "--log-prefix=x "),
	})
}

// content returns what a file holds, decompressed as its name says. What cannot be
// read fails the test.
func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = bytes.NewReader(data)
	switch filepath.Ext(path) {
	case ".gz":
		if len(data) == 0 {
			return "" // opened, and nothing synced
		}
		r, err = gzip.NewReader(r)
	case ".zst":
		r, err = zstd.NewReader(r)
	}
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		t.Errorf("read %s: %v", path, err)
	}
	return string(data)
}

// files returns the contents of all files in a directory, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	contents := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			contents[name] = content(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

// balance compares the lines of all files in a directory with messages.
func balance(t *testing.T, dir string, messages []string, doubles int) {
	t.Helper()
	var book tooltest.Book
	for name, text := range files(t, dir) {
		if text != "" && !strings.HasSuffix(text, "\n") {
			t.Errorf("%s ends within a line", name)
		}
		for line := range strings.Lines(text) {
			book.Add(strings.TrimSuffix(line, "\n"))
		}
	}
	book.Balance(t, messages, doubles)
}

// The tool is killed several times, and so may be nsqd, while messages flow, into
// all kinds of files. Every message is in a file that can be read to its end, none is
// left in the work directory, and only kills make doubles.
func TestKills(t *testing.T) {
	for name, flags := range map[string][]string{
		"appended":       nil,
		"nsqd, rotated":  {"--rotate-size=5000"},
		"gzip":           {"--gzip", "--rotate-interval=100ms"},
		"nsqd, zstd":     {"--compression=zstd", "--rotate-size=10000"},
		"nsqd, work dir": {"--gzip", "--rotate-size=10000", "work"},
		"plain work dir": {"--rotate-size=5000", "work"},
	} {
		t.Run(name, func(t *testing.T) {
			killNSQD := strings.HasPrefix(name, "nsqd")
			t.Parallel()
			nsqd := tooltest.StartNSQD(t, "", "--mem-queue-size=0", "--sync-every=1", "--msg-timeout=1s")
			out, work := t.TempDir(), t.TempDir()
			args := append([]string{"--topic=t", "--output-dir=" + out, "--sync-interval=50ms", "--nsqd-tcp-address=" + nsqd.TCPAddr,
				"--consumer-opt=lookupd_poll_interval,50ms"}, flags...)
			if last := len(args) - 1; args[last] == "work" {
				args[last] = "--work-dir=" + work
			}
			messages := tooltest.Numbered("m", 6000)
			p := tooltest.Start(t, "nsq_to_file", args...)
			p.Stderr.Wait("opening ")
			written := func(n int) {
				t.Helper()
				tooltest.WaitFor(t, func() error {
					if c := nsqd.Channel("t", "nsq_to_file"); c.Depth+c.InFlight+c.Deferred > int64(n) {
						return fmt.Errorf("%+v", c)
					}
					return nil
				})
			}
			for round := range 3 {
				nsqd.Publish("t", messages[2000*round:2000*(round+1)]...)
				written(1500)
				p.Kill()
				p = tooltest.Start(t, "nsq_to_file", args...)
				p.Stderr.Wait("opening ") // it is connected
				written(700)
				if round == 1 && killNSQD {
					nsqd.Kill()
					nsqd.Start()
				}
			}
			nsqd.WaitEmpty("t", "nsq_to_file")
			p.Stop()
			// Each kill of the tool brings back what was in flight; nsqd may have lost
			// what it had noted as finished.
			doubles := 3 * 200
			if killNSQD {
				doubles += 4000
			}
			balance(t, out, messages, doubles)
			if left := files(t, work); len(left) > 0 {
				t.Errorf("%d files are left in the work directory", len(left))
			}
		})
	}
}

// SIGHUP closes the file and moves it; the next message opens another one. SIGTERM
// right after it is a clean end.
func TestHangup(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	out, work := t.TempDir(), t.TempDir()
	p := tooltest.Start(t, "nsq_to_file", "--topic=t", "--channel=c", "--output-dir="+out, "--work-dir="+work, "--gzip", "--skip-empty-files",
		"--filename-format=<TOPIC><REV>", "--nsqd-tcp-address="+nsqd.TCPAddr, "--sync-interval=10s", "--log-level=DEBUG", "--log-prefix=x ")
	for _, message := range []string{"a", "b"} {
		nsqd.Publish("t", message)
		p.Stderr.Wait(`x \S+ \S+ INFO: \[t/c\] opening ` + work + `/t-00000` + map[string]string{"a": "0", "b": "1"}[message] + `\.gz\n`)
		p.Signal(syscall.SIGHUP)
		nsqd.WaitEmpty("t", "c")
	}
	p.Stderr.WaitN(`INFO: \[t/c\] moving finished file `, 2)
	p.Signal(syscall.SIGHUP)
	p.Stop()
	if got := files(t, out); len(got) != 2 || got["t-000000.gz"] != "a\n" || got["t-000001.gz"] != "b\n" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(p.Stderr.String(), "INFO: [t/c] syncing 1 records to disk\n") {
		t.Errorf("stderr:\n%s", p.Stderr)
	}
}

// logrotate: mv, and SIGHUP.
func TestMoveAndHangup(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	out := t.TempDir()
	p := tooltest.Start(t, "nsq_to_file", "--topic=t", "--output-dir="+out, "--filename-format=<TOPIC><REV>.log", "--nsqd-tcp-address="+nsqd.TCPAddr)
	nsqd.Publish("t", "a")
	lines := func(name, want string) {
		t.Helper()
		tooltest.WaitFor(t, func() error {
			data, err := os.ReadFile(filepath.Join(out, name))
			if string(data) != want {
				return fmt.Errorf("%q: %w", data, err)
			}
			return nil
		})
	}
	lines("t.log", "a\n") // before any sync: a reader sees messages as they come
	if err := os.Rename(out+"/t.log", out+"/old"); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	nsqd.WaitEmpty("t", "nsq_to_file")
	nsqd.Publish("t", "b")
	lines("t.log", "b\n")
	p.Stop()
	lines("old", "a\n")
	lines("t.log", "b\n")
}

// A message is finished after the sync, not before; a starved Consumer and a full
// max-in-flight do not wait for the interval.
func TestFinishedWhenSynced(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	out := t.TempDir()
	args := []string{"--topic=t", "--output-dir=" + out, "--nsqd-tcp-address=" + nsqd.TCPAddr, "--max-in-flight=10", "--log-level=error"}
	p := tooltest.Start(t, "nsq_to_file", append(args, "--sync-interval=1h")...)
	nsqd.Publish("t", "a", "b")
	tooltest.WaitFor(t, func() error {
		if got := files(t, out); len(got) != 1 {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	tooltest.WaitFor(t, func() error { // the first one was synced after the file was opened
		if c := nsqd.Channel("t", "nsq_to_file"); c.InFlight != 1 || c.Depth > 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	nsqd.Publish("t", tooltest.Numbered("m", 98)...)
	tooltest.WaitFor(t, func() error { // all but less than a batch
		if c := nsqd.Channel("t", "nsq_to_file"); c.Depth > 0 || c.InFlight >= 9 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	p.Stop()
	nsqd.WaitEmpty("t", "nsq_to_file")
	balance(t, out, append(tooltest.Numbered("m", 98), "a", "b"), 0)
	if text := p.Stderr.String(); text != "" {
		t.Errorf("with --log-level=error stderr is\n%s", text)
	}
}

// Topics are discovered at once and as they come, while one nsqlookupd is away, and
// those that do not match are warned of once.
func TestDiscovery(t *testing.T) {
	lookupd := tooltest.StartLookupd(t)
	nsqd := tooltest.StartNSQD(t, lookupd.TCPAddr)
	known := func(n int) {
		t.Helper()
		tooltest.WaitFor(t, func() error {
			var answer struct{ Topics []string }
			if err := lookupd.GetJSON(t.Context(), "/topics", &answer); err != nil || len(answer.Topics) < n {
				return fmt.Errorf("%v, %w", answer.Topics, err)
			}
			return nil
		})
	}
	nsqd.Publish("log.a", "1")
	nsqd.Publish("other", "2")
	known(2)
	out := t.TempDir()
	start := func(refresh string) *tooltest.Process {
		return tooltest.Start(t, "nsq_to_file", "--topic-pattern=^log\\.", "--topic-refresh="+refresh, "--output-dir="+out, "--filename-format=<TOPIC><REV>",
			"--lookupd-http-address="+lookupd.HTTPAddr, "--lookupd-http-address=127.0.0.1:1", "--sync-interval=50ms")
	}
	p := start("1h")
	nsqd.WaitEmpty("log.a", "nsq_to_file")
	p.Stop()
	p = start("50ms")
	p.Stderr.WaitN(`ERROR: could not retrieve topic list: Get "http://127.0.0.1:1/topics": .*connection refused`, 3)
	nsqd.Publish("log.b", "3")
	nsqd.WaitEmpty("log.b", "nsq_to_file")
	p.Stop()
	if got := files(t, out); len(got) != 2 || got["log.a"] != "1\n" || got["log.b"] != "3\n" {
		t.Errorf("%q", got)
	}
	if n := strings.Count(p.Stderr.String(), `WARNING: skipping topic other (doesn't match pattern ^log\.)`); n != 1 {
		t.Errorf("%d warnings:\n%s", n, p.Stderr)
	}
	if c := nsqd.Channel("other", "nsq_to_file"); c.Name != "" {
		t.Errorf("%+v", c)
	}
}

// An nsqlookupd over HTTPS is asked for topics and nsqds, with the certificate that it
// demands.
func TestDiscoveryOverHTTPS(t *testing.T) {
	lookupd := tooltest.StartLookupd(t)
	nsqd := tooltest.StartNSQD(t, lookupd.TCPAddr)
	nsqd.Publish("log", "1")
	ca := nsqtest.NewCA(t)
	s := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: lookupd.HTTPAddr}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that fail
	s.TLS = ca.Client(ca.Issue("lookupd"))
	s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, s.TLS.RootCAs
	s.StartTLS()
	t.Cleanup(s.Close)
	cert, key := ca.IssueFiles("client")
	out := t.TempDir()
	flags := []string{"--topic-pattern=^log$", "--topic-refresh=50ms", "--sync-interval=50ms", "--output-dir=" + out, "--filename-format=<TOPIC>",
		"--lookupd-http-address=" + s.URL, "--tls-root-ca-file=" + ca.File()}

	p := tooltest.Start(t, "nsq_to_file", flags...)
	p.Stderr.Wait(`ERROR: could not retrieve topic list: Get "https://`)
	p.Stop()
	p = tooltest.Start(t, "nsq_to_file", append(flags, "--tls-cert="+cert, "--tls-key="+key)...)
	nsqd.WaitEmpty("log", "nsq_to_file")
	p.Stop()
	if got := files(t, out); got["log"] != "1\n" {
		t.Errorf("%q", got)
	}
}

// Of several nsqds one is away at the start and comes later.
func TestMissingNSQD(t *testing.T) {
	here, late := tooltest.StartNSQD(t, ""), tooltest.StartNSQD(t, "")
	late.Stop()
	out := t.TempDir()
	p := tooltest.Start(t, "nsq_to_file", "--topic=t", "--output-dir="+out, "--sync-interval=20ms", "--nsqd-tcp-address="+late.TCPAddr, "--nsqd-tcp-address="+here.TCPAddr,
		"--consumer-opt=lookupd_poll_interval,50ms")
	p.Stderr.Wait(`WARNING: \[t/nsq_to_file\] nsqd ` + regexp.QuoteMeta(late.TCPAddr) + ` cannot be reached, trying again in 50ms`)
	here.Publish("t", "a")
	here.WaitEmpty("t", "nsq_to_file")
	late.Start()
	late.Publish("t", "b")
	late.WaitEmpty("t", "nsq_to_file")
	p.Stop()
	balance(t, out, []string{"a", "b"}, 0)
}

// A full disk ends the tool with status 1; nothing half is left, and nothing is lost
// when there is room again.
func TestDiskFull(t *testing.T) {
	out := t.TempDir()
	if text, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", out).CombinedOutput(); err != nil {
		t.Skipf("no file system to fill: %s", text)
	}
	t.Cleanup(func() {
		if text, err := exec.Command("umount", "-l", out).CombinedOutput(); err != nil {
			t.Errorf("%s", text)
		}
	})
	nsqd := tooltest.StartNSQD(t, "", "--msg-timeout=300ms")
	messages := tooltest.Numbered(strings.Repeat("long", 250), 200) // 200 kB
	nsqd.Publish("t", messages...)
	args := []string{"--topic=t", "--output-dir=" + out, "--filename-format=<TOPIC>", "--max-in-flight=20", "--sync-interval=50ms", "--nsqd-tcp-address=" + nsqd.TCPAddr}
	p := tooltest.Start(t, "nsq_to_file", args...)
	p.ExpectExit(1)
	if !regexp.MustCompile(`FATAL: \[t/nsq_to_file\] (failed syncing messages: )?writing message to disk: write ` + out + `/t: no space left on device\n$`).MatchString(p.Stderr.String()) {
		t.Errorf("stderr:\n%s", p.Stderr)
	}
	full := content(t, out+"/t")
	if len(full) == 0 || !strings.HasSuffix(full, "\n") {
		t.Errorf("the file ends with %q", full[max(len(full)-20, 0):])
	}
	if err := exec.Command("mount", "-o", "remount,size=1m", out).Run(); err != nil {
		t.Fatal(err)
	}
	p = tooltest.Start(t, "nsq_to_file", args...)
	nsqd.WaitEmpty("t", "nsq_to_file")
	p.Stop()
	balance(t, out, messages, 0)
}

// Where no file can be made nothing is finished.
func TestFailures(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.Publish("t", "a")
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/file", nil, 0o600), os.Mkdir(dir+"/dir", 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ format, want string }{
		{"file/x", `unable to create dir: mkdir .*/file: not a directory`},
		{"dir", `unable to open .*/dir: open .*/dir: is a directory`},
	} {
		p := tooltest.Start(t, "nsq_to_file", "--topic=t", "--output-dir="+dir, "--filename-format="+tt.format, "--sync-interval=50ms", "--nsqd-tcp-address="+nsqd.TCPAddr)
		p.ExpectExit(1)
		if !regexp.MustCompile(`FATAL: \[t/nsq_to_file\] ` + tt.want + `\n$`).MatchString(p.Stderr.String()) {
			t.Errorf("stderr lacks %s:\n%s", tt.want, p.Stderr)
		}
	}
	if c := nsqd.Channel("t", "nsq_to_file"); c.Depth+c.InFlight != 1 {
		t.Errorf("%+v", c)
	}
}

// SIGTERM does not keep a core busy while nsqd takes its time to let go.
func TestStopIsIdle(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.CreateChannel("t", "nsq_to_file")
	p := tooltest.Start(t, "nsq_to_file", "--topic=t", "--output-dir="+t.TempDir(), "--nsqd-tcp-address="+nsqd.TCPAddr)
	p.Stderr.Wait("connecting to nsqd")
	tooltest.WaitFor(t, func() error {
		var stats struct {
			Topics []struct {
				Channels []struct {
					ClientCount int `json:"client_count"`
				}
			}
		}
		if err := nsqd.GetJSON(t.Context(), "/stats", &stats, "format", "json"); err != nil || stats.Topics[0].Channels[0].ClientCount == 0 {
			return fmt.Errorf("%+v, %w", stats, err)
		}
		return nil
	})
	nsqd.Freeze()
	p.Signal(syscall.SIGTERM)
	p.Stderr.Wait("stopping")
	const pause = 500 * time.Millisecond
	before := p.CPU()
	time.Sleep(pause) // what is measured is this time
	if used := p.CPU() - before; used > pause/4 {
		t.Errorf("%v of CPU time in %v", used, pause)
	}
	nsqd.Thaw()
	p.ExpectExit(0)
}

// A lookupd that is given as a URL serves discovery, too.
func TestDiscoveryByURL(t *testing.T) {
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		fmt.Fprint(w, `{"topics":["t"],"producers":[]}`)
	}))
	t.Cleanup(s.Close)
	p := tooltest.Start(t, "nsq_to_file", "--topic-pattern=t", "--lookupd-http-address="+s.URL, "--output-dir="+t.TempDir(), "--progress=always")
	for _, want := range []string{"/topics", "/lookup"} {
		if got := <-asked; got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
	}
	p.Stop()
	if !strings.Contains(p.Stderr.String(), "nsq_to_file: 0 messages written, ") {
		t.Errorf("stderr:\n%s", p.Stderr)
	}
}
