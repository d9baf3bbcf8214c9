package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

// TestMain lets the test binary be bench_isolation, and nsqd.
func TestMain(m *testing.M) { tooltest.Main(m, "bench_isolation", main) }

// Beside each disturbance, small and short, every message comes.
func TestDisturbances(t *testing.T) {
	o := &options{NSQD: tooltest.Path("nsqd"), self: tooltest.Path("bench_isolation"), Duration: 50 * time.Millisecond, Rate: 500, Share: 0.5, Scale: 0.01}
	for _, d := range disturbances {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			var s sample
			if err := o.runOnce(t.Context(), d, inside, &s); err != nil {
				t.Fatal(err)
			}
			if len(s.p50) != 1 || s.p50[0] <= 0 || s.p99[0] < s.p50[0] {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestProgram(t *testing.T) {
	code, stdout, stderr := tooltest.Run(t, "", "bench_isolation", "--nsqd="+tooltest.Path("nsqd"), "--run=^mpub$",
		"--n=1", "--duration=20ms", "--data-path="+t.TempDir())
	if code != 0 || stderr != "" || !strings.Contains(stdout, "\n| mpub ") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}

func TestOutcomes(t *testing.T) {
	tooltest.Check(t, "bench_isolation", []tooltest.Outcome{
		tooltest.Ends(0, "", `(?s)^Usage of bench_isolation:\n.*--run regexp.*\nMeasures.*\n\nExamples:\n`, "--help"),
		tooltest.Refuses("--n must be at least 1", "--n=0"),
		tooltest.Refuses("--duration must be at least 1ms", "--duration=0"),
		tooltest.Refuses("--rate must be at least 1", "--rate=0"),
		tooltest.Refuses("--share must be above 0", "--share=0"),
		tooltest.Refuses("--scale must be above 0", "--scale=0"),
		tooltest.Refuses("no disturbance is called x", "--run=x"),
		tooltest.Refuses("no disturbance is called fsy", "--disturb=fsy"),
		tooltest.Refuses("mpub: quiet: start nsqd: fork/exec /nowhere/nsqd: no such file or directory", "--run=^mpub$", "--nsqd=/nowhere/nsqd"),
	})
}

// What takes twice as long as without the disturbance is marked; what is little is not.
func TestVerdict(t *testing.T) {
	of := func(p99 float64) sample { return sample{p50: []float64{0.1}, p99: []float64{p99}, cpu: []float64{0.5}} }
	for _, tt := range []struct {
		quiet, beside, inside float64
		disturbs              bool
	}{{1, 1, 1.9, false}, {1, 1, 2.1, true}, {1, 2, 3, false}, {3, 1, 5, false}, {0.1, 0.1, 0.4, false}} {
		r := &result{disturbance: disturbance{name: "d"}, samples: [places]sample{of(tt.quiet), of(tt.beside), of(tt.inside), of(9)}}
		if got := strings.Contains(table([]*result{r}), "disturbs"); got != tt.disturbs {
			t.Errorf("%+v: %v\n%s", tt, got, table([]*result{r}))
		}
	}
}
