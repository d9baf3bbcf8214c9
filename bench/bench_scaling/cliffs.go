package main

import (
	"fmt"
	"slices"

	"github.com/nsq-suite/nsq/bench/internal/markdown"
	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// A message may cost mayGrow times as much when there is decade times as much of what
// grows.
const (
	mayGrow = 1.3
	decade  = 10
)

// before returns which of the steps before i its cost is compared with: the smallest
// that has not less than a tenth of it. -1 is for none.
func before(results []*result, i int) int {
	if i == 0 {
		return -1
	}
	this := results[i]
	// The sizes of bodies are not quite ten times one another: 16, 100, 1,024.
	from := slices.IndexFunc(results, func(e *result) bool { return this.size <= 1.05*decade*e.size })
	return min(from, i-1)
}

// verdict says what it means that step to costs times as much as step from, and the
// null server's limit times as much (0: not known).
func verdict(r rule, from, to *result, times, limit float64) string {
	if r == perByte {
		more := to.size / from.size
		if times/more <= mayGrow {
			return "" // it may not even cost as much more as there are bytes more
		}
	}
	switch {
	case r == none || times <= mayGrow:
		return ""
	case limit*mayGrow >= times:
		return "as the limit"
	}
	return "cliff"
}

// table returns the results of a dimension.
func table(d dimension, results []*result) string {
	rows := [][]string{{d.name, "msg/s", "CPU, µs/msg", "× step before", "× a tenth", "limit, µs/msg", "× a tenth", ""}}
	for i, r := range results {
		row := []string{r.name, scenario.Format(scenario.Median(r.nsqd.rates)), number(r.nsqd.cpu), "", "", number(r.limit.cpu), "", ""}
		if from := before(results, i); from >= 0 && d.rule != none {
			base := results[from]
			times, limit := ratio(r.nsqd.cpu, base.nsqd.cpu), ratio(r.limit.cpu, base.limit.cpu)
			row[3] = factor(ratio(r.nsqd.cpu, results[i-1].nsqd.cpu))
			row[4], row[6] = factor(times), factor(limit)
			row[7] = verdict(d.rule, base, r, times, limit)
		}
		rows = append(rows, row)
	}
	return markdown.Table(rows)
}

// ratio is how many times as large the median of a is as that of b; 0 if one of them
// was not measured.
func ratio(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 || scenario.Median(b) <= 0 {
		return 0
	}
	return scenario.Median(a) / scenario.Median(b)
}

func factor(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x)
}

func number(list []float64) string {
	if len(list) == 0 {
		return ""
	}
	return scenario.Format(scenario.Median(list))
}
