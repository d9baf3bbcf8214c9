package hostpool

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var errFailed = errors.New("failed")

// take uses the pool n times; the hosts in down fail.
func take(p Pool, n int, down ...int) (hosts []int) {
	for range n {
		c := p.Get()
		hosts = append(hosts, c.Host)
		var err error
		if slices.Contains(down, c.Host) {
			err = errFailed
		}
		c.Done(err)
	}
	return hosts
}

func expect(t *testing.T, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("hosts %v, want %v", got, want)
	}
}

func TestRoundRobin(t *testing.T) {
	expect(t, take(NewRoundRobin(3), 5, 1), 1, 2, 0, 1, 2)
	expect(t, take(NewRoundRobin(1), 2), 0, 0)
}

// A dead host is tried again after 30 s, 60 s, 120 s ... 900 s, by one request each
// time.
func TestHostPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewHostPool(3)
		expect(t, take(p, 4), 0, 1, 2, 0)
		expect(t, take(p, 5, 1), 1, 2, 0, 2, 0)
		for _, pause := range []time.Duration{30, 60, 120, 240, 480, 900, 900} {
			time.Sleep(pause*time.Second - time.Nanosecond)
			if slices.Contains(take(p, 6, 1), 1) {
				t.Fatalf("tried again before %d s", pause)
			}
			time.Sleep(time.Nanosecond)
			var tried int
			for _, host := range take(p, 6, 1) {
				if host == 1 {
					tried++
				}
			}
			if tried != 1 {
				t.Fatalf("tried %d times after %d s", tried, pause)
			}
		}
		time.Sleep(900 * time.Second)
		take(p, 3) // a success
		expect(t, slices.Sorted(slices.Values(take(p, 3))), 0, 1, 2)
	})
}

func TestAllDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewHostPool(3)
		expect(t, take(p, 3, 0, 1, 2), 0, 1, 2)
		expect(t, take(p, 4), 0, 1, 2, 0)
		expect(t, take(NewHostPool(1), 3, 0), 0, 0, 0)
	})
}

// The fast hosts get more; those that cannot be measured take turns.
func TestEpsilonGreedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		p := newEpsilonGreedy(3, random.Float64)
		took := []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 200 * time.Microsecond}
		counts := make([]int, 3)
		for range 4000 {
			c := p.Get()
			time.Sleep(took[c.Host])
			c.Done(nil)
			counts[c.Host]++
		}
		// 1/10 to 1/40 is 4 to 1; the third counts as not measured and gets what
		// exploring gives it.
		if ratio := float64(counts[0]) / float64(counts[1]); ratio < 3 || ratio > 5 || counts[2] > 200 || counts[2] == 0 {
			t.Errorf("uses %v", counts)
		}
		if p.epsilon != minEpsilon {
			t.Errorf("epsilon %v", p.epsilon)
		}
		// What is dead is not chosen for its speed.
		c := p.choiceLocked(0)
		c.Done(errFailed)
		if slices.Contains(take(p, 1000, 0), 0) {
			t.Error("a dead host is chosen")
		}
	})
}

func TestFastHostsTakeTurns(t *testing.T) {
	p := newEpsilonGreedy(3, func() float64 { return 0.9 })
	expect(t, take(p, 6), 0, 1, 2, 0, 1, 2)
}

// Old measurements count less, and nothing after five minutes.
func TestHistory(t *testing.T) {
	var h history
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h.add(now, 100*time.Millisecond)
	if m := h.mean(now); m != 100 {
		t.Errorf("mean %v", m)
	}
	now = now.Add(150 * time.Second)
	h.add(now, 10*time.Millisecond)
	if m := h.mean(now); m < 30 || m > 50 {
		t.Errorf("mean %v", m)
	}
	now = now.Add(151 * time.Second)
	if m := h.mean(now); m != 10 {
		t.Errorf("mean %v", m)
	}
	if m := h.mean(now.Add(time.Hour)); m != 0 {
		t.Errorf("mean %v", m)
	}
}
