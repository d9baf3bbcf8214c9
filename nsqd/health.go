package nsqd

import (
	"sync"
	"sync/atomic"
)

// health is whether messages can be stored. Each queue that fails to store some
// makes it bad, and only what shows that this queue is well again makes it good:
// it has stored something, was emptied or deleted, or, having room in memory
// again, need not store anything and another queue can. Source: nsqd HTTP API,
// /ping.
type health struct {
	bad atomic.Bool // some queue is failing; written under mu

	mu       sync.Mutex
	failures int // so far
	failing  map[*queue]failure
}

// A failure is why a queue could not store messages the last time.
type failure struct {
	number int
	err    error
}

// failed notes that q could not store messages.
func (h *health) failed(q *queue, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing == nil {
		h.failing = make(map[*queue]failure)
	}
	h.failures++
	h.failing[q] = failure{h.failures, err}
	h.bad.Store(true)
}

// stored notes that q has stored messages.
func (h *health) stored(q *queue) {
	if !h.bad.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, q)
	for other := range h.failing {
		if other.hasRoom() {
			delete(h.failing, other)
		}
	}
	h.bad.Store(len(h.failing) > 0)
}

// forget notes that q has nothing to store any more.
func (h *health) forget(q *queue) {
	if !h.bad.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, q)
	h.bad.Store(len(h.failing) > 0)
}

// counts returns how many queues are failing, and how often one has failed.
func (h *health) counts() (failing, failures int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.failing), h.failures
}

// String returns "OK", or "NOK - " and the error.
func (h *health) String() string {
	if err := h.Err(); err != nil {
		return "NOK - " + err.Error()
	}
	return "OK"
}

// Err returns the latest error of the queues that fail, or nil.
func (h *health) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var latest failure
	for _, f := range h.failing {
		if f.number > latest.number {
			latest = f
		}
	}
	return latest.err
}
