package nsqd

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// excess is how a channel's queue keeps messages that it must not lose and cannot
// store yet: in memory, beyond its limit, where consumers find them as any other,
// with a goroutine that moves them to disk. It lives only as long as there is an
// excess. Those who may not wait for a disk (the timekeeper) leave all that finds
// memory full to it; others what the disk did not take.
//
// What comes in this way was in memory before, in flight or deferred, except for
// what a topic hands over; a topic stops doing so while the excess is large.
type excess struct {
	moving  atomic.Int64 // messages on their way from memory to disk
	failing atomic.Bool  // the disk did not take the excess

	// moveMu is held while messages are in neither place, which includes the
	// write: emptying waits for it.
	moveMu sync.Mutex

	mu      sync.Mutex
	running bool // mover is
	stopped bool // it does not run any more
	mover   sync.WaitGroup
	stop    chan struct{} // of mover, closed when stopped; nil before the first
}

const (
	firstRetry = 50 * time.Millisecond // after a failed write
	lastRetry  = time.Second           // the longest pause: it doubles each time
)

// hold queues entries that were accepted before. It waits for no disk.
func (q *queue) hold(entries []entry) {
	defer q.dropLate()
	rest := q.remember(entries)
	switch {
	case len(rest) == 0:
	case q.ephemeral:
		q.overflow(rest)
	default:
		q.holdBeyond(rest, nil)
	}
}

// holdBeyond keeps entries in memory beyond the limit until the disk takes them.
// cause is why it did not just now, or nil.
func (q *queue) holdBeyond(entries []entry, cause error) {
	q.excess.mu.Lock()
	if q.excess.stopped {
		q.excess.mu.Unlock()
		q.finishAll(entries)
		return // deleted
	}
	q.memory.PutBeyond(entries)
	failed := cause != nil && !q.excess.failing.Swap(true)
	if !q.excess.running {
		q.excess.running = true
		if q.excess.stop == nil {
			q.excess.stop = make(chan struct{})
		}
		q.excess.mover.Go(q.moveExcess)
	}
	q.excess.mu.Unlock()
	if failed {
		q.logFailure(cause)
	}
}

func (q *queue) logFailure(cause error) {
	q.log.Error(fmt.Sprintf("DISKQUEUE(%s): failed to write message to backend - %s", q.name, cause), "kept_in_memory", q.memory.Len())
}

// moveExcess is the goroutine: it ends when memory is within its limit.
func (q *queue) moveExcess() {
	pause := firstRetry
	for {
		err := q.moveOnce()
		if err == nil {
			if q.endMoving() {
				return
			}
			pause = firstRetry
			continue
		}
		if !q.excess.failing.Swap(true) {
			q.logFailure(err)
		}
		select {
		case <-q.excess.stop:
			return
		case <-time.After(pause):
			pause = min(2*pause, lastRetry)
		}
	}
}

// endMoving reports whether the goroutine may end. Whoever adds to memory from
// then on starts another.
func (q *queue) endMoving() bool {
	q.excess.mu.Lock()
	if q.memory.Len() > q.limit && !q.excess.stopped {
		q.excess.mu.Unlock()
		return false
	}
	q.excess.running = false
	recovered := q.excess.failing.Swap(false)
	q.excess.mu.Unlock()
	if recovered {
		q.log.Info("messages that were kept in memory are stored or delivered", "queue", q.name)
		q.recovered()
	}
	return true
}

// spillAtOnce is how many messages of an excess are written at a time.
const spillAtOnce = 1024

// moveOnce moves what is beyond the limit to disk; what that does not take goes
// back.
func (q *queue) moveOnce() error {
	q.excess.moveMu.Lock()
	defer q.excess.moveMu.Unlock()
	left, n := q.memory.TakeBeyond()
	q.excess.moving.Add(int64(n))
	for len(left) > 0 {
		entries, rest := cut(left, spillAtOnce)
		err := q.spill(entries)
		if err != nil && !errors.Is(err, errExiting) {
			q.memory.PutBeyond(left)
			q.excess.moving.Add(-int64(countOf(left)))
			return err
		}
		if err != nil {
			q.finishAll(entries) // deleted
		}
		q.excess.moving.Add(-int64(countOf(entries)))
		left = rest
	}
	return nil
}

// stopMoving ends the goroutine. What it has not moved is in memory.
func (q *queue) stopMoving() {
	q.excess.mu.Lock()
	if !q.excess.stopped && q.excess.stop != nil {
		close(q.excess.stop)
	}
	q.excess.stopped = true
	q.excess.mu.Unlock()
	q.excess.mover.Wait()
}

// overfull reports whether the queue, whose disk fails, has as much beyond its
// limit as it may be given: once more its limit, or one batch where that is more.
func (q *queue) overfull() bool {
	return q.excess.failing.Load() && q.memory.Len()-q.limit >= max(q.limit, pumpBatch)
}

// hasRoom reports whether the next message needs no disk.
func (q *queue) hasRoom() bool { return !q.excess.failing.Load() && q.memory.Len() < q.limit }
