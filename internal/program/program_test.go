package program_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/program"
	"github.com/nsq-suite/nsq/internal/program/programtest"
)

type options struct {
	logging.Options
	ShutdownTimeout time.Duration `flag:"shutdown-timeout"`
	Size            int           `flag:"size" live:"yes"`
}

// A fake is a daemon that does what its fields say.
type fake struct {
	log     *slog.Logger
	level   *slog.LevelVar
	ready   chan struct{}
	release chan struct{} // Run returns only after it is closed; nil for at once
}

func (d *fake) Run(ctx context.Context) error {
	d.log.Info("serving")
	close(d.ready)
	<-ctx.Done()
	if d.release != nil {
		<-d.release
	}
	return nil
}

func (d *fake) Ready() <-chan struct{} { return d.ready }
func (d *fake) Remaining() string      { return "a message" }

func (d *fake) Reload(opts *options) error {
	if opts.Size < 0 {
		return errors.New("--size is negative")
	}
	d.level.Set(opts.LogLevel.Level())
	d.log.Info("size", "size", opts.Size)
	return nil
}

func command(release chan struct{}) program.Program[options] {
	return program.Program[options]{
		Name: "x",
		Defaults: func() *options {
			return &options{Options: logging.Options{LogLevel: logging.LevelInfo, LogPrefix: "[x] "}}
		},
		Settings: func(o *options) program.Settings {
			return program.Settings{Log: o.Options, ShutdownTimeout: o.ShutdownTimeout}
		},
		Doubts: func(o *options) []string {
			if o.Size == 13 {
				return []string{"--size is unlucky"}
			}
			return nil
		},
		New: func(o *options, log *slog.Logger, level *slog.LevelVar) (program.Daemon[options], error) {
			if o.Size > 100 {
				return nil, errors.New("--size is too large")
			}
			return &fake{log: log, level: level, ready: make(chan struct{}), release: release}, nil
		},
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is in the file is taken over, unless something is wrong with it; flags win.
func TestReload(t *testing.T) {
	path := programtest.ConfigFile(t, "size = 1\n")
	r := programtest.Start(t, command(nil), "--config="+path)
	r.Wait(`serving`)
	for _, c := range []struct{ file, want string }{
		{"size = 2\n", `INFO: reloading\n.*INFO: size size=2\n.*INFO: reloaded\n`},
		{"size = \"x\"\n", `INFO: reloading\n.*ERROR: reload failed, nothing has changed err="invalid value for size in config file .*: the string \\"x\\" is not a whole number.*\n`},
		{"size = -1\n", `ERROR: reload failed, nothing has changed err="--size is negative"\n`},
		{"sise = 3\n", `INFO: size size=0\n.*WARNING: config file: unknown option sise is ignored, did you mean size\?\n.*INFO: reloaded\n`},
		{"log_level = \"debug\"\nsize = 4\n", `INFO: size size=4\n`},
	} {
		write(t, path, c.file)
		r.Reload()
		r.Wait(c.want)
	}
	if code, _ := r.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestReloadKeepsFlags(t *testing.T) {
	path := programtest.ConfigFile(t, "size = 1\n")
	r := programtest.Start(t, command(nil), "--config="+path, "--size=7")
	r.Wait(`serving`)
	write(t, path, "size = 2\nlog_prefix = \"\"\n")
	r.Reload()
	r.Wait(`INFO: size size=7\n`)
}

func TestReloadWithStrictConfig(t *testing.T) {
	path := programtest.ConfigFile(t, "size = 1\n")
	r := programtest.Start(t, command(nil), "--config="+path, "--strict-config")
	r.Wait(`serving`)
	write(t, path, "sise = 2\n")
	r.Reload()
	r.Wait(`ERROR: reload failed, nothing has changed err="--strict-config: config file: unknown option sise`)
}

func TestStrictConfig(t *testing.T) {
	file := programtest.ConfigFile(t, "sise = 1\n")
	start := func() programtest.Program { return command(nil) }
	const fatal = `^\[x\] \S+ \S+ FATAL: --strict-config: `
	programtest.Check(t, start, []programtest.Outcome{
		programtest.Ends("unknown key", []string{"--strict-config", "--config=" + file}, 1, `^$`, fatal+`config file: unknown option sise is ignored, did you mean size\?\n$`),
		programtest.Ends("stray word", []string{"--strict-config", "stray", "--size=1"}, 1, `^$`, fatal+`arguments from here on are ignored: stray --size=1\n$`),
		programtest.Ends("doubt", []string{"--strict-config", "--size=13"}, 1, `^$`, fatal+`--size is unlucky\n$`),
		programtest.Ends("New", []string{"--size=101"}, 1, `^$`, `^\[x\] \S+ \S+ FATAL: failed to instantiate x - --size is too large\n$`),
		programtest.Ends("New in JSON", []string{"--size=101", "--log-format=json"}, 1, `^$`,
			`^{"time":"[^"]+","level":"fatal","msg":"failed to instantiate x - --size is too large","prefix":"\[x\]"}\n$`),
	})
	_, log := programtest.Until(t, command(nil), "serving", "--size=13", "--config="+file)
	for _, want := range []string{"WARNING: --size is unlucky\n", "WARNING: config file: unknown option sise is ignored, did you mean size?\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// A stop that takes too long ends all the same, and says what was left.
func TestShutdownTimeout(t *testing.T) {
	release := make(chan struct{})
	r := programtest.Start(t, command(release), "--shutdown-timeout=20ms")
	r.Wait(`serving`)
	code, log := r.Stop()
	if want := "[x] FATAL: not stopped within --shutdown-timeout (20ms), still waiting for: a message\n"; code != 1 ||
		!strings.HasSuffix(regexp.MustCompile(` \S+ \S+ FATAL`).ReplaceAllString(log, " FATAL"), want) {
		t.Errorf("exit %d and log\n%s", code, log)
	}
	close(release)
}

// Without a limit a stop takes as long as it takes.
func TestNoShutdownTimeout(t *testing.T) {
	release := make(chan struct{})
	r := programtest.Start(t, command(release))
	r.Wait(`serving`)
	close(release)
	if code, log := r.Stop(); code != 0 || strings.Contains(log, "FATAL") {
		t.Errorf("exit %d and log\n%s", code, log)
	}
}

// systemd is told when the daemon serves, reloads and stops.
func TestNotify(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no datagrams over Unix sockets")
	}
	dir, err := os.MkdirTemp("", "nsq") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	expect := func(pattern string) {
		t.Helper()
		buf := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil || !regexp.MustCompile(pattern).Match(buf[:n]) {
			t.Fatalf("got %q, %v; want %s", buf[:n], err, pattern)
		}
	}
	r := programtest.Start(t, command(nil))
	expect(`^READY=1$`)
	r.Reload()
	expect(`^RELOADING=1\n(MONOTONIC_USEC=\d+\n)?$`)
	expect(`^READY=1$`)
	if code, _ := r.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	expect(`^STOPPING=1$`)
}

// A socket that is gone is worth a warning and nothing more.
func TestNotifyFails(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	r := programtest.Start(t, command(nil))
	r.Wait(`WARNING: tell systemd state="READY=1" err=`)
	if code, _ := r.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// A drainingFake drains until emptied is closed.
type drainingFake struct {
	*fake
	emptied  chan struct{}
	draining bool
	stopping context.Context
	stop     context.CancelFunc
}

func (d *drainingFake) Run(ctx context.Context) error {
	go func() {
		select {
		case <-d.emptied:
		case <-ctx.Done():
		}
		d.stop()
	}()
	return d.fake.Run(d.stopping)
}

func (d *drainingFake) Terminate() bool {
	first := !d.draining
	d.draining = true
	if first {
		d.log.Info("draining")
	}
	return first
}

func (d *drainingFake) Stopping() <-chan struct{} { return d.stopping.Done() }

// drainingCommand is a daemon that drains until emptied is closed, and then stops
// when release is closed.
func drainingCommand(emptied, release chan struct{}) program.Program[options] {
	p := command(release)
	plain := p.New
	p.New = func(o *options, log *slog.Logger, level *slog.LevelVar) (program.Daemon[options], error) {
		d, err := plain(o, log, level)
		if err != nil {
			return nil, err
		}
		draining := &drainingFake{fake: d.(*fake), emptied: emptied}
		draining.stopping, draining.stop = context.WithCancel(context.Background())
		return draining, nil
	}
	return p
}

// SIGTERM stops a daemon, or makes it drain and then stop by itself; a second one
// stops it at once. The shutdown timeout is for the stop, however it comes.
func TestTerminate(t *testing.T) {
	for _, c := range []struct {
		name    string
		drains  bool
		signals int
		empty   bool // the drain comes to its end
		hangs   bool // the stop does not
	}{
		{"plain", false, 1, false, false},
		{"drain", true, 1, true, false},
		{"no patience", true, 2, false, false},
		{"hangs", false, 1, false, true},
		{"hangs after a drain", true, 1, true, true},
		{"hangs without patience", true, 2, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var release chan struct{}
			if c.hangs {
				release = make(chan struct{})
				defer close(release)
			}
			emptied := make(chan struct{})
			cmd := command(release)
			if c.drains {
				cmd = drainingCommand(emptied, release)
			}
			r := programtest.Start(t, cmd, "--shutdown-timeout=20ms")
			r.Wait(`serving`)
			for range c.signals {
				r.Terminate()
			}
			if c.drains {
				r.Wait(`draining`)
			}
			if c.empty {
				close(emptied)
			}
			code, log := r.End()
			if failed := strings.Contains(log, "FATAL: not stopped within"); failed != c.hangs || (code != 0) != c.hangs {
				t.Errorf("exit %d and log\n%s", code, log)
			}
		})
	}
}
