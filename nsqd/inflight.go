package nsqd

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/deadline"
)

// inFlight holds the messages sent to one client and not yet answered. Only that
// client may answer them, so each client has its own table and consumers of one
// channel do not meet at a lock. It outlives its client until the last message
// has timed out.
type inFlight struct {
	keeper *timekeeper
	expire func(*inFlight, []entry) // takes over what has timed out
	alarm  alarm
	length atomic.Int64 // messages held; written under mu

	mu    sync.Mutex // owner check and removal are one section
	set   deadline.Set[idKey, flight]
	armed int64 // what alarm is set to, so that most starts need not set it; 0 for not set
}

// A flight is one delivery under way.
type flight struct {
	entry
	sent int64 // when it was delivered, on the timekeeper's clock
}

func newInFlight(k *timekeeper, expire func(*inFlight, []entry)) *inFlight {
	f := &inFlight{keeper: k, expire: expire, set: deadline.NewSet[idKey, flight](idKey.hash)}
	f.alarm.ring = f.timeouts
	return f
}

// An idKey is a MessageID as two words, which are compared in place; an array of bytes
// is compared by a call.
type idKey struct{ high, low uint64 }

func keyOf(id MessageID) idKey {
	return idKey{binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])}
}

// hash mixes an ID for the table. The IDs of one run differ in few bits, at the end;
// the factor spreads them.
func (k idKey) hash() uint64 {
	h := k.high*0xff51afd7ed558ccd + k.low
	h ^= h >> 32
	return h * 0x9e3779b97f4a7c15
}

// Len returns how many messages are in flight.
func (f *inFlight) Len() int64 { return f.length.Load() }

// start marks entries, with their ids, as delivered just now, and returns how many
// stay. An ID that is in flight to this client already stands for the same message
// twice in the queue, as happens after a crash: one delivery is enough, so the second
// is dropped from entries and ids, and its record added to dropped. Or it stands for
// another message, twin, which was published after a restart with the clock set back:
// the client could answer only one of them.
func (f *inFlight) start(entries []entry, ids []MessageID, timeout time.Duration, dropped *tickets) (kept int, twins []entry) {
	now := f.keeper.clock.now()
	due := now + int64(timeout)
	f.mu.Lock()
	for i, e := range entries {
		if f.set.Add(keyOf(ids[i]), due, flight{e, now}) {
			entries[kept], ids[kept] = e, ids[i]
			kept++
		} else if same, _ := f.set.Get(keyOf(ids[i])); same.isTwin(e) {
			twins = append(twins, e)
		} else {
			dropped.add(e)
		}
	}
	f.length.Store(int64(f.set.Len()))
	arm := f.armLocked(due)
	f.mu.Unlock()
	if arm {
		f.keeper.set(&f.alarm, due)
	}
	return kept, twins
}

// armLocked reports whether the alarm must be set for due, which the caller does
// once it has let go of the lock.
func (f *inFlight) armLocked(due int64) bool {
	if f.armed != 0 && f.armed <= due {
		return false
	}
	f.armed = due
	return true
}

// finish removes the given messages. It adds their records to finished and appends
// the IDs that are not in flight to missing, and, unless published is nil, when the
// others were published to that.
func (f *inFlight) finish(ids []MessageID, missing []MessageID, finished *tickets, published *[]int64) []MessageID {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		fl, ok := f.set.Remove(keyOf(id))
		if !ok {
			missing = append(missing, id)
			continue
		}
		if fl.stored != notStored {
			finished.add(fl.entry)
		}
		if published != nil {
			*published = append(*published, fl.batch.nanos)
		}
	}
	f.length.Store(int64(f.set.Len()))
	return missing
}

// remove takes one message out, for a requeue.
func (f *inFlight) remove(id MessageID) (entry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl, ok := f.set.Remove(keyOf(id))
	f.length.Store(int64(f.set.Len()))
	return fl.entry, ok
}

