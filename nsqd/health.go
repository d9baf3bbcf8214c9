package nsqd

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// health is whether messages can be stored. Each queue that fails to store some
// makes it bad, and only what shows that this queue is well again makes it good:
// it has stored something, or a trial has shown that it could (run); it was emptied
// or deleted; or, having room in memory again, it need not store anything and
// another queue can. What was stored and does not reach the disk, by an fsync that
// fails in the background, makes it bad as well, until that has succeeded. Source:
// nsqd HTTP API, /ping.
type health struct {
	sick chan struct{} // one token: it has become bad
	bad  atomic.Bool   // some queue is failing; written under mu

	mu       sync.Mutex
	failures int // so far
	failing  map[trouble]failure
}

// A trouble is one of the two that a queue can have at a time.
type trouble struct {
	queue   *queue
	syncing bool // an fsync or the metadata, which the backend tries again itself
}

// A failure is how it went the last time.
type failure struct {
	number int
	size   int // in bytes, of what could not be stored
	err    error
}

func newHealth() *health {
	return &health{sick: make(chan struct{}, 1), failing: make(map[trouble]failure)}
}

// trialPause is between two trials of a queue that fails.
const trialPause = time.Second

// run tries, while some queue fails, whether it could store messages again: a
// load balancer that watches /ping sends no publisher who would find out.
func (h *health) run(ctx context.Context) error {
	for {
		select {
		case <-h.sick:
		case <-ctx.Done():
			return nil
		}
		for h.bad.Load() {
			select {
			case <-time.After(trialPause):
			case <-ctx.Done():
				return nil
			}
			h.tryAll()
		}
	}
}

func (h *health) tryAll() {
	h.mu.Lock()
	failing := maps.Clone(h.failing)
	h.mu.Unlock()
	for t, f := range failing {
		if !t.syncing && t.queue.try(f.size) == nil {
			h.canStore(t.queue)
		}
	}
}

// failed notes that q could not store messages of that many bytes.
func (h *health) failed(q *queue, size int, err error) {
	h.note(trouble{queue: q}, failure{size: size, err: err})
}

func (h *health) note(t trouble, f failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures++
	f.number = h.failures
	h.failing[t] = f
	h.bad.Store(true)
	select {
	case h.sick <- struct{}{}:
	default:
	}
}

// synced notes how a sync of q in the background went.
func (h *health) synced(q *queue, err error) {
	t := trouble{queue: q, syncing: true}
	if err != nil {
		h.note(t, failure{err: err})
		return
	}
	h.clear(func(other trouble) bool { return other == t })
}

// stored notes that q has stored messages.
func (h *health) stored(q *queue) {
	h.clear(func(t trouble) bool { return !t.syncing && (t.queue == q || t.queue.hasRoom()) })
}

// canStore notes that q could store messages, or need not.
func (h *health) canStore(q *queue) {
	h.clear(func(t trouble) bool { return t == trouble{queue: q} })
}

// forget notes that q has nothing any more.
func (h *health) forget(q *queue) {
	h.clear(func(t trouble) bool { return t.queue == q })
}

// clear ends the troubles for which over says so.
func (h *health) clear(over func(trouble) bool) {
	if !h.bad.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.failing, func(t trouble, _ failure) bool { return over(t) })
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
