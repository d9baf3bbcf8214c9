// Package metricstest reads metrics in tests as Prometheus does.
package metricstest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Values are samples by their name with labels in alphabetical order, as in
// nsqd_topic_depth{topic="t"}. Of histograms there is _count and _sum, and
// _bucket with the label le at the end.
type Values map[string]float64

// Scrape asks for the text format and parses it with Prometheus' own parser. The
// test fails if that or its linter finds anything wrong.
func Scrape(t testing.TB, url string) Values {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4;") {
		t.Fatalf("GET %s: got %d, %v\n%s", url, resp.StatusCode, resp.Header, body)
	}
	return Parse(t, body)
}

// Parse is [Scrape] of a body that has been read.
func Parse(t testing.TB, body []byte) Values {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("parse metrics: %v\n%s", err, body)
	}
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatalf("lint metrics: %v\n%s", err, body)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	values := make(Values)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		for _, m := range families[name].Metric {
			values.add(t, name, m)
		}
	}
	return values
}

func (v Values) add(t testing.TB, name string, m *dto.Metric) {
	var labels []string
	for _, l := range m.Label {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	slices.Sort(labels)
	set := func(suffix string, value float64, more ...string) {
		key := name + suffix
		if all := append(slices.Clone(labels), more...); len(all) > 0 {
			key += "{" + strings.Join(all, ",") + "}"
		}
		if _, ok := v[key]; ok {
			t.Errorf("%s is there twice", key)
		}
		v[key] = value
	}
	switch {
	case m.Counter != nil:
		set("", m.Counter.GetValue())
	case m.Gauge != nil:
		set("", m.Gauge.GetValue())
	case m.Summary != nil:
		set("_count", float64(m.Summary.GetSampleCount()))
		set("_sum", m.Summary.GetSampleSum())
	case m.Histogram != nil:
		set("_count", float64(m.Histogram.GetSampleCount()))
		set("_sum", m.Histogram.GetSampleSum())
		for _, b := range m.Histogram.Bucket {
			set("_bucket", float64(b.GetCumulativeCount()), fmt.Sprintf("le=%q", fmt.Sprint(b.GetUpperBound())))
		}
	default:
		t.Errorf("%s has no type", name)
	}
}

// Check compares some of the values.
func (v Values) Check(t testing.TB, want Values) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got, ok := v[key]; !ok {
			t.Errorf("no %s", key)
		} else if got != want[key] {
			t.Errorf("%s is %v, want %v", key, got, want[key])
		}
	}
}
