package main

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"slices"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// What the chart measures, in pixels.
const (
	chartWidth  = 900.0
	margin      = 24.0
	labelWidth  = 130.0 // of the names of scenarios, to the left of the bars
	valueWidth  = 150.0 // of the values, to the right
	barHeight   = 11.0
	barGap      = 2.0
	rowGap      = 9.0
	titleHeight = 34.0
	axisHeight  = 34.0
)

// What the subjects look like and are called.
var looks = []struct {
	subject subject
	color   string
	name    string
}{
	{ours, "#2f6db5", "nsqd"},
	{other, "#e0893b", "ref"},
	{most, "#b9c1cb", "limit of the machine"},
}

// chart returns the report as a picture in SVG: bars for the medians, with a line from
// the least to the greatest of all rounds.
func (r *report) chart() ([]byte, error) {
	var d drawing
	d.text(margin, 34, "start", "#111", 18, "bold", "nsqd under load")
	d.text(margin, 54, "start", "#555", 11, "", r.headline())
	x := margin
	for _, look := range looks {
		if look.subject == other && r.Ref == "" {
			continue
		}
		d.rect(x, 68, 12, barHeight, look.color)
		d.text(x+18, 78, "start", "#333", 12, "", look.name)
		x += 40 + 7*float64(len(look.name))
	}
	y := 92.0
	for _, p := range r.panels() {
		y = p.draw(&d, y)
	}
	return d.encode(y + margin/2)
}

// A panel is one chart of several: figures in the same unit.
type panel struct {
	title string
	rows  []row
}

// A row is a figure with a name.
type row struct {
	name string
	*series
}

// panels are the charts for which there are figures.
func (r *report) panels() []panel {
	rates := panel{title: "messages per second (more is better)"}
	costs := panel{title: "CPU time of nsqd per message, µs (less is better)"}
	delays := panel{title: "from PUB to the consumer, ms (less is better)"}
	for _, of := range r.Scenarios {
		for _, s := range of.Figures {
			switch s.Kind {
			case scenario.Rate:
				rates.rows = append(rates.rows, row{of.Name, s})
			case scenario.CPU:
				costs.rows = append(costs.rows, row{of.Name, s})
			case scenario.P50, scenario.P99, scenario.P999:
				delays.rows = append(delays.rows, row{of.Name + " " + s.Name, s})
			}
		}
	}
	return slices.DeleteFunc([]panel{rates, costs, delays}, func(p panel) bool { return len(p.rows) == 0 })
}

// draw draws the panel below y, and returns where it ends.
func (p panel) draw(d *drawing, y float64) float64 {
	a := p.axis()
	title := p.title
	if a.log {
		title += ", logarithmic scale"
	}
	y += titleHeight
	d.text(margin, y-12, "start", "#111", 13, "bold", title)
	top, left := y, margin+labelWidth
	lines := len(d.elements)
	for _, row := range p.rows {
		y += rowGap
		first := y
		for _, look := range looks {
			s := row.samples[look.subject]
			if len(s) == 0 {
				continue
			}
			d.rect(left, y, a.at(s.median()), barHeight, look.color)
			low, high, middle := left+a.at(slices.Min(s)), left+a.at(slices.Max(s)), y+barHeight/2
			if len(s) > 1 {
				d.line(low, middle, high, middle, "#222", 1)
				d.line(low, middle-3, low, middle+3, "#222", 1)
				d.line(high, middle-3, high, middle+3, "#222", 1)
			}
			d.text(high+6, y+barHeight-1.5, "start", "#333", 10.5, "", row.value(look.subject))
			y += barHeight + barGap
		}
		d.text(left-8, (first+y-barGap)/2+4, "end", "#111", 12, "", row.name)
	}
	y += rowGap
	var grid drawing // behind the bars
	for _, tick := range a.ticks() {
		grid.line(left+a.at(tick), top, left+a.at(tick), y, "#dde1e6", 1)
		grid.text(left+a.at(tick), y+14, "middle", "#666", 10.5, "", tickText(tick))
	}
	d.elements = slices.Insert(d.elements, lines, grid.elements...)
	return y + axisHeight
}

// value tells a median, and beside nsqd's how it compares.
func (r row) value(on subject) string {
	text := scenario.Format(r.samples[on].median())
	if on != ours {
		return text
	}
	for _, than := range []struct {
		subject subject
		form    string
	}{{other, "× %.2f"}, {most, "%.2f of limit"}} {
		if x := r.better(ours, than.subject); x > 0 {
			text += ", " + fmt.Sprintf(than.form, x)
		}
	}
	return text
}

// An axis maps values to pixels from the left.
type axis struct {
	log      bool
	from, to float64
}

