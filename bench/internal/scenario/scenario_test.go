package scenario

import (
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

// TestMain lets the test binary be a program of this package, and an nsqd.
func TestMain(m *testing.M) {
	tooltest.Main(m, "bench_writer", func() {
		os.Exit(Command("bench_writer", "Writes.", "  bench_writer", NewWriter()).Main())
	})
}

func all() map[string]Scenario {
	return map[string]Scenario{
		"writer": NewWriter(), "http": NewHTTP(), "reader": NewReader(), "channels": NewChannels(), "latency": NewLatency(),
		"connections": NewConnections(), "topics": NewTopics(), "deferred": NewDeferred(),
	}
}

// TestRun runs each scenario with very little to do on an nsqd with other work. All
// its figures are told, and it leaves behind what was there before.
func TestRun(t *testing.T) {
	figures := map[string][]Kind{
		"writer": {Rate, CPU, Peak}, "http": {Rate, CPU, Peak}, "reader": {Rate, CPU, Peak}, "channels": {Rate, CPU, Peak},
		"latency":     {P50, P99, P999, CPU, Pace},
		"connections": {Connects, PerConn, IdleCPU}, "topics": {Creates, PerTopic, IdleCPU}, "deferred": {Rate, CPU, PerMessage},
	}
	for name, s := range all() {
		t.Run(name, func(t *testing.T) {
			d := daemon.Start(t)
			n := load.Connect(d.TCPAddr, d.HTTPAddr, os.Getpid())
			if err := n.Create(t.Context(), "other", "channel"); err != nil {
				t.Fatal(err)
			}
			s.Scale(0.005)
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			got, err := RunAndClean(t.Context(), n, s)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []Kind
			for _, f := range got {
				kinds = append(kinds, f.Kind)
				if f.Kind.Higher && f.Value <= 0 || f.Value < 0 && f.Kind != PerConn && f.Kind != PerTopic && f.Kind != PerMessage {
					t.Errorf("%v", f)
				}
			}
			if runtime.GOOS == "linux" && !slices.Equal(kinds, figures[name]) {
				t.Errorf("figures %v", got)
			}
			stats, err := n.Stats(t.Context())
			if err != nil || len(stats.Topics) != 1 || stats.Topics[0].Name != "other" {
				t.Errorf("topics afterwards: %v, %v", stats, err)
			}
		})
	}
}

// A topic that exists is somebody's: it is neither used nor deleted.
func TestTopicInUse(t *testing.T) {
	d := daemon.Start(t)
	n := load.Connect(d.TCPAddr, d.HTTPAddr, 0)
	for name, s := range all() {
		s.Scale(1e-9)
		topic := s.Topics()[0]
		if err := n.Create(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if _, err := RunAndClean(t.Context(), n, s); err == nil || !strings.Contains(err.Error(), topic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if stats, err := n.Stats(t.Context()); err != nil || len(stats.Topics) != len(all()) {
		t.Errorf("%v, %v", stats, err)
	}
}

func TestCommand(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	address := []string{"--messages=100", "--nsqd-tcp-address=" + nsqd.TCPAddr, "--nsqd-http-address=" + nsqd.HTTPAddr}
	measured := `(?s)^rate +\S+.* msg/s\nCPU +.* µs/msg\npeak memory +.* MiB\n$`
	if runtime.GOOS != "linux" {
		measured = `CPU, memory +not measured`
	}
	tooltest.Check(t, "bench_writer", []tooltest.Outcome{
		tooltest.Ends(0, "", `(?s)^Usage of bench_writer:\n.*--nsqd-tcp-address.*--batch-size.*\nWrites.\n\nExamples:\n`, "--help"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -messages: parse error\n`, "--messages=x"),
		tooltest.Refuses("--window must be at least 1", "--window=0"),
		tooltest.Refuses("--nsqd-flag is of no use without --nsqd", "--nsqd-flag=--mem-queue-size=0"),
		tooltest.Refuses("start nsqd: fork/exec /nowhere/nsqd: no such file or directory", "--nsqd=/nowhere/nsqd"),
	})
	for pattern, args := range map[string][]string{
		`^rate +\S+.* msg/s\nCPU, memory +not measured *\n$`: address,
		measured: {"--messages=100", "--nsqd=" + tooltest.Path("nsqd"), "--nsqd-flag=--mem-queue-size=10"},
	} {
		code, stdout, stderr := tooltest.Run(t, "", "bench_writer", args...)
		if code != 0 || stderr != "" || !regexp.MustCompile(pattern).MatchString(stdout) {
			t.Errorf("%v: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
}

// What is out of range is reported by the name of its flag.
func TestCheck(t *testing.T) {
	for name, s := range all() {
		if err := s.Check(); err != nil {
			t.Errorf("%s: defaults: %v", name, err)
		}
	}
	for flag, s := range map[string]Scenario{
		"messages": &Writer{}, "size": &Writer{Messages: 1}, "rdy": &Reader{Messages: 1, Size: 1, Connections: 1},
		"channels": &Channels{Messages: 1, Size: 1}, "duration": &Latency{}, "delay": &Deferred{}, "topics": &Topics{},
		"connections": &Connections{},
	} {
		if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), "--"+flag+" must be at least 1") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// A compression and consumers that share their messages do not go together.
func TestCheckLayer(t *testing.T) {
	for layer, want := range map[string]string{
		"": "", "tls": "", "snappy": "--layer: with a compression there must be one consumer in all",
		"deflate": "--layer: with a compression there must be one consumer in all", "x": `--layer "x" is not known`,
	} {
		c := NewChannels()
		c.Layer = layer
		if err := c.Check(); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v", layer, err)
		}
	}
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.000", 0.0123: "0.012", 0.25: "0.250", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 9999: "9999",
		12_345: "12.3 k", 999_900: "999.9 k", 1_234_567: "1.23 M", 21_000_000: "21.00 M",
	} {
		if got := Format(v); got != want {
			t.Errorf("Format(%v) = %q, want %q", v, got, want)
		}
	}
}
