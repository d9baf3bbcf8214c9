package main

import (
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

// TestMain lets the test binary be bench_scaling, with the first steps only, and nsqd.
func TestMain(m *testing.M) {
	tooltest.Main(m, "bench_scaling", func() {
		for i, d := range dimensions {
			if d.rule != none {
				dimensions[i].steps = d.steps[:2]
			}
		}
		main()
	})
}

// Each dimension is measured, with very little to do.
func TestAll(t *testing.T) {
	code, stdout, stderr := tooltest.Run(t, "", "bench_scaling", "--nsqd="+tooltest.Path("nsqd"), "--null=", "--n=1", "--scale=0.002")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for _, d := range dimensions {
		if !strings.Contains(stdout, d.name+": "+d.about+"\n\n| "+d.name+" ") {
			t.Errorf("%s was not measured", d.name)
		}
	}
	for _, layer := range []string{"plain", "tls", "snappy", "deflate"} {
		if !strings.Contains(stdout, "\n| "+layer+" ") {
			t.Errorf("%s was not measured", layer)
		}
	}
	if t.Failed() {
		t.Log(stdout)
	}
}

func results(r rule, sizes []float64, nsqd, limit []float64) string {
	var list []*result
	for i, size := range sizes {
		s := &result{step: step{name: "s", size: size}}
		s.nsqd = series{rates: []float64{1}, cpu: []float64{nsqd[i], 3 * nsqd[i], nsqd[i]}}
		if limit != nil {
			s.limit = series{rates: []float64{1}, cpu: []float64{limit[i]}}
		}
		list = append(list, s)
	}
	return table(dimension{name: "d", rule: r}, list)
}

// A step is compared with one of a tenth, a cliff is told from what sockets take.
func TestCliffs(t *testing.T) {
	for name, tt := range map[string]struct {
		rule         rule
		sizes        []float64
		nsqd, limit  []float64
		cliffs, asIs int // rows with each verdict
	}{
		"flat":                {perMessage, []float64{1, 10, 100}, []float64{1, 1.2, 1.5}, nil, 0, 0},
		"a cliff":             {perMessage, []float64{1, 10, 100}, []float64{1, 1.4, 1.4}, nil, 1, 0},
		"of the machine":      {perMessage, []float64{1, 10, 100}, []float64{1, 1.4, 3}, []float64{.5, .7, .8}, 1, 1},
		"small steps":         {perMessage, []float64{1, 2, 4, 8}, []float64{1, 1.1, 1.25, 1.4}, nil, 1, 0},
		"beyond a tenth":      {perMessage, []float64{1, 2, 4, 8, 16, 32}, []float64{1, 1.05, 1.1, 1.15, 1.2, 1.4}, nil, 0, 0},
		"bytes":               {perByte, []float64{16, 100, 1024}, []float64{1, 6, 70}, nil, 0, 0},
		"too much for a byte": {perByte, []float64{16, 100, 1024}, []float64{1, 6, 90}, nil, 1, 0},
		"of different kinds":  {none, []float64{0, 0}, []float64{1, 9}, nil, 0, 0},
	} {
		got := results(tt.rule, tt.sizes, tt.nsqd, tt.limit)
		if strings.Count(got, "cliff") != tt.cliffs || strings.Count(got, "as the limit") != tt.asIs {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	const want = `| d | msg/s | CPU, µs/msg | × step before | × a tenth | limit, µs/msg | × a tenth |       |
|---|------:|------------:|--------------:|----------:|--------------:|----------:|------:|
| s |  1.00 |        1.00 |               |           |         0.500 |           |       |
| s |  1.00 |        2.00 |          2.00 |      2.00 |         0.500 |      1.00 | cliff |
`
	if got := results(perMessage, []float64{1, 10}, []float64{1, 2}, []float64{0.5, 0.5}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestOutcomes(t *testing.T) {
	tooltest.Check(t, "bench_scaling", []tooltest.Outcome{
		tooltest.Ends(0, "", `(?s)^Usage of bench_scaling:\n.*--run regexp.*\nMeasures.*\n\nExamples:\n`, "--help"),
		tooltest.Ends(2, "", `^invalid value "x" for flag -n: parse error\n`, "--n=x"),
		tooltest.Refuses("--n must be at least 1", "--n=0"),
		tooltest.Refuses("--scale must be above 0", "--scale=0"),
		tooltest.Refuses("--timeout must be above 0", "--timeout=0"),
		tooltest.Refuses("--run: no dimension matches x", "--run=x"),
		tooltest.Refuses("topics: 1: start nsqd: fork/exec /nowhere/nsqd: no such file or directory", "--run=^topics$", "--null=", "--nsqd=/nowhere/nsqd"),
	})
}
