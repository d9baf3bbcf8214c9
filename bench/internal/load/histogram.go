package load

import (
	"math/bits"
	"time"
)

// A Histogram counts durations by size. It knows each to one part in 128, and keeps
// 60 KiB however many there are. The zero Histogram is empty. One goroutine uses it
// at a time; each consumer has its own, which [Histogram.Merge] puts together.
type Histogram struct {
	counts [64 * subBuckets]uint64
	total  uint64
	max    time.Duration
}

// subBuckets is how many buckets there are from one power of two to the next.
const (
	subBits    = 7
	subBuckets = 1 << subBits
)

// bucket returns where d is counted. Below subBuckets a bucket is one nanosecond
// wide, and then twice as wide after every power of two.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	shift := max(bits.Len64(n)-1-subBits, 0)
	return shift<<subBits + int(n>>shift)
}

// middle returns the duration in the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	first := uint64(subBuckets+bucket%subBuckets) << shift
	return time.Duration(first + (1<<shift)/2)
}

// Add counts d; a negative one as 0.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

// Merge adds what other has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Count returns how many durations were counted.
func (h *Histogram) Count() int { return int(h.total) }

// Max returns the longest, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q of all, from 0 to 1, does not exceed:
// 0.5 is the median. It is 0 for an empty Histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(h.total)), uint64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > rank {
			return min(middle(i), h.max)
		}
	}
	return h.max
}
