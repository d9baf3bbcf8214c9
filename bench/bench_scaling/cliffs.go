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

// growth is how many times as much step i costs as the smallest of those before it that
// have not less than a tenth of it, and whether that is a cliff. It is 0 where nothing
// is to be compared.
func growth(r rule, results []*result, i int) (times float64, cliff bool) {
	this := results[i]
	if r == none || i == 0 || len(this.cpu) == 0 {
		return 0, false
	}
	// The sizes of bodies are not quite ten times one another: 16, 100, 1,024.
	from := slices.IndexFunc(results, func(e *result) bool { return this.size <= 1.05*decade*e.size })
	if from == i {
		from = i - 1
	}
	base := results[from]
	times = median(this.cpu) / median(base.cpu)
	if r == perByte {
		return times, times*base.size/this.size > mayGrow && times > mayGrow
	}
	return times, times > mayGrow
}

// table returns the results of a dimension.
func table(d dimension, results []*result) string {
	head := []string{d.name, "msg/s", "CPU, µs/msg", "least", "× the step before", "× a tenth", ""}
	if d.rule == perByte {
		head[len(head)-1] = "ns/byte"
	}
	rows := [][]string{head}
	for i, r := range results {
		row := []string{r.name, scenario.Format(median(r.rates)), "", "", "", "", ""}
		if len(r.cpu) > 0 {
			row[2], row[3] = scenario.Format(median(r.cpu)), scenario.Format(slices.Min(r.cpu))
			if i > 0 {
				row[4] = fmt.Sprintf("%.2f", median(r.cpu)/median(results[i-1].cpu))
			}
			times, cliff := growth(d.rule, results, i)
			if times > 0 {
				row[5] = fmt.Sprintf("%.2f", times)
			}
			if d.rule == perByte {
				row[6] = scenario.Format(1000 * median(r.cpu) / r.size)
			}
			if cliff {
				row[5] += " cliff"
			}
		}
		rows = append(rows, row)
	}
	if d.rule != perByte {
		for i := range rows {
			rows[i] = rows[i][:len(head)-1]
		}
	}
	return markdown.Table(rows)
}
