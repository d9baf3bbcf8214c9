package nsqd

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/memqueue"
)

// errExiting refuses work for a topic or channel that is being closed or deleted.
// Its text is part of the protocol.
var errExiting = errors.New("exiting")

// A queue is what waits in one topic or one channel: in memory first, on disk
// when the memory chan is full. The backend comes into being with the first
// message that needs it.
type queue struct {
	name      string // of the backend
	ephemeral bool   // no backend: what does not fit is discarded
	limit     int    // --mem-queue-size
	memory    *memqueue.Queue[entry, *entry]
	storage   storage
	health    *health
	clock     clock
	log       *slog.Logger

	// Of a channel; nil in a topic.
	opened    func()                   // told when there is a backend to wait for
	recovered func()                   // told when the disk works again after it failed
	postpone  func(e entry, due int64) // defers a message that was read from disk
	giveBack  func([]diskqueue.Ticket) // lets go of what the topic has lent

	sleepers  sleepers      // consumers that wait for something to take
	discarded atomic.Uint64 // messages dropped: emptied, or too many for an ephemeral queue

	disk    atomic.Pointer[backend]
	opening sync.Mutex  // held while the backend is opened, so that it is opened once
	deleted atomic.Bool // written with opening held: it is not opened any more
	// diskNanos is about when the next record was published.
	diskNanos atomic.Int64

	excess       excess
	delays       delays
	hasDelayFile bool // set by restore, before others use the queue

	// free is how many messages beyond the limit consumers wait for; may be nil.
	free func() int
}

func newQueue(env *env, name string, ephemeral bool) *queue {
	q := &queue{
		name:      name,
		ephemeral: ephemeral,
		limit:     env.memQueueSize,
		memory:    memqueue.New[entry](env.memQueueSize),
		storage:   env.storage,
		health:    env.health,
		clock:     env.keeper.clock,
		log:       env.log,
	}
	q.memory.Notify(q.handMemory)
	return q
}

// restore opens the backend if something is stored from before.
func (q *queue) restore() error {
	if q.ephemeral || !q.storage.stored(q.name) {
		return nil
	}
	if _, err := q.openDisk(); err != nil {
		return err
	}
	q.restoreDelays()
	return nil
}

// room is how many messages memory takes now: up to the limit, and what consumers
// wait for beyond it.
func (q *queue) room() int {
	n := max(q.limit-q.memory.Len(), 0)
	if q.free != nil {
		n += q.free()
	}
	return n
}

// remember puts into memory as many messages as there is room for, and returns the
// others.
func (q *queue) remember(entries []entry) (rest []entry) {
	_, rest = cut(entries, q.memory.Put(entries))
	if len(rest) > 0 && q.free != nil {
		var wanted []entry
		wanted, rest = cut(rest, q.free())
		q.memory.PutBeyond(wanted)
	}
	return rest
}

// put queues all entries, in memory as far as they fit, or none where it returns
// an error. What does not fit is stored first, as only that can fail. It reports
// whether messages are kept in memory; if not, nobody refers to them any more.
func (q *queue) put(entries []entry) (kept bool, err error) {
	fits, rest := cut(entries, q.room())
	if len(rest) > 0 {
		if err := q.store(rest); err != nil {
			return false, err
		}
	}
	// There was room for these a moment ago; where others have been faster, they
	// find it beyond the limit.
	q.memory.PutBeyond(q.remember(fits))
	return len(fits) > 0 || q.ephemeral, nil
}

// keep queues entries that were accepted before and must not get lost: what
// cannot be stored stays in memory for now. It reports whether all is stored.
func (q *queue) keep(entries []entry) bool {
	defer q.dropLate()
	return q.keepRest(q.remember(entries))
}

// dropLate drops what has come into memory while the queue was deleted: somebody
// may wait for its records.
func (q *queue) dropLate() {
	if q.deleted.Load() {
		q.dropMemory()
	}
}

// keepRest is keep for what has found memory full.
func (q *queue) keepRest(entries []entry) bool {
	if len(entries) == 0 {
		return true
	}
	err := q.store(entries)
	if errors.Is(err, errExiting) {
		q.finishAll(entries) // they are deleted with the queue
		return true
	}
	if err != nil {
		q.holdBeyond(entries, err)
	}
	return err == nil
}

// store is what becomes of entries that find memory full.
func (q *queue) store(entries []entry) error {
	if q.ephemeral {
		q.overflow(entries)
		return nil
	}
	return q.spill(entries)
}

// overflow is what becomes of a message that finds an ephemeral queue full: it
// is discarded, unless the memory chan has no room at all by configuration and a
// consumer waits for it this instant.
func (q *queue) overflow(entries []entry) {
	if q.limit == 0 {
		var wanted []entry
		wanted, entries = cut(entries, max(int(q.sleepers.count.Load())-q.memory.Len(), 0))
		q.memory.PutBeyond(wanted)
	}
	q.discarded.Add(uint64(countOf(entries)))
}

// handMemory and handDisk hand a token that was left to a consumer.
func (q *queue) handMemory() {
	q.sleepers.hand(memoryToken, q.memory.Ready(), 0, ranks-1, q.memory.Wake)
}

func (q *queue) handDisk() {
	if d := q.disk.Load(); d != nil {
		q.sleepers.hand(diskToken, (*d).Ready(), 0, ranks-1, q.passDisk)
	}
}

