// Package hostpool chooses one of several hosts for each request, and avoids those
// that fail. Source: tools spec, section 6.4.
package hostpool

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A dead host is tried again after firstRetry, then after twice as long each time,
// up to maxRetry.
const (
	firstRetry = 30 * time.Second
	maxRetry   = 900 * time.Second
)

// A Pool chooses hosts. Its methods may overlap.
type Pool interface {
	// Get returns the number of a host, from 0.
	Get() Choice
}

// A Choice is one use of a host. Done is called once, when the use is over.
type Choice struct {
	Host int
	done func(err error)
}

// Done says how the use went.
func (c Choice) Done(err error) {
	if c.done != nil {
		c.done(err)
	}
}

// NewRoundRobin returns a Pool that takes n hosts in turn whether they fail or not.
// It starts with the second one: programs have come to expect that.
func NewRoundRobin(n int) Pool { return &roundRobin{n: uint64(n)} }

type roundRobin struct {
	n uint64

	mu   sync.Mutex // guards used
	used uint64
}

func (r *roundRobin) Get() Choice {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used++
	return Choice{Host: int(r.used % r.n)}
}

// NewHostPool returns a Pool that takes n hosts in turn, starting with the first
// one, and leaves out those that failed until it is time to try them again. If all
// are dead, all are taken for alive.
func NewHostPool(n int) Pool { return newHostPool(n) }

func newHostPool(n int) *hostPool { return &hostPool{hosts: make([]host, n)} }

type hostPool struct {
	mu    sync.Mutex // guards what follows
	hosts []host
	next  int // whose turn it is
}

type host struct {
	dead    bool
	retryAt time.Time     // of a dead host
	delay   time.Duration // from the last failure to retryAt
}

func (p *hostPool) Get() Choice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.choiceLocked(p.inTurnLocked())
}

func (p *hostPool) choiceLocked(i int) Choice {
	return Choice{Host: i, done: func(err error) { p.mark(i, err) }}
}

// inTurnLocked returns the next host that is alive, or due to be tried again.
func (p *hostPool) inTurnLocked() int {
	now := time.Now()
	for range p.hosts {
		i := p.next
		p.next = (p.next + 1) % len(p.hosts)
		h := &p.hosts[i]
		if !h.dead {
			return i
		}
		if !now.Before(h.retryAt) {
			// The others wait for the outcome: one request finds out as well as many.
			h.delay = min(2*h.delay, maxRetry)
			h.retryAt = now.Add(h.delay)
			return i
		}
	}
	clear(p.hosts)
	p.next = 1 % len(p.hosts)
	return 0
}

// mark notes how a use of a host went.
func (p *hostPool) mark(i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.hosts[i]
	switch {
	case err == nil:
		*h = host{}
	case !h.dead:
		*h = host{dead: true, delay: firstRetry, retryAt: time.Now().Add(firstRetry)}
	}
}

// NewEpsilonGreedy returns a Pool that prefers hosts that answer fast, and with a
// probability that falls from 0.3 to 0.01 takes one in turn to see how it is doing.
// Dead hosts are those of [NewHostPool].
func NewEpsilonGreedy(n int) Pool { return newEpsilonGreedy(n, rand.Float64) }

// Of the probability to explore, and of the window over which times are averaged.
const (
	firstEpsilon = 0.3
	epsilonDecay = 0.9
	minEpsilon   = 0.01
	window       = 5 * time.Minute
	buckets      = 120
)

func newEpsilonGreedy(n int, random func() float64) *epsilonGreedy {
	return &epsilonGreedy{
		hostPool: newHostPool(n),
		random:   random,
		epsilon:  firstEpsilon,
		times:    make([]history, n),
	}
}

type epsilonGreedy struct {
	*hostPool                // its mutex guards what follows, too
	random    func() float64 // in [0, 1)
	epsilon   float64
	times     []history
}

func (p *epsilonGreedy) Get() Choice {
	p.mu.Lock()
	defer p.mu.Unlock()
	var i int
	if p.random() < p.epsilon {
		p.epsilon = max(p.epsilon*epsilonDecay, minEpsilon)
		i = p.inTurnLocked()
	} else {
		i = p.fastLocked()
	}
	start := time.Now()
	return Choice{Host: i, done: func(err error) {
		p.mark(i, err)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.times[i].add(time.Now(), time.Since(start))
	}}
}

// fastLocked returns a host at random, each with a probability in proportion to
// its speed; without any measurement, the next one in turn.
func (p *epsilonGreedy) fastLocked() int {
	now := time.Now()
	speeds := make([]float64, len(p.hosts))
	sum := 0.0
	for i, h := range p.hosts {
		if h.dead {
			continue // it is tried again in its turn
		}
		if mean := p.times[i].mean(now); mean > 0 {
			speeds[i] = 1 / mean
			sum += speeds[i]
		}
	}
	if sum == 0 {
		return p.inTurnLocked()
	}
	at := p.random() * sum
	for i, speed := range speeds {
		if at -= speed; speed > 0 && at < 0 {
			return i
		}
	}
	return p.inTurnLocked() // rounding has left a crumb
}

// history is the response times of a host within the window, in buckets of equal
// length.
type history struct {
	bucket int64 // the present one: Unix time divided by the length of a bucket
	counts [buckets]int64
	millis [buckets]int64 // sums
}

// advance empties the buckets that have fallen out of the window.
func (h *history) advance(now time.Time) {
	bucket := now.UnixNano() / int64(window/buckets)
	for b := max(h.bucket+1, bucket-buckets+1); b <= bucket; b++ {
		h.counts[b%buckets], h.millis[b%buckets] = 0, 0
	}
	h.bucket = max(h.bucket, bucket)
}

func (h *history) add(now time.Time, took time.Duration) {
	h.advance(now)
	h.counts[h.bucket%buckets]++
	h.millis[h.bucket%buckets] += took.Milliseconds()
}

// mean returns the mean time in milliseconds, newer buckets weighing more; 0
// without any measurement, and for what is too fast to be measured.
func (h *history) mean(now time.Time) float64 {
	h.advance(now)
	var sum, weights float64
	for age := range int64(buckets) {
		i := (h.bucket - age) % buckets
		if h.bucket < age || h.counts[i] == 0 {
			continue
		}
		weight := float64(buckets-age) / buckets
		sum += weight * float64(h.millis[i]) / float64(h.counts[i])
		weights += weight
	}
	if weights == 0 || sum/weights < 1 {
		return 0
	}
	return sum / weights
}
