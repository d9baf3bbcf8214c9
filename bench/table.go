package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsq-suite/nsq/bench/internal/markdown"
	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// table returns the medians as tables of Markdown, one for the scenarios with the same
// figures.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.headline())
	if r.Ref != "" {
		fmt.Fprintf(&b, "nsqd is %s, ref is %s; × says how many times better nsqd is.\n", r.NSQD, r.Ref)
	}
	for _, group := range r.groups() {
		b.WriteString("\n" + tableOf(group))
	}
	return b.String()
}

// groups are the results by the kinds of their figures, in the order of the first of
// each.
func (r *report) groups() [][]*result {
	var groups [][]*result
	for _, of := range r.Scenarios {
		if len(of.Figures) == 0 {
			continue // all its runs have failed
		}
		i := slices.IndexFunc(groups, func(g []*result) bool { return slices.Equal(g[0].kinds(), of.kinds()) })
		if i < 0 {
			groups = append(groups, []*result{of})
		} else {
			groups[i] = append(groups[i], of)
		}
	}
	return groups
}

func (r *result) kinds() []scenario.Kind {
	var list []scenario.Kind
	for _, s := range r.Figures {
		list = append(list, s.Kind)
	}
	return list
}

// tableOf returns the table of scenarios that have the same kinds of figures.
func tableOf(group []*result) string {
	columns := [][]string{{"scenario"}}
	for _, r := range group {
		columns[0] = append(columns[0], r.Name)
	}
	for _, kind := range group[0].kinds() {
		columns = append(columns, kindColumns(group, kind)...)
	}
	rows := make([][]string, 1+len(group))
	for i := range rows {
		for _, column := range columns {
			rows[i] = append(rows[i], column[i])
		}
	}
	return markdown.Table(rows)
}

// kindColumns returns the columns of one kind of figures, headings included: the
// median, and what it is compared with where that was measured.
func kindColumns(group []*result, kind scenario.Kind) [][]string {
	columns := [][]string{{heading(kind)}, {"ref"}, {"×"}, {"of limit"}}
	for _, r := range group {
		s := r.series(kind)
		columns[0] = append(columns[0], number(s.samples[ours]))
		columns[1] = append(columns[1], number(s.samples[other]))
		columns[2] = append(columns[2], ratio(s.better(ours, other)))
		columns[3] = append(columns[3], ratio(s.better(ours, most)))
	}
	switch {
	case kind == scenario.Pace: // as fast as it was told to be, or not
		columns = columns[:1]
	case !hasLimit[kind]:
		columns = columns[:3]
	}
	return slices.DeleteFunc(columns, func(column []string) bool {
		return !slices.ContainsFunc(column[1:], func(cell string) bool { return cell != "" })
	})
}

// hasLimit are the kinds of figures of which it says something how near they are to
// the limit.
var hasLimit = map[scenario.Kind]bool{scenario.Rate: true, scenario.CPU: true}

// heading names a kind of figures with its unit, once where the unit says it all.
func heading(k scenario.Kind) string {
	if k.Name == "rate" {
		return k.Unit
	}
	return k.Name + ", " + k.Unit
}

func number(s sample) string {
	if len(s) == 0 {
		return ""
	}
	return scenario.Format(s.median())
}

func ratio(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x)
}
