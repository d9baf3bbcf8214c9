// Package memqueue is the memory chan of a topic or channel: a bounded
// first-in-first-out queue with the manners of a Go channel. Messages go in and out
// in batches, without blocking, and [Queue.Ready] is a Go channel to select on.
//
// A plain Go channel would do the same, but draining one costs a lock per message
// and its slots are allocated for ever. Here a batch costs one lock, and memory
// grows with what is queued and is given back when it is taken.
//
// An item of the queue is a run of messages that came together, so that a long
// queue needs no memory of its own for each message; limits and lengths are in
// messages.
package memqueue

import (
	"math"
	"sync"
	"sync/atomic"
)

const (
	firstBlock = 4   // items of the first block of an empty queue
	maxBlock   = 256 // items of a block of a long queue
)

// A Run is a pointer to an item: one or more messages in a row.
type Run[T any] interface {
	*T
	// Len returns how many messages it is, at least 1.
	Len() int
	// Cut removes and returns the first n messages; n is of (0,Len).
	Cut(n int) T
}

// A Queue holds up to a limit of messages, in runs. All methods may be called
// concurrently. The zero Queue is not usable; call [New].
type Queue[T any, P Run[T]] struct {
	limit  int
	ready  chan struct{} // one token; see Ready
	notify func()        // besides ready; may be nil

	length atomic.Int64 // messages queued; written under mu

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

// New returns an empty queue for at most limit messages; with a limit of 0 nothing
// fits.
func New[T any, P Run[T]](limit int) *Queue[T, P] {
	return &Queue[T, P]{limit: limit, ready: make(chan struct{}, 1)}
}

// Ready returns a Go channel that delivers when there may be something to take.
//
// It holds one token, which is a baton: whoever receives it must call Take, or
// Wake if it cannot take after all. Take hands the baton on while messages remain,
// so that every waiting consumer gets its turn and none sleeps beside a queue
// with messages. A token may also find the queue empty.
func (q *Queue[T, P]) Ready() <-chan struct{} { return q.ready }

// Notify makes q call f whenever it has put the token into Ready, for an owner that
// chooses whom to wake. f is called without a lock, and may be called by several
// goroutines at once. Notify must come before the first message.
func (q *Queue[T, P]) Notify(f func()) { q.notify = f }

// Len returns how many messages are queued. It never blocks.
func (q *Queue[T, P]) Len() int { return int(q.length.Load()) }

// Put appends as many messages of items as fit and returns how many that were.
func (q *Queue[T, P]) Put(items []T) int {
	q.mu.Lock()
	n := q.appendLocked(items, q.limit-q.Len())
	q.mu.Unlock()
	if n > 0 {
		q.signal()
	}
	return n
}

// PutBeyond appends all items, past the limit if need be: for messages that were
// accepted before and have no other place.
func (q *Queue[T, P]) PutBeyond(items []T) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	q.appendLocked(items, math.MaxInt)
	q.mu.Unlock()
	q.signal()
}

// Take moves up to most of the oldest messages into the front of into, as many as
// there are and fit. It returns how many items of into that took, and how many
// messages they are.
func (q *Queue[T, P]) Take(into []T, most int) (items, messages int) {
	q.mu.Lock()
	for items < len(into) && messages < most && q.anyLocked() {
		from := q.head.items[q.taken:]
		whole, n := fit[T, P](from[:min(len(from), len(into)-items)], most-messages)
		copy(into[items:], from[:whole])
		clear(from[:whole])
		items, messages, q.taken = items+whole, messages+n, q.taken+whole
		if messages < most && whole < len(from) && items < len(into) {
			into[items] = P(&from[whole]).Cut(most - messages)
			items, messages = items+1, most
		}
	}
	q.anyLocked() // leaves a used-up block
	left := q.length.Add(-int64(messages))
	q.mu.Unlock()
	if left > 0 {
		q.signal()
	}
	return items, messages
}

// TakeBeyond removes and returns, in order, what was put beyond the limit and is
// still beyond it: the newest messages, and how many they are.
func (q *Queue[T, P]) TakeBeyond() (items []T, messages int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	messages = q.Len() - q.limit
	if messages <= 0 {
		return nil, 0
	}
	stay := q.limit // messages that do, of those not looked at
	from := q.taken
	var last *block[T]
	for b := q.head; b != nil; b = b.next {
		keep := from // items of b
		for ; keep < len(b.items) && stay > 0; keep++ {
			item := P(&b.items[keep])
			n := item.Len()
			if n > stay {
				stays := item.Cut(stay)
				items = append(items, *item)
				*item, n = stays, stay
			}
			stay -= n
		}
		items = append(items, b.items[keep:]...)
		clear(b.items[keep:])
		b.items = b.items[:keep]
		if last == nil || keep > 0 {
			last = b
		}
		from = 0
	}
	last.next = nil
	q.tail = last
	q.length.Add(-int64(messages))
	return items, messages
}

// CountWhile returns how many messages, from the oldest on and at most limit, are
// in items that ok holds for. Others may take them meanwhile.
func (q *Queue[T, P]) CountWhile(limit int, ok func(P) bool) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.taken
	for b := q.head; b != nil; b = b.next {
		for i := taken; i < len(b.items); i++ {
			if n >= limit || !ok(P(&b.items[i])) {
				return min(n, limit)
			}
			n += P(&b.items[i]).Len()
		}
		taken = 0
	}
	return min(n, limit)
}

// Wake passes the baton on: call it after receiving from Ready and not taking.
func (q *Queue[T, P]) Wake() {
	if q.Len() > 0 {
		q.signal()
	}
}

// Clear drops all messages and returns how many there were.
func (q *Queue[T, P]) Clear() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.head, q.tail, q.spare, q.taken = nil, nil, nil, 0
	return int(q.length.Swap(0))
}

func (q *Queue[T, P]) signal() {
	select {
	case q.ready <- struct{}{}:
	default: // the token is there already
	}
	if q.notify != nil {
		q.notify()
	}
}

// fit returns how many whole items, from the first on, have at most that many
// messages, and how many they have.
func fit[T any, P Run[T]](items []T, most int) (whole, messages int) {
	for whole < len(items) {
		n := P(&items[whole]).Len()
		if n > most-messages {
			break
		}
		messages += n
		whole++
	}
	return whole, messages
}

// appendLocked appends up to most messages of items and returns how many.
func (q *Queue[T, P]) appendLocked(items []T, most int) int {
	whole, n := fit[T, P](items, most)
	q.linkLocked(items[:whole])
	if whole < len(items) && n < most {
		last := items[whole]
		first := P(&last).Cut(most - n)
		q.linkLocked([]T{first})
		n = most
	}
	q.length.Add(int64(n))
	return n
}

// linkLocked appends items.
func (q *Queue[T, P]) linkLocked(items []T) {
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
func (q *Queue[T, P]) growLocked() {
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

// anyLocked leaves a used-up first block and reports whether something is queued.
// The last block stays for the next put.
func (q *Queue[T, P]) anyLocked() bool {
	b := q.head
	if b == nil || q.taken < len(b.items) {
		return b != nil
	}
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
