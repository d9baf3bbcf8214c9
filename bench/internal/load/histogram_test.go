package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Quantiles are those of the sorted durations, to one part in 128, whether they were
// counted in one histogram or in two.
func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 100, 10_000} {
		var list []time.Duration
		var one, two Histogram
		for i := range n {
			d := time.Duration(random.ExpFloat64() * float64(time.Millisecond) * float64(uint64(1)<<random.IntN(20)))
			if i%10 == 0 {
				d = time.Duration(i)
			}
			list = append(list, d)
			if i%2 == 0 {
				one.Add(d)
			} else {
				two.Add(d)
			}
		}
		one.Merge(&two)
		slices.Sort(list)
		if one.Count() != n || one.Max() != list[n-1] {
			t.Errorf("n=%d: count %d, max %v", n, one.Count(), one.Max())
		}
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
			want := list[min(int(q*float64(n)), n-1)]
			if got := one.Quantile(q); got < want-want/128-1 || got > want+want/128+1 {
				t.Errorf("n=%d: quantile %v is %v, want %v", n, q, got, want)
			}
		}
	}
	var none Histogram
	none.Add(-time.Second)
	if none.Count() != 1 || none.Quantile(0.5) != 0 {
		t.Errorf("a negative duration counts as %v", none.Quantile(0.5))
	}
	if got := new(Histogram).Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
}

func TestBuckets(t *testing.T) {
	for last, d := -1, time.Duration(0); d < 1<<16; d++ {
		b := bucket(d)
		if b != last && b != last+1 {
			t.Fatalf("%d ns in bucket %d after %d", d, b, last)
		}
		last = b
	}
	if b := bucket(1<<63 - 1); b >= len(Histogram{}.counts) {
		t.Errorf("no bucket %d", b)
	}
}
