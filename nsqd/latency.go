package nsqd

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// A latencyWindow knows how long the messages of one channel took lately, from
// their publish to FIN: in the last window, or the last half of it at least. It
// has two sketches, each for half a window; the older one is dropped when the
// newer one's time is over. Source: nsqd HTTP API, "End-to-end processing
// latency".
type latencyWindow struct {
	clock clock
	half  int64 // of the window, nanoseconds

	mu      sync.Mutex // held for one run of FINs, or one look
	current *latencySketch
	older   *latencySketch
	ends    int64         // when current's half is over, on clock
	before  latencyTotals // of what came before current
}

// latencyTotals are all latencies since the start: how many were above
// latencyBounds[i-1] and at most latencyBounds[i], as near as a sketch tells, and
// their sum in seconds.
type latencyTotals struct {
	counts [latencyBuckets]uint64
	sum    float64
}

const latencyBuckets = 20

// latencyBounds are the upper bounds of latencyTotals in seconds, but for the last
// one, which has none.
var latencyBounds = [latencyBuckets - 1]float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600,
}

func newLatencyWindow(c clock, window time.Duration) *latencyWindow {
	half := max(int64(window/2), 1)
	return &latencyWindow{clock: c, half: half, current: new(latencySketch), older: new(latencySketch), ends: c.now() + half}
}

// record notes that messages published at the given times, nanoseconds since
// 1970, are finished.
func (w *latencyWindow) record(published []int64) {
	now := time.Now()
	wall := now.UnixNano()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turnLocked(int64(now.Sub(w.clock.start)))
	for _, at := range published {
		w.current.add(max(wall-at, 0)) // the clock may have been set back
	}
}

// turnLocked drops what is too old.
func (w *latencyWindow) turnLocked(now int64) {
	if now < w.ends {
		return
	}
	w.before.add(w.current)
	switch {
	case now < w.ends+w.half:
		w.current, w.older = w.older, w.current
		*w.current = latencySketch{}
		w.ends += w.half
	default:
		*w.current, *w.older = latencySketch{}, latencySketch{}
		w.ends = now + w.half
	}
}

// addTo adds what is in the window to s.
func (w *latencyWindow) addTo(s *latencySketch) {
	now := w.clock.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turnLocked(now)
	s.merge(w.current)
	s.merge(w.older)
}

// since returns all latencies since the start.
func (w *latencyWindow) since() latencyTotals {
	w.mu.Lock()
	defer w.mu.Unlock()
	totals := w.before
	totals.add(w.current)
	return totals
}

// add adds the latencies in s.
func (t *latencyTotals) add(s *latencySketch) {
	for p, page := range s.pages {
		if page == nil {
			continue
		}
		for i, n := range page {
			if n > 0 {
				bucket, _ := slices.BinarySearch(latencyBounds[:], float64(latencyOf(p, i))/1e9)
				t.counts[bucket] += n
			}
		}
	}
	t.sum += s.sum / 1e9
}

// A latencySketch counts latencies in nanoseconds, in buckets of which each is at
// most 1/64 of its lower bound wide; below 64 ns they are exact. So a quantile is
// off by less than 1 %, at any number of values, and sketches merge without loss.
//
// It is what is known as an HDR histogram, with memory for those powers of two
// only that occur: 512 bytes for each, where a fixed array for 1 µs to an hour
// at the same precision takes 27 KB, twice for every channel.
type latencySketch struct {
	count uint64
	most  int64
	sum   float64
	pages [64 - pageBits]*latencyPage // [0] is 0 to 63, [i] is 2^(i+5) to 2^(i+6)-1
}

const pageBits = 6

type latencyPage [1 << pageBits]uint64

// add counts one latency, from 0 on.
func (s *latencySketch) add(nanos int64) {
	page, i := latencyBucket(nanos)
	if s.pages[page] == nil {
		s.pages[page] = new(latencyPage)
	}
	s.pages[page][i]++
	s.count++
	s.sum += float64(nanos)
	s.most = max(s.most, nanos)
}

// latencyBucket is where to count nanos.
func latencyBucket(nanos int64) (page, i int) {
	page = max(bits.Len64(uint64(nanos))-pageBits, 0)
	if page == 0 {
		return 0, int(nanos)
	}
	return page, int(nanos>>(page-1)) - 1<<pageBits
}

// latencyOf is the middle of a bucket.
func latencyOf(page, i int) int64 {
	if page == 0 {
		return int64(i)
	}
	width := int64(1) << (page - 1)
	return int64(i+1<<pageBits)*width + (width-1)/2
}

func (s *latencySketch) merge(other *latencySketch) {
	for i, page := range other.pages {
		if page == nil {
			continue
		}
		if s.pages[i] == nil {
			s.pages[i] = new(latencyPage)
		}
		for j, n := range page {
			s.pages[i][j] += n
		}
	}
	s.count += other.count
	s.sum += other.sum
	s.most = max(s.most, other.most)
}

// quantile returns what a share of q, in (0,1], of all latencies is not above; 0
// without any. That of 1 is exact.
func (s *latencySketch) quantile(q float64) float64 {
	rank := uint64(math.Ceil(q * float64(s.count)))
	if rank >= s.count {
		return float64(s.most)
	}
	var below uint64
	for p, page := range s.pages {
		if page == nil {
			continue
		}
		for i, n := range page {
			if below += n; below >= rank && n > 0 {
				return float64(min(latencyOf(p, i), s.most))
			}
		}
	}
	return float64(s.most)
}

// latencies returns the quantiles of channels together.
func latencies(quantiles []float64, channels ...*Channel) latencyStats {
	s := sketches.Get().(*latencySketch)
	defer sketches.Put(s)
	s.reset()
	for _, c := range channels {
		c.latency.addTo(s)
	}
	l := latencyStats{Count: int(s.count), Percentiles: make([]percentile, len(quantiles))}
	for i, q := range quantiles {
		l.Percentiles[i] = percentile{q, s.quantile(q)}
	}
	return l
}

var sketches = sync.Pool{New: func() any { return new(latencySketch) }}

// reset drops all latencies and keeps the memory.
func (s *latencySketch) reset() {
	for _, page := range s.pages {
		if page != nil {
			clear(page[:])
		}
	}
	s.count, s.most, s.sum = 0, 0, 0
}
