package nsqd

import (
	"errors"
	"sync"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A backend keeps the messages of one queue that do not fit in memory, as
// records, first in first out. All methods may be called concurrently.
type backend interface {
	// Put stores a batch: all of it, or none where it returns an error.
	Put(*diskqueue.Batch) error
	// Ready delivers when there may be something to Take; it holds one token
	// that Take passes on.
	Ready() <-chan struct{}
	// Take appends up to n records to dst; with n = 0 it just passes the token on.
	// The first has the ticket that is returned, the others the next ones.
	Take(dst [][]byte, n int) (_ [][]byte, first diskqueue.Ticket, err error)
	// Finish lets go of records that were taken: until then a kill brings them back.
	Finish(tickets ...diskqueue.Ticket)
	// Keep stores a batch as if it had been put and taken.
	Keep(*diskqueue.Batch) (first diskqueue.Ticket, err error)
	// Try stores that many bytes for a moment: its error is that of Put.
	Try(size int) error
	Depth() int64
	// Damage returns what was found damaged since the backend was opened.
	Damage() diskqueue.Damage
	Empty() error
	// Closing says that Close is next: what is put until then need not survive a
	// crash before Close has returned.
	Closing()
	Close() error
	Delete() error
}

// events are what a backend tells its queue. ready may call its Take, synced nothing
// of it.
type events struct {
	ready  func()      // it has left a token in Ready
	synced func(error) // how a sync in the background went; what failed is tried again
}

// A storage opens backends by queue name.
type storage interface {
	// open returns the backend of that name, with what it holds from before.
	open(name string, tell events) (backend, error)
	// stored reports whether there is something on disk under that name that
	// open has not been called for.
	stored(name string) bool
	// inTurn calls store, which stores what a queue has in memory when it is closed,
	// when not too many others do the same. It returns the error of store.
	inTurn(store func() error) error
	// loadDelays returns what saveDelays has stored under that name, or
	// [fs.ErrNotExist].
	loadDelays(name string) (delayFile, error)
	saveDelays(name string, f delayFile) error
	removeDelays(name string) error
}

// openDisk returns the backend, which it opens on first use. Of a deleted queue
// that has none it returns [errExiting]: a publisher that was on its way when the
// topic was deleted must not leave files for the next topic of that name to find.
func (q *queue) openDisk() (backend, error) {
	if d := q.disk.Load(); d != nil {
		return *d, nil
	}
	q.opening.Lock()
	defer q.opening.Unlock()
	if d := q.disk.Load(); d != nil {
		return *d, nil
	}
	if q.deleted.Load() {
		return nil, errExiting
	}
	d, err := q.storage.open(q.name, events{q.handDisk, func(err error) { q.health.synced(q, err) }})
	if err != nil {
		return nil, err
	}
	q.disk.Store(&d)
	if q.opened != nil {
		q.opened()
	}
	return d, nil
}

// spill writes entries to the backend, all or none, and lets go of the records
// they had before. Their delays are noted first: a reader may be faster than this
// returns.
func (q *queue) spill(entries []entry) error {
	batch := q.encode(entries)
	defer batches.Put(batch)
	var deferred []delay
	var former tickets
	for _, e := range entries {
		if q.postpone == nil && e.batch.delayMs > 0 {
			for _, one := range e.singly(nil) {
				deferred = append(deferred, delay{one.id(), int64(e.batch.delayMs)})
			}
		}
		former.add(e)
	}
	q.delays.add(deferred)
	if err := q.write(batch, entries[0].batch.nanos); err != nil {
		for _, d := range deferred {
			q.delays.take(d.id)
		}
		return err
	}
	q.finish(&former)
	return nil
}

var batches = sync.Pool{New: func() any { return new(diskqueue.Batch) }}

// encode returns entries as records, in a batch from batches.
func (q *queue) encode(entries []entry) *diskqueue.Batch {
	batch := batches.Get().(*diskqueue.Batch)
	batch.Reset()
	for _, e := range entries {
		for range e.count {
			batch.Append(func(dst []byte) []byte {
				return protocol.AppendMessage(dst, e.batch.nanos, e.attempts, e.id(), bytesOf(e.body()))
			})
			e.index++
		}
	}
	return batch
}

// write puts a batch, whose first message was published at nanos, into the
// backend.
func (q *queue) write(batch *diskqueue.Batch, nanos int64) error {
	d, err := q.openDisk()
	if err == nil {
		if d.Depth() == 0 {
			q.diskNanos.Store(nanos)
		}
		err = d.Put(batch)
	}
	return q.report(batch.Size(), err)
}

// report tells the daemon's health how a write of that many bytes went, and returns err, or
// [errExiting] when the queue is gone.
func (q *queue) report(size int, err error) error {
	switch {
	case err == nil:
		q.health.stored(q)
	case errors.Is(err, errExiting) || errors.Is(err, diskqueue.ErrClosed):
		return errExiting // a deletion came in between, which says nothing of the disk
	default:
		q.health.failed(q, size, err)
	}
	return err
}

// try finds out whether the queue, which could not store a batch of that size,
// could do so now. One that keeps messages in memory tries by storing them.
func (q *queue) try(size int) error {
	if q.excess.failing.Load() {
		return errStillFailing
	}
	d, err := q.openDisk()
	if err == nil {
		err = d.Try(size)
	}
	if errors.Is(err, errExiting) || errors.Is(err, diskqueue.ErrClosed) {
		return nil // it is gone
	}
	return err
}

// errStillFailing is returned by try for a queue that tries by itself.
var errStillFailing = errors.New("not stored yet")

// decodeSlab is how many messages that are read from disk share an allocation. One
// that is kept for long pins the others, whose bodies lie beside its own anyway.
const decodeSlab = 16

// takeDisk takes up to a fair share of what is on disk. A record that is no
// message is skipped: the backend has reported what it found damaged, so this is
// one that another program wrote. A deferred message that is not due is passed
// over, too. least is that of share.
func (q *queue) takeDisk(into []entry, records [][]byte, least int) int {
	d := q.disk.Load()
	if d == nil {
		return 0
	}
	records, first, err := (*d).Take(records[:0], q.share((*d).Depth(), least, len(into)))
	if err != nil {
		q.log.Error("read queue", "queue", q.name, "err", err)
	}
	n, nanos := 0, int64(0)
	var slab []batch
	for i, r := range records {
		ticket := first + diskqueue.Ticket(i)
		if len(slab) == 0 {
			slab = make([]batch, min(len(records)-i, decodeSlab))
		}
		e, err := decodeEntry(&slab[0], r)
		slab = slab[1:]
		if err != nil {
			q.log.Error("decode stored message", "queue", q.name, "err", err)
			(*d).Finish(ticket)
			continue
		}
		e.batch.number, e.stored = uint64(ticket), storedHere
		nanos = e.batch.nanos
		if q.resume(&e) {
			into[n] = e
			n++
		}
	}
	clear(records)
	if nanos != 0 {
		q.diskNanos.Store(nanos)
	}
	return n
}

// passDisk hands the baton of the backend on; the caller received it and cannot
// take after all.
func (q *queue) passDisk() {
	if d := q.disk.Load(); d != nil {
		if _, _, err := (*d).Take(nil, 0); err != nil {
			q.log.Error("read queue", "queue", q.name, "err", err)
		}
	}
}

// diskDepth is how many messages wait on disk.
func (q *queue) diskDepth() int64 {
	if d := q.disk.Load(); d != nil {
		return max((*d).Depth(), 0)
	}
	return 0
}

// damage is what was found damaged on disk since the daemon started.
func (q *queue) damage() diskqueue.Damage {
	if d := q.disk.Load(); d != nil {
		return (*d).Damage()
	}
	return diskqueue.Damage{}
}
