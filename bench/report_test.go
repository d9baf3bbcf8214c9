package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// example is a report of three rounds, of which the second failed for ref.
func example() *report {
	r := &report{
		Time:    time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
		Machine: machine{System: "linux/amd64", CPUs: 2, CPU: "A & B", Go: "go1.26"},
		Before:  "0.10", After: "1.20",
		NSQD: "build/nsqd", Ref: "/old/nsqd", Rounds: 3, Scale: 1,
	}
	figures := func(rate, cpu, peak float64) scenario.Figures {
		return scenario.Figures{{Kind: scenario.Rate, Value: rate}, {Kind: scenario.CPU, Value: cpu}, {Kind: scenario.Peak, Value: peak}}
	}
	pub := newResult(entry{name: "pub", about: "PUB", command: "bench_writer --size=1", flags: onDisk})
	for i, f := range []float64{1, 3, 2} {
		pub.add(most, figures(4e6*f, 0.1*f, 10))
		pub.add(ours, figures(1e6*f, 0.25*f, 20))
		if i != 1 {
			pub.add(other, figures(2e5*f, 2*f, 15))
		}
	}
	disk := newResult(entry{name: "disk-mpub", about: "MPUB", command: "bench_writer --size=2"})
	disk.add(most, scenario.Figures{{Kind: scenario.Rate, Value: 1e7}})
	disk.add(ours, figures(12_345, 60, 8))
	delay := newResult(entry{name: "latency", about: "PUB", command: "bench_latency --rate=1"})
	delay.add(ours, scenario.Figures{{Kind: scenario.P50, Value: 0.08}, {Kind: scenario.Pace, Value: 999}})
	failed := newResult(entry{name: "failed", about: "", command: "bench_writer --size=3"})
	r.Scenarios = []*result{pub, disk, delay, failed}
	return r
}

const exampleTable = `2026-01-02, medians of 3 rounds; linux/amd64, 2 CPUs (A & B), load average 0.10 before, 1.20 after
nsqd is build/nsqd, ref is /old/nsqd; × says how many times better nsqd is.

| scenario  |  msg/s |     ref |    × | of limit | CPU, µs/msg |  ref |    × | of limit | peak memory, MiB |  ref |    × |
|-----------|-------:|--------:|-----:|---------:|------------:|-----:|-----:|---------:|-----------------:|-----:|-----:|
| pub       | 2.00 M | 300.0 k | 6.67 |     0.25 |       0.500 | 3.00 | 6.00 |     0.40 |             20.0 | 15.0 | 0.75 |
| disk-mpub | 12.3 k |         |      |     0.00 |        60.0 |      |      |          |             8.00 |      |      |

| scenario | p50, ms | pace kept, msg/s |
|----------|--------:|-----------------:|
| latency  |   0.080 |              999 |
`

func TestTable(t *testing.T) {
	if got := example().table(); got != exampleTable {
		t.Errorf("got\n%s\nwant\n%s", got, exampleTable)
	}
}

func TestJSON(t *testing.T) {
	data, err := example().json()
	if err != nil {
		t.Fatal(err)
	}
	var got file
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	pub := got.Scenarios[0]
	if pub.Name != "pub" || pub.About != "PUB" || pub.Command != "bench_writer --nsqd=build/nsqd --nsqd-flag=--mem-queue-size=0 --size=1" {
		t.Errorf("%+v", pub)
	}
	rate, cpu := pub.Figures[0], pub.Figures[1]
	if rate.Name != "rate" || rate.Unit != "msg/s" || rate.Better != "higher" || cpu.Better != "lower" {
		t.Errorf("%+v, %+v", rate, cpu)
	}
	if got := fmt.Sprint(rate.Subjects["nsqd"], rate.Subjects["ref"], cpu.Subjects["limit"].Median); got != "{2e+06 1e+06 3e+06 [1e+06 3e+06 2e+06]} {300000 200000 400000 [200000 400000]} 0.2" {
		t.Error(got)
	}
	if len(got.Scenarios) != 4 || len(got.Scenarios[3].Figures) != 0 {
		t.Errorf("%+v", got.Scenarios)
	}
}

func TestChart(t *testing.T) {
	picture, err := example().chart()
	if err != nil {
		t.Fatal(err)
	}
	if err := wellFormed(picture); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		">nsqd<", ">ref<", ">limit of the machine<", "(A &amp; B)", ">pub<", ">disk-mpub<", ">latency p50<",
		">2.00 M, × 6.67, 0.25 of limit<", ">300.0 k<", ">0.080<", "messages per second (more is better), logarithmic scale<",
	} {
		if !strings.Contains(string(picture), text) {
			t.Errorf("no %s in\n%s", text, picture)
		}
	}
	for _, text := range []string{">failed<", "NaN", "Inf", `width="-`} {
		if strings.Contains(string(picture), text) {
			t.Errorf("%s in\n%s", text, picture)
		}
	}
	if none, err := (&report{}).chart(); err != nil || wellFormed(none) != nil {
		t.Errorf("%v\n%s", err, none)
	}
}

// An axis has room for every value and at least two ticks, in order, within it.
func TestAxis(t *testing.T) {
	for _, values := range []sample{{1}, {0}, {0, 5}, {3, 50}, {0.07, 77}, {1, 20}, {1000, 1e9}, {0.999, 100}, {12, 13}} {
		p := panel{rows: []row{{"r", &series{samples: map[subject]sample{ours: values}}}}}
		a := p.axis()
		for _, v := range values {
			if x := a.at(v); x < 0 || x > chartWidth || math.IsNaN(x) {
				t.Errorf("%v: %v is at %v", values, v, x)
			}
		}
		ticks := a.ticks()
		if len(ticks) < 2 || len(ticks) > 12 {
			t.Errorf("%v: ticks %v", values, ticks)
		}
		for i, v := range ticks {
			if i > 0 && v <= ticks[i-1] || a.at(v) < -0.001 || v > a.to {
				t.Errorf("%v: ticks %v", values, ticks)
			}
		}
	}
	for v, want := range map[float64]string{0: "0", 0.01: "0.01", 0.30000000000000004: "0.3", 10: "10", 20_000: "20 k", 1e7: "10 M"} {
		if got := tickText(v); got != want {
			t.Errorf("tick %v is %q, want %q", v, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		of   sample
		want float64
	}{{nil, 0}, {sample{3}, 3}, {sample{1, 2}, 1.5}, {sample{9, 1, 5}, 5}, {sample{4, 1, 3, 2}, 2.5}} {
		if got := tt.of.median(); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.of, got, tt.want)
		}
	}
	s := series{samples: map[subject]sample{ours: {2}, other: {4}, most: {0}}}
	if s.better(ours, other) != 2 || s.better(other, ours) != 0.5 || s.better(ours, most) != 0 || s.better(ours, "none") != 0 {
		t.Error("lower is not better")
	}
	s.Higher = true
	if s.better(ours, other) != 0.5 {
		t.Error("higher is not better")
	}
}

// Another subject begins each round, and each is there in every round.
func TestTurns(t *testing.T) {
	o := &options{Ref: "ref", Null: "null"}
	for round, want := range []string{"[nsqd ref limit]", "[ref limit nsqd]", "[limit nsqd ref]", "[nsqd ref limit]"} {
		if got := fmt.Sprint(o.subjects(entry{limit: nullServer}, round)); got != want {
			t.Errorf("round %d: %s, want %s", round, got, want)
		}
	}
	if got := fmt.Sprint((&options{Null: "null"}).subjects(entry{}, 1)); got != "[nsqd]" {
		t.Error(got)
	}
}
