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
	"github.com/nsq-suite/nsq/internal/protocol"
)

// errExiting refuses work for a topic or channel that is being closed or deleted.
// Its text is part of the protocol.
var errExiting = errors.New("exiting")

// A backend keeps the messages of one queue that do not fit in memory, as
// records, first in first out. All methods may be called concurrently.
type backend interface {
	// Put stores a batch: all of it, or none where it returns an error.
	Put(*diskqueue.Batch) error
	// Ready delivers when there may be something to Take; it holds one token
	// that Take passes on.
	Ready() <-chan struct{}
	// Take appends up to n records to dst; with n = 0 it just passes the token on.
	Take(dst [][]byte, n int) ([][]byte, error)
	Depth() int64
	Empty() error
	Close() error
	Delete() error
}

// A storage opens backends by queue name.
type storage interface {
	// open returns the backend of that name, with what it holds from before.
	open(name string) (backend, error)
	// stored reports whether there is something on disk under that name that
	// open has not been called for.
	stored(name string) bool
}

// A queue is what waits in one topic or one channel: in memory first, on disk
// when the memory chan is full. The backend comes into being with the first
// message that needs it.
type queue struct {
	name      string // of the backend
	ephemeral bool   // no backend: what does not fit is discarded
	limit     int    // --mem-queue-size
	memory    *memqueue.Queue[entry]
	storage   storage
	health    *health
	log       *slog.Logger

	// waiting counts the consumers that sleep until there is something to take:
	// a burst leaves them their share.
	waiting   atomic.Int32
	discarded atomic.Uint64 // messages dropped: emptied, or too many for an ephemeral queue

	disk    atomic.Pointer[backend]
	opening sync.Mutex // held while the backend is opened, so that it is opened once
	deleted bool       // guarded by opening: it is not opened any more
	opened  func()     // told when there is a backend to wait for; may be nil
	free    func() int // how many entries beyond the limit consumers wait for; may be nil
}

func newQueue(env *env, name string, ephemeral bool) *queue {
	q := &queue{
		name:      name,
		ephemeral: ephemeral,
		limit:     env.memQueueSize,
		memory:    memqueue.New[entry](env.memQueueSize),
		storage:   env.storage,
		health:    env.health,
		log:       env.log,
	}
	return q
}

// restore opens the backend if something is stored from before.
func (q *queue) restore() error {
	if q.ephemeral || !q.storage.stored(q.name) {
		return nil
	}
	_, err := q.openDisk()
	return err
}

// put queues entries, in memory as far as they fit, and returns how many were
// taken; fewer than all come with an error.
func (q *queue) put(entries []entry) (int, error) {
	n := q.memory.Put(entries)
	if n < len(entries) && q.free != nil {
		more := min(q.free(), len(entries)-n)
		q.memory.PutBeyond(entries[n : n+more])
		n += more
	}
	if n == len(entries) {
		return n, nil
	}
	if q.ephemeral {
		q.overflow(entries[n:])
		return len(entries), nil
	}
	if err := q.spill(entries[n:]); err != nil {
		return n, err
	}
	return len(entries), nil
}

// keep queues entries that were accepted before and must not get lost: what
// cannot be stored stays in memory.
func (q *queue) keep(entries []entry) {
	n, err := q.put(entries)
	if errors.Is(err, errExiting) {
		return // they are deleted with the queue
	}
	if err != nil {
		q.log.Error(fmt.Sprintf("DISKQUEUE(%s): failed to write message to backend - %s", q.name, err), "kept_in_memory", len(entries)-n)
		q.memory.PutBeyond(entries[n:])
	}
}

// overflow is what becomes of a message that finds an ephemeral queue full: it
// is discarded, unless the memory chan has no room at all by configuration and a
// consumer waits for it this instant.
func (q *queue) overflow(entries []entry) {
	n := 0
	if q.limit == 0 {
		n = min(max(int(q.waiting.Load())-q.memory.Len(), 0), len(entries))
		q.memory.PutBeyond(entries[:n])
	}
	q.discarded.Add(uint64(len(entries) - n))
	q.health.set(nil)
}

// spill writes entries to the backend. The delay of a deferred message has no
// place there, so such ones stay in memory.
func (q *queue) spill(entries []entry) error {
	batch := batches.Get().(*diskqueue.Batch)
	defer batches.Put(batch)
	batch.Reset()
	var deferred []entry
	for _, e := range entries {
		if e.delayMs > 0 {
			deferred = append(deferred, e)
			continue
		}
		batch.Append(func(dst []byte) []byte {
			return protocol.AppendMessage(dst, e.msg.Nanos, e.attempts, e.msg.ID, e.msg.Body)
		})
	}
	if err := q.store(batch); err != nil {
		return err
	}
	q.memory.PutBeyond(deferred)
	return nil
}

var batches = sync.Pool{New: func() any { return new(diskqueue.Batch) }}