// ready returns the Go channels that deliver when memory or disk may have
// something to take; disk is nil while there is no backend. It is also nil while
// the disk fails to take what memory has too much of: what is read from it, and
// times out, would make that more and more. When that has changed the consumers
// are woken (recovered).
func (q *queue) ready() (memory, disk <-chan struct{}) {
	if d := q.disk.Load(); d != nil && !(q.excess.failing.Load() && q.memory.Len() > q.limit) {
		disk = (*d).Ready()
	}
	return q.memory.Ready(), disk
}

// takeOldest takes from memory or disk, where the older messages are, as near as
// that can be told without reading: both are in order, mostly, and the next record
// on disk is hardly older than the last one that was read. It takes no more messages
// than into has room for, and returns how many entries they are.
func (q *queue) takeOldest(into []entry, records [][]byte) (entries int) {
	older := len(into)
	if q.diskDepth() > 0 {
		nanos := q.diskNanos.Load()
		older = q.memory.CountWhile(len(into), func(e *entry) bool { return e.batch.nanos <= nanos })
	}
	if entries, _ = q.memory.Take(into, older); entries > 0 {
		return entries
	}
	if entries = q.takeDisk(into, records, 1); entries > 0 {
		return entries
	}
	entries, _ = q.memory.Take(into, len(into))
	return entries
}

// takeMemory takes up to a fair share of what is in memory, each message as an entry
// of its own, and returns how many. least is that of share.
func (q *queue) takeMemory(into []entry, least int) int {
	entries, n := q.memory.Take(into, q.share(int64(q.memory.Len()), least, len(into)))
	expand(into[:n], entries)
	return n
}

// share is how many of depth entries a consumer may take at once, so that those
// who wait for the same queue get some as well. It is not below least, which is at
// least 1, nor above limit.
func (q *queue) share(depth int64, least, limit int) int {
	others := int64(max(q.sleepers.count.Load(), 0))
	if others == 0 {
		return limit
	}
	return min(max(int(depth/(others+1)), least), limit)
}

// depth is how many messages wait, in memory and on disk.
func (q *queue) depth() int64 {
	all, _ := q.depths()
	return all
}

// depths is how many messages wait, and how many of those on disk.
func (q *queue) depths() (all, disk int64) {
	disk = q.diskDepth()
	return int64(q.memory.Len()) + q.excess.moving.Load() + disk, disk
}

// empty drops all messages.
func (q *queue) empty() error {
	q.excess.moveMu.Lock() // nothing is between memory and disk
	defer q.excess.moveMu.Unlock()
	q.health.forget(q)
	q.delays.drain()
	q.discarded.Add(uint64(q.dropMemory()))
	if d := q.disk.Load(); d != nil {
		q.discarded.Add(uint64(max((*d).Depth(), 0)))
		return (*d).Empty()
	}
	return nil
}

// dropMemory drops what is in memory and returns how many messages that were.
func (q *queue) dropMemory() (n int) {
	left := q.memory.Len()
	buf := make([]entry, min(left, spillAtOnce))
	for n < left {
		entries, messages := q.memory.Take(buf, left-n)
		if messages == 0 {
			break // consumers were faster
		}
		q.finishAll(buf[:entries])
		n += messages
	}
	return n
}

// close stores what is in memory and then the entries of deferred, which are due
// at the times of dues, and closes the backend. Nobody may use the queue
// afterwards.
func (q *queue) close(deferred []entry, dues []int64) error {
	q.stopMoving()
	if q.ephemeral {
		q.memory.Clear()
		return nil
	}
	if q.diskDepth() == 0 {
		q.delays.drain() // all records have been read: these belonged to none
	}
	noted := make([]delay, 0, len(deferred))
	for i, e := range deferred {
		for _, one := range e.singly(nil) {
			noted = append(noted, delay{one.id(), dues[i]})
		}
	}
	q.memory.PutBeyond(deferred)
	err := q.storage.inTurn(q.closeMemory)
	if d := q.disk.Load(); d != nil {
		err = errors.Join(err, (*d).Close())
	}
	return errors.Join(err, q.saveDelays(noted))
}

// closeMemory stores what is in memory.
func (q *queue) closeMemory() error {
	if q.memory.Len() == 0 {
		return nil
	}
	d, err := q.openDisk()
	if err != nil {
		return fmt.Errorf("store %d messages of queue %q: %w", q.memory.Clear(), q.name, err)
	}
	d.Closing()
	buf := make([]entry, min(q.memory.Len(), spillAtOnce))
	for {
		entries, n := q.memory.Take(buf, spillAtOnce)
		if n == 0 {
			return nil
		}
		if err := q.spill(buf[:entries]); err != nil {
			return fmt.Errorf("store %d messages of queue %q: %w", n+q.memory.Clear(), q.name, err)
		}
	}
}

// delete drops all messages and removes the files.
func (q *queue) delete() error {
	q.opening.Lock()
	q.deleted.Store(true)
	q.opening.Unlock()
	q.stopMoving()
	q.dropMemory()
	var err error
	if d := q.disk.Load(); d != nil {
		err = (*d).Delete()
	}
	q.health.forget(q) // only now: nothing goes on in the background any more
	if q.hasDelayFile {
		err = errors.Join(err, q.storage.removeDelays(q.name))
	}
	return err
}

// queueLimit bounds --mem-queue-size to what an int holds.
func queueLimit(n int64) int { return int(min(n, math.MaxInt32)) }
