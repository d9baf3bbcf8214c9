package tool

import (
	"fmt"
	"log"
	"math"
	"slices"
	"sync"
	"time"
)

// Timings prints statistics of every so many requests. A nil *Timings prints none.
type Timings struct {
	every  int
	prefix string
	log    *log.Logger

	mu    sync.Mutex // guards times
	times []time.Duration
}

// NewTimings returns statistics of every requests, 0 or less for none; its lines
// begin with prefix and a colon.
func NewTimings(every int, prefix string, log *log.Logger) *Timings {
	if every <= 0 {
		return nil
	}
	if every < 100 {
		log.Printf("Warning: use more than 100 status values for accurate percentiles (configured with %d)", every)
	}
	return &Timings{every: every, prefix: prefix, log: log}
}

// Add counts one request. Each time there are enough, the next one prints a line.
func (t *Timings) Add(took time.Duration) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.times) == t.every {
		t.log.Print(t.prefix + ": " + statistics(t.times))
		t.times = t.times[:0]
	}
	t.times = append(t.times, took)
}

// statistics describes times, which it sorts.
func statistics(times []time.Duration) string {
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return fmt.Sprintf("finished %d - 99th: %.02fms - 95th: %.02fms - avg: %.02fms", len(times),
		millis(percentile(times, 99)), millis(percentile(times, 95)), millis(sum)/float64(len(times)))
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile returns the element at ceil(p/100 * n + 0.5), counted from 0, or the
// last one.
func percentile(sorted []time.Duration, p float64) time.Duration {
	i := int(math.Ceil(p/100*float64(len(sorted)) + 0.5))
	return sorted[min(i, len(sorted)-1)]
}
