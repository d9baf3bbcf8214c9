package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// A report is what was measured.
type report struct {
	Time      time.Time `json:"time"` // of the start
	Machine   machine   `json:"machine"`
	Before    string    `json:"load_before,omitempty"` // see loadAverage
	After     string    `json:"load_after,omitempty"`
	NSQD      string    `json:"nsqd"`          // path, or address
	Ref       string    `json:"ref,omitempty"` // path
	Rounds    int       `json:"rounds"`
	Scale     float64   `json:"scale"`
	Scenarios []*result `json:"scenarios"`
}

// A machine is where it was measured.
type machine struct {
	System string `json:"system"` // as "linux/amd64"
	CPUs   int    `json:"cpus"`
	CPU    string `json:"cpu,omitempty"` // its name, where that is known
	Go     string `json:"go"`            // that the load was compiled with
}

// thisMachine tells what can be known without a program; of systems other than Linux
// that is little.
func thisMachine() machine {
	m := machine{System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			if key, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// loadAverage is how many threads have wanted a CPU in the last minute, empty where
// that is not known. Afterwards those of the load and of nsqd are among them.
func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	average, _, _ := strings.Cut(string(data), " ")
	return average
}

// A result is that of one scenario.
type result struct {
	Name    string    `json:"name"`
	About   string    `json:"about"`
	Command string    `json:"command"` // that runs it alone
	Figures []*series `json:"figures"`
}

func newResult(e entry) *result { return &result{Name: e.name, About: e.about, Command: e.alone()} }

// A series is one figure in all rounds.
type series struct {
	scenario.Kind
	samples map[subject]sample
}

// add notes what one run has measured.
func (r *result) add(on subject, figures scenario.Figures) {
	for _, f := range figures {
		s := r.series(f.Kind)
		if s == nil {
			s = &series{Kind: f.Kind, samples: map[subject]sample{}}
			r.Figures = append(r.Figures, s)
		}
		s.samples[on] = append(s.samples[on], f.Value)
	}
}

// series returns the figures of a kind, nil if there are none.
func (r *result) series(k scenario.Kind) *series {
	for _, s := range r.Figures {
		if s.Kind == k {
			return s
		}
	}
	return nil
}

// better is how many times better the median of a is than that of b: above 1, a is
// better. It is 0 if one of them was not measured or is not above 0.
func (s *series) better(a, b subject) float64 {
	x, y := s.samples[a].median(), s.samples[b].median()
	switch {
	case x <= 0 || y <= 0:
		return 0
	case s.Higher:
		return x / y
	}
	return y / x
}

// A sample is what several rounds have measured, in their order.
type sample []float64

// median is the value in the middle, or the mean of the two there; 0 for none.
func (s sample) median() float64 { return scenario.Median(s) }

// MarshalJSON implements [json.Marshaler].
func (s *series) MarshalJSON() ([]byte, error) {
	type measured struct {
		Median float64   `json:"median"`
		Min    float64   `json:"min"`
		Max    float64   `json:"max"`
		Rounds []float64 `json:"rounds"`
	}
	subjects := map[subject]measured{}
	for on, m := range s.samples {
		subjects[on] = measured{m.median(), slices.Min(m), slices.Max(m), m}
	}
	better := "lower"
	if s.Higher {
		better = "higher"
	}
	return json.Marshal(struct {
		Name     string               `json:"name"`
		Unit     string               `json:"unit"`
		Better   string               `json:"better"`
		Subjects map[subject]measured `json:"subjects"`
	}{s.Name, s.Unit, better, subjects})
}

// json returns the report as it goes into a file.
func (r *report) json() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// headline says in a line what was measured, and where.
func (r *report) headline() string {
	text := fmt.Sprintf("%s, medians of %d rounds", r.Time.UTC().Format(time.DateOnly), r.Rounds)
	if r.Rounds == 1 {
		text = r.Time.UTC().Format(time.DateOnly) + ", one round"
	}
	if r.Scale != 1 {
		text += fmt.Sprintf(", scale %v", r.Scale)
	}
	text += fmt.Sprintf("; %s, %d CPUs (%s)", r.Machine.System, r.Machine.CPUs, cmp.Or(r.Machine.CPU, "unknown"))
	if r.Before != "" {
		text += fmt.Sprintf(", load average %s before, %s after", r.Before, r.After)
	}
	return text
}