func (q *queue) store(batch *diskqueue.Batch) error {
	if batch.Len() == 0 {
		return nil
	}
	d, err := q.openDisk()
	if err == nil {
		err = d.Put(batch)
	}
	if errors.Is(err, errExiting) || errors.Is(err, diskqueue.ErrClosed) {
		return errExiting // a deletion came in between, which says nothing of the disk
	}
	q.health.set(err)
	return err
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
	if q.deleted {
		return nil, errExiting
	}
	d, err := q.storage.open(q.name)
	if err != nil {
		return nil, err
	}
	q.disk.Store(&d)
	if q.opened != nil {
		q.opened()
	}
	return d, nil
}

// ready returns the Go channels that deliver when memory or disk may have
// something to take; disk is nil while there is no backend.
func (q *queue) ready() (memory, disk <-chan struct{}) {
	if d := q.disk.Load(); d != nil {
		disk = (*d).Ready()
	}
	return q.memory.Ready(), disk
}

// takeMemory takes up to a fair share of what is in memory.
func (q *queue) takeMemory(into []entry) int {
	return q.memory.Take(into[:q.share(int64(q.memory.Len()), len(into))])
}

// takeDisk takes up to a fair share of what is on disk. A record that is no
// message is skipped: the backend has reported what it found damaged, so this is
// one that another program wrote.
func (q *queue) takeDisk(into []entry, records [][]byte) int {
	d := q.disk.Load()
	if d == nil {
		return 0
	}
	records, err := (*d).Take(records[:0], q.share((*d).Depth(), len(into)))
	if err != nil {
		q.log.Error("read queue", "queue", q.name, "err", err)
	}
	n := 0
	for _, r := range records {
		e, err := decodeEntry(r)
		if err != nil {
			q.log.Error("decode stored message", "queue", q.name, "err", err)
			continue
		}
		into[n] = e
		n++
	}
	clear(records)
	return n
}

// passDisk hands the baton of the backend on; the caller received it and cannot
// take after all.
func (q *queue) passDisk() {
	if d := q.disk.Load(); d != nil {
		if _, err := (*d).Take(nil, 0); err != nil {
			q.log.Error("read queue", "queue", q.name, "err", err)
		}
	}
}

// share is how many of depth entries a consumer may take at once, so that those
// who wait for the same queue get some as well; always from 1 to limit.
func (q *queue) share(depth int64, limit int) int {
	others := int64(max(q.waiting.Load(), 0))
	if others == 0 {
		return limit
	}
	return int(min(max(depth/(others+1), 1), int64(limit)))
}

// depth is how many messages wait, in memory and on disk.
func (q *queue) depth() int64 {
	all, _ := q.depths()
	return all
}

// depths is how many messages wait, and how many of those on disk.
func (q *queue) depths() (all, disk int64) {
	disk = q.diskDepth()
	return int64(q.memory.Len()) + disk, disk
}

// diskDepth is how many messages wait on disk.
func (q *queue) diskDepth() int64 {
	if d := q.disk.Load(); d != nil {
		return max((*d).Depth(), 0)
	}
	return 0
}

// empty drops all messages.
func (q *queue) empty() error {
	q.discarded.Add(uint64(q.memory.Clear()))
	if d := q.disk.Load(); d != nil {
		q.discarded.Add(uint64(max((*d).Depth(), 0)))
		return (*d).Empty()
	}
	return nil
}

// close stores what is in memory and closes the backend. It returns how many
// messages were stored. Nobody may use the queue afterwards.
func (q *queue) close() (stored int, err error) {
	if q.ephemeral {
		q.memory.Clear()
		return 0, nil
	}
	buf := make([]entry, 1024)
	for {
		n := q.memory.Take(buf)
		if n == 0 {
			break
		}
		for i := range buf[:n] {
			buf[i].delayMs = 0 // the format has no place for it
		}
		if e := q.spill(buf[:n]); e != nil {
			err = errors.Join(err, fmt.Errorf("store %d messages of queue %q: %w", n+q.memory.Clear(), q.name, e))
			break
		}
		stored += n
	}
	if d := q.disk.Load(); d != nil {
		err = errors.Join(err, (*d).Close())
	}
	return stored, err
}

// delete drops all messages and removes the files.
func (q *queue) delete() error {
	q.opening.Lock()
	q.deleted = true
	q.opening.Unlock()
	q.memory.Clear()
	if d := q.disk.Load(); d != nil {
		return (*d).Delete()
	}
	return nil
}

// health is whether messages can be stored: the error of the latest attempt, or
// nil. Source: nsqd HTTP API, /ping.
type health struct {
	mu  sync.Mutex
	err error // guarded by mu
	bad atomic.Bool
}

func (h *health) set(err error) {
	if err == nil && !h.bad.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	h.bad.Store(err != nil)
}

// String returns "OK", or "NOK - " and the error.
func (h *health) String() string {
	if err := h.Err(); err != nil {
		return "NOK - " + err.Error()
	}
	return "OK"
}

// Err returns the error of the latest attempt to store messages.
func (h *health) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// queueLimit bounds --mem-queue-size to what an int holds.
func queueLimit(n int64) int { return int(min(n, math.MaxInt32)) }
