// Package tooltest runs the command-line tools in tests as the processes that they
// are, against nsqd and nsqlookupd as processes. All of them are the test's own
// binary under other names, so that they are built once, and under the race detector
// if the test is.
package tooltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/suite"
	"github.com/nsq-suite/nsq/nsqd"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

// binDir holds a link to the test's binary for each program.
var binDir string

// Main is the TestMain of a package that tests the tool with this name: main is what
// the tool does. Under the name of a program the test's binary is that program.
func Main(m *testing.M, name string, main func()) {
	programs := map[string]func(){name: main, "nsqd": runNSQD, "nsqlookupd": runNSQLookupd}
	if program := programs[filepath.Base(os.Args[0])]; program != nil {
		program()
		os.Exit(0)
	}
	os.Exit(run(m, programs))
}

func run(m *testing.M, programs map[string]func()) int {
	// A program with the race detector ends a second late, for reports that others of
	// its threads may be writing.
	err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=50")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, err := os.Executable()
	if err == nil {
		binDir, err = os.MkdirTemp("", "tooltest")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binDir)
	for name := range programs {
		if err := os.Symlink(self, filepath.Join(binDir, name)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

func runNSQD() {
	opts := nsqd.NewOptions()
	opts.BroadcastAddress = "127.0.0.1"
	parse("nsqd", opts)
	opts.Logger = logging.New(os.Stderr, opts.LogPrefix, opts.LogLevel)
	d, err := nsqd.New(opts)
	serve(d, err)
}

func runNSQLookupd() {
	opts := nsqlookupd.NewOptions()
	parse("nsqlookupd", opts)
	opts.Logger = logging.New(os.Stderr, opts.LogPrefix, opts.LogLevel)
	d, err := nsqlookupd.New(opts)
	serve(d, err)
}

func parse(name string, opts any) {
	flags := config.NewFlagSet(name, opts)
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	if _, err := config.Load(opts, flags, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(d interface{ Run(context.Context) error }, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err == nil {
		err = d.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Longest is how long tests wait for what must happen.
const Longest = 20 * time.Second

// A NSQD is an nsqd that runs as a process and can be killed and started again.
type NSQD struct {
	*suite.Daemon
	t        testing.TB
	env      suite.Env
	lookupd  string
	flags    []string
	tcp, web string
}

// StartNSQD starts nsqd, announced to the nsqlookupd at lookupdTCP if that is not
// empty. It is stopped when the test ends.
func StartNSQD(t testing.TB, lookupdTCP string, flags ...string) *NSQD {
	t.Helper()
	n := &NSQD{t: t, env: suite.Env{BinDir: binDir, DataDir: t.TempDir()}, lookupd: lookupdTCP, flags: flags,
		tcp: "127.0.0.1:0", web: "127.0.0.1:0"}
	n.Start()
	t.Cleanup(func() { end(t, n.Daemon) })
	return n
}

// Start starts nsqd again after Kill or Stop, on the same addresses.
func (n *NSQD) Start() {
	n.t.Helper()
	d, err := n.env.StartNSQD(context.Background(), n.tcp, n.web, n.lookupd, n.flags...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Daemon, n.tcp, n.web = d, d.TCPAddr, d.HTTPAddr
}

// Kill ends nsqd at once, as kill -9 does.
func (n *NSQD) Kill() {
	n.t.Helper()
	if err := n.Daemon.Kill(); err != nil {
		n.t.Fatal(err)
	}
}

// Stop stops nsqd, which takes its messages to disk.
func (n *NSQD) Stop() {
	n.t.Helper()
	if err := n.Daemon.Stop(Longest); err != nil {
		n.t.Fatal(err)
	}
}

// Publish publishes messages that have no newline.
func (n *NSQD) Publish(topic string, messages ...string) {
	n.t.Helper()
	if err := post(n.HTTPAddr, "/mpub?topic="+topic, strings.Join(messages, "\n")); err != nil {
		n.t.Fatal(err)
	}
}

// CreateChannel creates a channel, and its topic.
func (n *NSQD) CreateChannel(topic, channel string) {
	n.t.Helper()
	err := errors.Join(n.Post(n.t.Context(), "/topic/create", "topic", topic),
		n.Post(n.t.Context(), "/channel/create", "topic", topic, "channel", channel))
	if err != nil {
		n.t.Fatal(err)
	}
}

// Channel returns the figures of a channel, zero if there is none.
func (n *NSQD) Channel(topic, channel string) suite.ChannelStats {
	n.t.Helper()
	var stats suite.Stats
	if err := n.GetJSON(n.t.Context(), "/stats", &stats, "format", "json"); err != nil {
		n.t.Fatal(err)
	}
	c, depth, _ := stats.Channel(topic, channel)
	c.Depth += depth
	return c
}

// WaitEmpty waits until a channel exists and holds no message. Messages that nsqd is
// moving from one place to another are not counted anywhere for a moment, hence more
// than one look.
func (n *NSQD) WaitEmpty(topic, channel string) {
	n.t.Helper()
	looks := 0
	WaitFor(n.t, func() error {
		if c := n.Channel(topic, channel); c.Name == "" || c.Depth+c.InFlight+c.Deferred > 0 {
			looks = 0
			return fmt.Errorf("channel %s: %+v", channel, c)
		}
		if looks++; looks < 4 {
			return errors.New("not empty for long enough")
		}
		return nil
	})
}

// StartLookupd starts nsqlookupd. It is stopped when the test ends.
func StartLookupd(t testing.TB) *suite.Daemon {
	t.Helper()
	d, err := suite.Env{BinDir: binDir}.StartLookupd(context.Background(), "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, d) })
	return d
}

// end kills a daemon, and shows what it has logged last if the test has failed.
func end(t testing.TB, d *suite.Daemon) {
	if err := d.Kill(); err != nil || t.Failed() {
		t.Log(d.WithLog(errors.Join(errors.New("killed"), err)))
	}
}

// WaitFor waits until check returns nil. It asks now and then: what it waits for
// happens in other processes, which do not tell.
func WaitFor(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Longest)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", Longest, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Path returns where a program is that Main has put there.
func Path(name string) string { return filepath.Join(binDir, name) }

// command returns a command that is killed when the test ends.
func command(t testing.TB, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(t.Context(), Path(name), args...)
}

// Numbered returns the messages "<prefix>-00000" to n-1.
func Numbered(prefix string, n int) []string {
	messages := make([]string, n)
	for i := range messages {
		messages[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return messages
}

// A Book says how often each message has arrived. Its methods may overlap.
type Book struct {
	mu      sync.Mutex // guards arrived
	arrived map[string]int
}

// Add notes that a message has arrived.
func (b *Book) Add(message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.arrived == nil {
		b.arrived = map[string]int{}
	}
	b.arrived[message]++
}

// Count returns how many different messages have arrived.
func (b *Book) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.arrived)
}

// Balance fails the test unless all messages have arrived and no others, and not
// more than doubles of them more than once.
func (b *Book) Balance(t testing.TB, messages []string, doubles int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	missing, more := 0, 0
	for _, m := range messages {
		if b.arrived[m] == 0 {
			missing++
		}
		if b.arrived[m] > 1 {
			more++
		}
	}
	if missing > 0 || len(b.arrived) != len(messages)-missing || more > doubles {
		t.Errorf("of %d messages %d are missing, %d came more than once; %d others came", len(messages), missing, more, len(b.arrived)-len(messages)+missing)
	}
	t.Logf("%d messages, %d of them more than once", len(messages), more)
}
