package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"

	// What is built and measured: go test must not take the result of a run with older
	// sources for that of this one.
	_ "github.com/nsq-suite/nsq/bench/internal/null"
	_ "github.com/nsq-suite/nsq/nsqd"
)

// TestCosts fails if a message costs nsqd much more than what is written down.
func TestCosts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds nsqd and puts load on it")
	}
	if runtime.GOOS == "windows" {
		t.Skip("daemons cannot be told to stop there")
	}
	bin := t.TempDir()
	module := "github.com/nsq-suite/nsq/"
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, module+"cmd/nsqd", module+"bench/null", module+"bench/guard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are shipped
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program(bin, "guard"), "-bin", bin).CombinedOutput()
	t.Logf("\n%s", out)
	if err != nil {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	now := costs{allocations: 2, allocated: 1000, kept: 300, collections: 2, cpu: 3}
	for _, c := range []struct {
		name string
		got  costs
		want []string // what is complained about
	}{
		{"nothing has changed", now, nil},
		{"all has become better", costs{1, 500, -300, 0, 1}, nil},
		{"within slack", costs{3, 1500, 370, 6, 6}, nil},
		{"not measured", costs{2, 1000, 300, 2, 0}, nil},
		{"one allocation more", costs{3.1, 1000, 300, 2, 3}, []string{"load: 3.1 allocations, at most 3.02 allowed, 2 before"}},
		{"more in one allocation", costs{2, 1600, 300, 2, 3}, []string{"load: 1.6e+03 bytes allocated, at most 1.52e+03 allowed, 1e+03 before"}},
		{"a leak", costs{2, 1000, 500, 2, 3}, []string{"load: 500 bytes kept, at most 380 allowed, 300 before"}},
		{"all at once", costs{9, 9000, 9000, 9, 9}, []string{
			"load: 9 allocations, at most 3.02 allowed, 2 before",
			"load: 9e+03 bytes allocated, at most 1.52e+03 allowed, 1e+03 before",
			"load: 9e+03 bytes kept, at most 380 allowed, 300 before",
			"load: 9 garbage collections in 100,000 messages, at most 6 allowed, 2 before",
			"load: 9 of the null server's CPU time, at most 6 allowed, 3 before",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			if err := (row{name: "load", now: now}).check(c.got); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			nsqtest.Equal(t, got, c.want)
		})
	}
}

// A load at whose end there is less memory than before must go on giving it back; CPU
// time that was never measured has no limit.
func TestCheckOfWhatIsNotPositive(t *testing.T) {
	r := row{now: costs{kept: -200}}
	for kept, fine := range map[float64]bool{-300: true, -200: true, -141: true, -139: false, 0: false} {
		if err := r.check(costs{kept: kept, cpu: 100}); (err == nil) != fine {
			t.Errorf("%v bytes kept: %v", kept, err)
		}
	}
}

// What has grown is for all messages; the lowest of several measurements counts.
func TestMemStats(t *testing.T) {
	before := memStats{mallocs: 100, totalAlloc: 2000, heapAlloc: 500, numGC: 3}
	after := memStats{mallocs: 300, totalAlloc: 9000, heapAlloc: 400, numGC: 5}
	nsqtest.Equal(t, after.since(before).costs(100), costs{allocations: 2, allocated: 70, kept: -1, collections: 2000})
	nsqtest.Equal(t, costs{1, 2, 3, 4, 5}.lower(costs{5, 4, 3, 2, 1}), costs{1, 2, 3, 2, 1})
}