// touch gives a message another timeout from now on, at most limit after its
// delivery.
func (f *inFlight) touch(id MessageID, timeout, limit time.Duration) bool {
	f.mu.Lock()
	fl, ok := f.set.Get(keyOf(id))
	if !ok {
		f.mu.Unlock()
		return false
	}
	due := min(f.keeper.clock.now()+int64(timeout), fl.sent+int64(limit))
	f.set.Move(keyOf(id), due)
	arm := f.armLocked(due)
	f.mu.Unlock()
	if arm {
		f.keeper.set(&f.alarm, due)
	}
	return true
}

// has reports whether id is in flight to this client.
func (f *inFlight) has(id MessageID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.set.Get(keyOf(id))
	return ok
}

// timeouts hands over what is due. It runs on the timekeeper.
func (f *inFlight) timeouts(now int64) {
	var due []entry
	f.mu.Lock()
	for {
		fl, ok := f.set.PopDue(now)
		if !ok {
			break
		}
		due = append(due, fl.entry)
	}
	next, more := f.set.Next() // 0 for none
	f.armed = next
	f.length.Store(int64(f.set.Len()))
	f.mu.Unlock()
	if more {
		f.keeper.set(&f.alarm, next)
	}
	f.expire(f, due)
}

// drain removes and returns all messages.
func (f *inFlight) drain() []entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	entries := make([]entry, 0, f.set.Len())
	for fl := range f.set.All() {
		entries = append(entries, fl.entry)
	}
	f.set.Clear()
	f.length.Store(0)
	return entries
}

// deferred holds the messages of one channel that wait for their time.
type deferred struct {
	keeper *timekeeper
	due    func([]entry) // takes over what is due
	alarm  alarm
	length atomic.Int64 // messages held; written under mu

	mu   sync.Mutex
	heap deadline.Heap[entry] // entries of one or more messages
}

func newDeferred(k *timekeeper, due func([]entry)) *deferred {
	d := &deferred{keeper: k, due: due}
	d.alarm.ring = d.ripen
	return d
}

// Len returns how many messages are deferred.
func (d *deferred) Len() int64 { return d.length.Load() }

// add defers those of entries that have a delay, by that.
func (d *deferred) add(entries []entry) {
	now := d.keeper.clock.now()
	earliest := int64(math.MaxInt64)
	d.mu.Lock()
	for _, e := range entries {
		if e.batch.delayMs > 0 {
			due := now + int64(e.delay())
			d.heap.Add(due, e)
			d.length.Add(int64(e.Len()))
			earliest = min(earliest, due)
		}
	}
	d.endAddLocked(earliest)
}

// addDue defers one message to a time on the timekeeper's clock.
func (d *deferred) addDue(e entry, due int64) {
	d.mu.Lock()
	d.heap.Add(due, e)
	d.length.Add(int64(e.Len()))
	d.endAddLocked(due)
}

// endAddLocked lets go of the lock after messages, the first due at earliest,
// were added.
func (d *deferred) endAddLocked(earliest int64) {
	next, _ := d.heap.Next()
	d.mu.Unlock()
	if next == earliest {
		d.keeper.set(&d.alarm, earliest)
	}
}

// ripenAtOnce bounds, about, how many due messages are handed over at once, so that others' deadlines are not
// kept waiting.
const ripenAtOnce = 1024

// ripen hands over what is due. It runs on the timekeeper.
func (d *deferred) ripen(now int64) {
	var due []entry
	d.mu.Lock()
	for n := 0; n < ripenAtOnce; {
		e, ok := d.heap.PopDue(now)
		if !ok {
			break
		}
		due = append(due, e)
		n += e.Len()
	}
	next, more := d.heap.Next()
	d.length.Add(-int64(countOf(due)))
	d.mu.Unlock()
	if more {
		d.keeper.set(&d.alarm, next)
	}
	d.due(due)
}

// drain removes and returns all messages, with the time that each entry is due at.
func (d *deferred) drain() (entries []entry, dues []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries, dues = make([]entry, 0, d.heap.Len()), make([]int64, 0, d.heap.Len())
	for due, e := range d.heap.All() {
		entries, dues = append(entries, e), append(dues, due)
	}
	d.heap.Clear()
	d.length.Store(0)
	return entries, dues
}
