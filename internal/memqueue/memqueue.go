// Package memqueue is the memory chan of a topic or channel: a bounded
// first-in-first-out queue with the manners of a Go channel. Items go in and out
// in batches, without blocking, and [Queue.Ready] is a Go channel to select on.
//
// A plain Go channel would do the same, but draining one costs a lock per item
// and its slots are allocated for ever. Here a batch costs one lock, and memory
// grows with what is queued and is given back when it is taken.
package memqueue

import (
	"sync"
	"sync/atomic"
)

const (
	firstBlock = 16  // items of the first block of an empty queue
	maxBlock   = 256 // items of a block of a long queue
)

// A Queue holds up to a limit of items. All methods may be called concurrently.
// The zero Queue is not usable; call [New].
type Queue[T any] struct {
	limit  int
	ready  chan struct{} // one token; see Ready
	notify func()        // besides ready; may be nil

	length atomic.Int64 // items queued; written under mu

	mu    sync.Mutex // guards the blocks below
	head  *block[T]  // items are taken here, from position taken on
	tail  *block[T]  // and added here
	spare *block[T]  // an empty block of maxBlock items, kept for the next put
	taken int
}

// A block is a piece of the queue; items are appended up to its capacity.
type block[T any] struct {
	items []T
	next  *block[T]
}

// New returns an empty queue for at most limit items; with a limit of 0 nothing
// fits.
func New[T any](limit int) *Queue[T] {
	return &Queue[T]{limit: limit, ready: make(chan struct{}, 1)}
}

// Ready returns a Go channel that delivers when there may be something to take.
//
// It holds one token, which is a baton: whoever receives it must call Take, or
// Wake if it cannot take after all. Take hands the baton on while items remain,
// so that every waiting consumer gets its turn and none sleeps beside a queue
// with items. A token may also find the queue empty.
func (q *Queue[T]) Ready() <-chan struct{} { return q.ready }

// Notify makes q call f whenever it has put the token into Ready, for an owner that
// chooses whom to wake. f is called without a lock, and may be called by several
// goroutines at once. Notify must come before the first item.
func (q *Queue[T]) Notify(f func()) { q.notify = f }

// Len returns how many items are queued. It never blocks.
func (q *Queue[T]) Len() int { return int(q.length.Load()) }

// Put appends as many of items as fit and returns how many that were.
func (q *Queue[T]) Put(items []T) int {
	q.mu.Lock()
	n := min(len(items), max(q.limit-q.Len(), 0))
	q.appendLocked(items[:n])
	q.mu.Unlock()
	if n > 0 {
		q.signal()
	}
	return n
}

// PutBeyond appends all items, past the limit if need be: for items that were
// accepted before and have no other place.
func (q *Queue[T]) PutBeyond(items []T) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	q.appendLocked(items)
	q.mu.Unlock()
	q.signal()
}

// Take moves the oldest items into the front of into, as many as there are and
// fit, and returns how many that were.
func (q *Queue[T]) Take(into []T) int {
	q.mu.Lock()
	n := 0
	for n < len(into) && q.head != nil {
		from := q.head.items[q.taken:]
		m := copy(into[n:], from)
		clear(from[:m])
		n += m
		q.taken += m
		if q.taken < len(q.head.items) || !q.dropHeadLocked() {
			break
		}
	}
	left := q.length.Add(-int64(n))
	q.mu.Unlock()
	if left > 0 {
		q.signal()
	}
	return n
}

// TakeBeyond removes and returns, in order, what was put beyond the limit and is
// still beyond it: the newest items.
func (q *Queue[T]) TakeBeyond() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	excess := q.Len() - q.limit
	if excess <= 0 {
		return nil
	}
	items := make([]T, 0, excess)
	end := q.taken + q.limit // of what stays, counted from the begin of the first block
	var last *block[T]
	for b := q.head; b != nil; b = b.next {
		keep := min(end, len(b.items))
		end -= keep
		items = append(items, b.items[keep:]...)
		clear(b.items[keep:])
		b.items = b.items[:keep]
		if last == nil || keep > 0 {
			last = b
		}
	}
	last.next = nil
	q.tail = last
	q.length.Add(-int64(excess))
	return items
}

// CountWhile returns how many items, from the oldest on and at most limit, ok
// holds for. Others may take them meanwhile.
func (q *Queue[T]) CountWhile(limit int, ok func(T) bool) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.taken
	for b := q.head; b != nil; b = b.next {
		for _, item := range b.items[taken:] {
			if n == limit || !ok(item) {
				return n
			}
			n++
		}
		taken = 0
	}
	return n
}

// Wake passes the baton on: call it after receiving from Ready and not taking.
func (q *Queue[T]) Wake() {
	if q.Len() > 0 {
		q.signal()
	}
}

// Clear drops all items and returns how many there were.
func (q *Queue[T]) Clear() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.head, q.tail, q.spare, q.taken = nil, nil, nil, 0
	return int(q.length.Swap(0))
}

func (q *Queue[T]) signal() {
	select {
	case q.ready <- struct{}{}:
	default: // the token is there already
	}
	if q.notify != nil {
		q.notify()
	}
}

func (q *Queue[T]) appendLocked(items []T) {
	q.length.Add(int64(len(items)))
	for len(items) > 0 {
		if q.tail == nil || len(q.tail.items) == cap(q.tail.items) {
			q.growLocked()
		}
		t := q.tail
		n := min(len(items), cap(t.items)-len(t.items))
		t.items = append(t.items, items[:n]...)
		items = items[n:]
	}
}

// growLocked adds a block at the tail, twice the size of the last one.
func (q *Queue[T]) growLocked() {
	size := firstBlock
	if q.tail != nil {
		size = min(2*cap(q.tail.items), maxBlock)
	}
	b := q.spare
	if b == nil || size < maxBlock {
		b = &block[T]{items: make([]T, 0, size)}
	} else {
		q.spare = nil
	}
	if q.tail == nil {
		q.head = b
	} else {
		q.tail.next = b
	}
	q.tail = b
}

// dropHeadLocked leaves the used-up first block and reports whether there is
// another. The last block stays for the next put.
func (q *Queue[T]) dropHeadLocked() bool {
	b := q.head
	q.taken = 0
	b.items = b.items[:0]
	if b.next == nil {
		q.spare = nil // drained: one block is enough
		return false
	}
	q.head, b.next = b.next, nil
	if cap(b.items) == maxBlock {
		q.spare = b
	}
	return true
}
