package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nsq-suite/nsq/bench/internal/null"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

// TestMain lets the test binary be bench, nsqd and the null server.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "null" {
		os.Exit(runNull())
	}
	tooltest.Main(m, "bench", main)
}

func runNull() int {
	tcpAddr, httpAddr := flag.String("tcp-address", "", ""), flag.String("http-address", "", "")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, err := null.Listen(*tcpAddr, *httpAddr, logging.New(os.Stderr, "[null] ", slog.LevelInfo))
	if err == nil {
		err = server.Run(ctx)
	}
	if err != nil {
		return 1
	}
	return 0
}

// nullPath returns where the null server is.
func nullPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "null")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file is what --json leaves.
type file struct {
	NSQD, Ref string
	Rounds    int
	Scenarios []struct {
		Name, About, Command string
		Figures              []struct {
			Name, Unit, Better string
			Subjects           map[string]struct {
				Median, Min, Max float64
				Rounds           []float64
			}
		}
	}
}

// run runs bench, which must succeed, and returns its table and what it left.
func run(t *testing.T, args ...string) (table, stderr string, results file, picture []byte) {
	t.Helper()
	dir := t.TempDir()
	jsonPath, svgPath := filepath.Join(dir, "results.json"), filepath.Join(dir, "results.svg")
	args = append(args, "--nsqd="+tooltest.Path("nsqd"), "--json="+jsonPath, "--svg="+svgPath)
	code, table, stderr := tooltest.Run(t, "", "bench", args...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, table, stderr)
	}
	data, err := os.ReadFile(jsonPath)
	if err == nil {
		err = json.Unmarshal(data, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	if picture, err = os.ReadFile(svgPath); err != nil {
		t.Fatal(err)
	}
	return table, stderr, results, picture
}

// TestAll runs each scenario with very little to do, against nsqd and the limit.
func TestAll(t *testing.T) {
	table, stderr, results, picture := run(t, "--null="+nullPath(t), "--n=1", "--scale=0.002")
	if stderr != "" {
		t.Error(stderr)
	}
	var names []string
	for i, r := range results.Scenarios {
		names = append(names, r.Name)
		if !strings.Contains(table, "\n| "+r.Name+" ") {
			t.Errorf("%s is not in the table:\n%s", r.Name, table)
		}
		for _, f := range r.Figures {
			if len(f.Subjects["nsqd"].Rounds) != 1 {
				t.Errorf("%s: %+v", r.Name, f)
			}
			if limited := f.Name == "rate" && scenarios[i].limit != nil; limited && f.Subjects["limit"].Median <= 0 {
				t.Errorf("%s has no limit: %+v", r.Name, f)
			}
		}
	}
	var want []string
	for _, e := range scenarios {
		want = append(want, e.name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("scenarios %v, want %v", names, want)
	}
	if err := wellFormed(picture); err != nil || !strings.Contains(string(picture), ">fanout-8</text>") {
		t.Errorf("%v\n%s", err, picture)
	}
}

// wellFormed reads XML to its end.
func wellFormed(data []byte) error {
	for d := xml.NewDecoder(strings.NewReader(string(data))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestRef(t *testing.T) {
	ref := tooltest.Path("nsqd")
	table, _, results, _ := run(t, "--null=", "--ref="+ref, "--n=2", "--scale=0.001", "--run=^pub-")
	if len(results.Scenarios) != 2 || results.Ref != ref || results.Rounds != 2 || !strings.Contains(table, "| ref ") && !strings.Contains(table, " ref |") {
		t.Errorf("%+v\n%s", results, table)
	}
	for _, r := range results.Scenarios {
		for _, f := range r.Figures {
			if len(f.Subjects) != 2 || len(f.Subjects["nsqd"].Rounds) != 2 || len(f.Subjects["ref"].Rounds) != 2 {
				t.Errorf("%s: %+v", r.Name, f)
			}
		}
	}
}

// An nsqd that runs already is measured as far as its flags allow, and is left as it
// was.
func TestRunningNSQD(t *testing.T) {
	nsqd := tooltest.StartNSQD(t, "")
	nsqd.CreateChannel("other", "channel")
	_, stderr, results, _ := run(t, "--null=", "--n=2", "--scale=0.001", "--run=mpub",
		"--nsqd-tcp-address="+nsqd.TCPAddr, "--nsqd-http-address="+nsqd.HTTPAddr)
	if !regexp.MustCompile(`disk-mpub is not measured: it is about an nsqd with \[--mem-queue-size=0\]\n$`).MatchString(stderr) {
		t.Error(stderr)
	}
	if len(results.Scenarios) != 3 || results.NSQD != nsqd.TCPAddr {
		t.Errorf("%+v", results)
	}
	for _, r := range results.Scenarios {
		if len(r.Figures) != 1 || r.Figures[0].Name != "rate" { // no process was named
			t.Errorf("%+v", r)
		}
	}
	if nsqd.Channel("other", "channel").Name == "" || nsqd.Channel("bench_writer", "channel").Name != "" {
		t.Error("nsqd is not as it was")
	}
}

// What fails is told, once per scenario; the others are measured.
func TestFailures(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no /bin/false")
	}
	code, table, stderr := tooltest.Run(t, "", "bench", "--null=", "--nsqd="+tooltest.Path("nsqd"), "--ref=/bin/false",
		"--n=2", "--scale=0.001", "--run=^pub-")
	if code != 1 || strings.Count(stderr, "pub-sync, ref: start false: ended before it listened") != 1 ||
		strings.Count(stderr, "pub-pipe, ref: ") != 1 || !strings.Contains(table, "\n| pub-pipe ") {
		t.Errorf("exit code %d\n%s%s", code, table, stderr)
	}
}

func TestOutcomes(t *testing.T) {
	nsqd := "--nsqd=" + tooltest.Path("nsqd")
	tooltest.Check(t, "bench", []tooltest.Outcome{
		tooltest.Ends(0, "", `(?s)^Usage of bench:\n.*--ref path.*--run regexp.*\nExamples:\n`, "--help"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -n: parse error\n`, "--n=x"),
		tooltest.Refuses("--n must be at least 1", "--n=0"),
		tooltest.Refuses("--scale must be above 0", "--scale=-1"),
		tooltest.Refuses("--timeout must be above 0", "--timeout=0"),
		tooltest.Refuses("--run: error parsing regexp: missing closing ): `(`", "--run=("),
		tooltest.Refuses("--run: no scenario matches x", "--run=x", "--null="),
		tooltest.Refuses("--nsqd-tcp-address and --nsqd-http-address go together", "--nsqd-tcp-address=127.0.0.1:1"),
		tooltest.Refuses("--nsqd-pid is of no use without --nsqd-tcp-address", "--nsqd-pid=1"),
		tooltest.Refuses("--nsqd (make build compiles nsqd and the null server): stat nowhere: no such file or directory", "--nsqd=nowhere", "--null="),
		tooltest.Refuses("--null (make build compiles nsqd and the null server): stat nowhere: no such file or directory", nsqd, "--null=nowhere"),
		tooltest.Refuses("--ref (make build compiles nsqd and the null server): stat nowhere: no such file or directory", nsqd, "--null=", "--ref=nowhere"),
		tooltest.Ends(0, `durable      fsync before each OK: PUB, 16 connections, one outstanding each
             bench_writer --nsqd=build/nsqd --nsqd-flag=--mem-queue-size=0 --nsqd-flag=--sync-every=1 --messages=8000 --connections=16 --window=1
`, `^$`, "--list", "--run=^durable$"),
	})
}
