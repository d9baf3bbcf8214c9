package main

import (
	"fmt"

	"github.com/nsq-suite/nsq/bench/internal/markdown"
	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// mayGrow is how many times as long as in quiet, or as with the disturbance in another
// nsqd, the slowest messages may take. Below isLittle ms nothing is a disturbance.
const (
	mayGrow  = 2
	isLittle = 0.5
)

// table returns the medians.
func table(results []*result) string {
	rows := [][]string{{"disturbance", "quiet p50", "p99", "beside p50", "p99", "inside p50", "p99", "CPUs", "× ", "full p50", "p99", "CPUs", ""}}
	for _, r := range results {
		row := []string{r.name}
		for p, s := range r.samples {
			row = append(row, milliseconds(s.p50), milliseconds(s.p99))
			if place(p) == inside || place(p) == full {
				row = append(row, cpus(s.cpu))
			}
			if place(p) == inside {
				row = append(row, fmt.Sprintf("%.2f", r.growth()))
			}
		}
		rows = append(rows, append(row, r.verdict()))
	}
	return markdown.Table(rows)
}

// growth is how many times as long as without the disturbance the p99 is: than in
// quiet, or than with the disturbance beside, whichever is longer.
func (r *result) growth() float64 {
	without := max(scenario.Median(r.samples[quiet].p99), scenario.Median(r.samples[beside].p99))
	return scenario.Median(r.samples[inside].p99) / without
}

func (r *result) verdict() string {
	if r.growth() > mayGrow && scenario.Median(r.samples[inside].p99) > isLittle {
		return "disturbs"
	}
	return ""
}

func milliseconds(list []float64) string { return fmt.Sprintf("%.2f", scenario.Median(list)) }

func cpus(list []float64) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", scenario.Median(list))
}
