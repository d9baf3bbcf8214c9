package metrics

import (
	dto "github.com/prometheus/client_model/go"
)

// Samples takes the samples of one scrape, in families of one name and kind. A
// family without samples is left out. Names follow the conventions of Prometheus:
// base units, and "_total" at the end of a counter. It is not for several
// goroutines at once.
type Samples struct {
	list []*Family // those used so far come first
	used int
}

// A Family is all samples of one name.
type Family struct {
	family dto.MetricFamily
	memory []*[chunk]sample // of the samples; those used so far come first
	used   int              // samples
}

// A sample has all the memory that one needs but that of its labels.
type sample struct {
	metric  dto.Metric
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

const chunk = 64 // samples that memory grows by

// Labels are the names and values of one sample's labels. Samples of several
// families may share them.
type Labels []*dto.LabelPair

// NewLabels makes labels of names and values in turn. Names must be in
// alphabetical order.
func NewLabels(namesAndValues ...string) Labels {
	pairs := make([]dto.LabelPair, len(namesAndValues)/2)
	labels := make(Labels, len(pairs))
	for i := range pairs {
		pairs[i].Name, pairs[i].Value = &namesAndValues[2*i], &namesAndValues[2*i+1]
		labels[i] = &pairs[i]
	}
	return labels
}

// Counter begins a family of values that only grow while the process lives, or
// start again at 0.
func (s *Samples) Counter(name, help string) *Family {
	return s.begin(name, help, dto.MetricType_COUNTER)
}

// Gauge begins a family of values that go up and down.
func (s *Samples) Gauge(name, help string) *Family {
	return s.begin(name, help, dto.MetricType_GAUGE)
}

// Histogram begins a family of histograms.
func (s *Samples) Histogram(name, help string) *Family {
	return s.begin(name, help, dto.MetricType_HISTOGRAM)
}

func (s *Samples) begin(name, help string, kind dto.MetricType) *Family {
	if s.used == len(s.list) {
		s.list = append(s.list, new(Family))
	}
	f := s.list[s.used]
	s.used++
	f.family.Name, f.family.Help, f.family.Type = &name, &help, &kind
	return f
}

// families are what has been begun and has samples.
func (s *Samples) families() []*dto.MetricFamily {
	list := make([]*dto.MetricFamily, 0, s.used)
	for _, f := range s.list[:s.used] {
		if f.used > 0 {
			list = append(list, &f.family)
		}
	}
	return list
}

// reset drops all samples and keeps their memory.
func (s *Samples) reset() {
	for _, f := range s.list[:s.used] {
		f.used = 0
		f.family.Metric = f.family.Metric[:0]
	}
	s.used = 0
}

// Add adds one sample to a family of counters or gauges. Labels are nil for none,
// and differ from those of every other sample of the family.
func (f *Family) Add(value float64, labels Labels) {
	m := f.next(labels)
	m.value = value
	if *f.family.Type == dto.MetricType_COUNTER {
		m.counter.Value, m.metric.Counter = &m.value, &m.counter
	} else {
		m.gauge.Value, m.metric.Gauge = &m.value, &m.gauge
	}
}

// AddBool adds 1 for true and 0 for false.
func (f *Family) AddBool(value bool, labels Labels) {
	if value {
		f.Add(1, labels)
	} else {
		f.Add(0, labels)
	}
}

// AddHistogram adds one sample to a family of histograms. counts[i] is how many
// values were above bounds[i-1] and at most bounds[i]; there is one more count
// than bounds. Sum is that of all values.
func (f *Family) AddHistogram(bounds []float64, counts []uint64, sum float64, labels Labels) {
	m := f.next(labels)
	cumulative := make([]uint64, len(counts))
	buckets := make([]dto.Bucket, len(bounds))
	list := make([]*dto.Bucket, len(bounds))
	var total uint64
	for i, n := range counts {
		total += n
		cumulative[i] = total
		if i < len(bounds) {
			buckets[i].UpperBound, buckets[i].CumulativeCount = &bounds[i], &cumulative[i]
			list[i] = &buckets[i]
		}
	}
	m.value = sum
	m.metric.Histogram = &dto.Histogram{SampleCount: &total, SampleSum: &m.value, Bucket: list}
}

// next returns the memory of the next sample.
func (f *Family) next(labels Labels) *sample {
	if f.used == len(f.memory)*chunk {
		f.memory = append(f.memory, new([chunk]sample))
	}
	m := &f.memory[f.used/chunk][f.used%chunk]
	f.used++
	m.metric.Counter, m.metric.Gauge, m.metric.Histogram = nil, nil, nil
	m.metric.Label = labels
	f.family.Metric = append(f.family.Metric, &m.metric)
	return m
}
