package main

import (
	"sync"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
)

// A book counts what one channel's consumer was given, by message body: the
// lines of a file repeat, so it is multisets that must agree.
type book struct {
	channel string

	mu       sync.Mutex // guards all below
	received int
	bodies   map[string]int // finished, by body
	finished []time.Time    // when, in order
	wake     chan struct{}  // closed and replaced at every finish
}

func newBook(channel string) *book {
	return &book{channel: channel, bodies: map[string]int{}, wake: make(chan struct{})}
}

// HandleMessage finishes each message and books it, as nsq.Handler.
func (b *book) HandleMessage(m *nsq.Message) error {
	m.Finish()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received++
	b.bodies[string(m.Body)]++
	b.finished = append(b.finished, time.Now())
	close(b.wake)
	b.wake = make(chan struct{})
	return nil
}

// hold books a delivery that nsqd will have to repeat.
func (b *book) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received++
}

// count returns how many messages are finished, and a Go channel that is
// closed when there is one more.
func (b *book) count() (n int, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.finished), b.wake
}

// rate returns messages per second for the finishes from number first up to
// before number end, the clock starting at start.
func (b *book) rate(start time.Time, first, end int) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if end > len(b.finished) || end <= first {
		return 0
	}
	return perSecond(end-first, b.finished[end-1].Sub(start))
}

// balance compares the book with the bodies published: missing were published
// and never finished, invented finished and never published, duplicates
// finished more often than published.
func (b *book) balance(published map[string]int) (missing, invented, duplicates int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for body, want := range published {
		missing += max(0, want-b.bodies[body])
	}
	for body, got := range b.bodies {
		if want := published[body]; want == 0 {
			invented += got
		} else {
			duplicates += max(0, got-want)
		}
	}
	return missing, invented, duplicates
}

func perSecond(n int, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return 0
	}
	return float64(n) / elapsed.Seconds()
}