// axis spans the values of the panel: from 0, or on a logarithmic scale where they
// differ so much that the small ones would not be seen.
func (p panel) axis() axis {
	var all sample
	for _, row := range p.rows {
		for _, s := range row.samples {
			all = append(all, s...)
		}
	}
	least, greatest := slices.Min(all), slices.Max(all)
	if least <= 0 || greatest < 20*least {
		return axis{to: cmp.Or(greatest, 1)}
	}
	a := axis{log: true, from: math.Pow(10, math.Floor(math.Log10(least/1.5))), to: greatest}
	for _, times := range []float64{5, 2} {
		if a.from*times <= least/1.5 {
			a.from *= times
			break
		}
	}
	return a
}

// at returns how far to the right v is.
func (a axis) at(v float64) float64 {
	const width = chartWidth - 2*margin - labelWidth - valueWidth
	if a.log {
		return width * math.Log(v/a.from) / math.Log(a.to/a.from)
	}
	return width * v / a.to
}

// ticks are the values to be marked: powers of ten, or some four to ten round ones.
func (a axis) ticks() []float64 {
	var list []float64
	if a.log {
		for v := math.Pow(10, math.Ceil(math.Log10(a.from))); v <= a.to; v *= 10 {
			list = append(list, v)
		}
		return list
	}
	step := math.Pow(10, math.Floor(math.Log10(a.to)))
	if a.to/step < 4 {
		step /= 4
	}
	for i := 0; float64(i)*step <= a.to; i++ {
		list = append(list, float64(i)*step)
	}
	return list
}

// tickText tells a round value.
func tickText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", round(v/1e6))
	case v >= 1e3:
		return fmt.Sprintf("%g k", round(v/1e3))
	}
	return fmt.Sprintf("%g", round(v))
}

// round takes away what computing with fractions has left.
func round(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// A drawing is what an SVG file has in it, from back to front.
type drawing struct{ elements []any }

type svgRect struct {
	XMLName xml.Name `xml:"rect"`
	X       float64  `xml:"x,attr"`
	Y       float64  `xml:"y,attr"`
	Width   float64  `xml:"width,attr"`
	Height  float64  `xml:"height,attr"`
	Fill    string   `xml:"fill,attr"`
}

type svgLine struct {
	XMLName xml.Name `xml:"line"`
	X1      float64  `xml:"x1,attr"`
	Y1      float64  `xml:"y1,attr"`
	X2      float64  `xml:"x2,attr"`
	Y2      float64  `xml:"y2,attr"`
	Stroke  string   `xml:"stroke,attr"`
	Width   float64  `xml:"stroke-width,attr"`
}

type svgText struct {
	XMLName xml.Name `xml:"text"`
	X       float64  `xml:"x,attr"`
	Y       float64  `xml:"y,attr"`
	Anchor  string   `xml:"text-anchor,attr"`
	Fill    string   `xml:"fill,attr"`
	Size    float64  `xml:"font-size,attr"`
	Weight  string   `xml:"font-weight,attr,omitempty"`
	Text    string   `xml:",chardata"`
}

func (d *drawing) rect(x, y, width, height float64, fill string) {
	d.elements = append(d.elements, svgRect{X: pixel(x), Y: pixel(y), Width: pixel(width), Height: height, Fill: fill})
}

func (d *drawing) line(x1, y1, x2, y2 float64, stroke string, width float64) {
	d.elements = append(d.elements, svgLine{X1: pixel(x1), Y1: pixel(y1), X2: pixel(x2), Y2: pixel(y2), Stroke: stroke, Width: width})
}

// text writes with its start, middle or end at x, on the baseline y.
func (d *drawing) text(x, y float64, anchor, fill string, size float64, weight, text string) {
	d.elements = append(d.elements, svgText{X: pixel(x), Y: pixel(y), Anchor: anchor, Fill: fill, Size: size, Weight: weight, Text: text})
}

func pixel(v float64) float64 { return math.Round(v*10) / 10 }

// encode returns the file, of the chart's width and this height.
func (d *drawing) encode(height float64) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	encoder := xml.NewEncoder(&b)
	encoder.Indent("", " ")
	err := encoder.Encode(struct {
		XMLName    xml.Name `xml:"svg"`
		Namespace  string   `xml:"xmlns,attr"`
		Width      float64  `xml:"width,attr"`
		Height     float64  `xml:"height,attr"`
		Font       string   `xml:"font-family,attr"`
		Background svgRect
		Elements   []any
	}{
		Namespace: "http://www.w3.org/2000/svg", Width: chartWidth, Height: math.Ceil(height),
		Font:       "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
		Background: svgRect{Width: chartWidth, Height: math.Ceil(height), Fill: "#fff"},
		Elements:   d.elements,
	})
	b.WriteByte('\n')
	return b.Bytes(), err
}
