package nsqd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The records of a disk queue have no room for a delay, and their format is
// shared with other programs. So a deferred message that goes to disk is an
// ordinary record there, and its delay is noted beside it, under its ID: in
// memory while the daemon runs (delays), and from a clean stop to the next start
// in a file of its own (delayFile), which other programs do not look at. When the
// record is read, its delay goes on. A delay whose record never comes, or a
// record whose delay is lost, costs nothing but that delay.

// A delay is one note. For a message in a topic, whose delay begins when it goes
// to the channels, value is its length in milliseconds. In a channel value is
// when the message is due: on the timekeeper's clock in memory, in nanoseconds
// since 1970 in a file.
type delay struct {
	id    MessageID
	value int64
}

// delays are those of messages that one queue has on disk; about 50 bytes each.
// The zero value is empty and ready.
type delays struct {
	length atomic.Int64 // written under mu; mostly 0, and then nobody needs the lock

	mu   sync.Mutex
	byID map[MessageID]int64
}

func (d *delays) add(list []delay) {
	if len(list) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byID == nil {
		d.byID = make(map[MessageID]int64, len(list))
	}
	for _, one := range list {
		d.byID[one.id] = one.value
	}
	d.length.Store(int64(len(d.byID)))
}

// take removes and returns the value noted for id.
func (d *delays) take(id MessageID) (value int64, ok bool) {
	if d.length.Load() == 0 {
		return 0, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	value, ok = d.byID[id]
	if ok {
		delete(d.byID, id)
		d.length.Store(int64(len(d.byID)))
	}
	if len(d.byID) == 0 {
		d.byID = nil
	}
	return value, ok
}

// drain removes and returns all notes.
func (d *delays) drain() []delay {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]delay, 0, len(d.byID))
	for id, value := range d.byID {
		list = append(list, delay{id, value})
	}
	d.byID = nil
	d.length.Store(0)
	return list
}

// A delayFile is what <queue>.deferred.dat holds, integers big-endian:
//
//	"NSQDLY1\n"
//	kind     1 byte, 'T' for a topic, 'C' for a channel
//	saved    8 bytes, when the file was written, nanoseconds since 1970
//	delays   24 bytes each: 16 message ID, 8 value
//	check    4 bytes, CRC-32C of all before
type delayFile struct {
	kind  byte
	saved int64
	list  []delay
}

const (
	delayMagic  = "NSQDLY1\n"
	delayHead   = len(delayMagic) + 1 + 8
	delaySize   = 16 + 8
	delayTail   = 4
	topicKind   = 'T'
	channelKind = 'C'
)

// errDelayFile is returned by parseDelays for anything that append does not
// write.
var errDelayFile = errors.New("malformed file of delays")

// append adds the file's bytes to dst.
func (f delayFile) append(dst []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, delayHead+len(f.list)*delaySize+delayTail)
	dst = append(append(dst, delayMagic...), f.kind)
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.saved))
	for _, one := range f.list {
		dst = append(dst, one.id[:]...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(one.value))
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseDelays reads what append writes.
func parseDelays(b []byte) (delayFile, error) {
	end := len(b) - delayTail
	if end < delayHead || (end-delayHead)%delaySize != 0 || string(b[:len(delayMagic)]) != delayMagic {
		return delayFile{}, fmt.Errorf("%w: %d bytes", errDelayFile, len(b))
	}
	if sum := crc32.Checksum(b[:end], castagnoli); binary.BigEndian.Uint32(b[end:]) != sum {
		return delayFile{}, fmt.Errorf("%w: wrong checksum", errDelayFile)
	}
	f := delayFile{kind: b[len(delayMagic)], saved: int64(binary.BigEndian.Uint64(b[delayHead-8:]))}
	if f.kind != topicKind && f.kind != channelKind || f.saved < 0 {
		return delayFile{}, fmt.Errorf("%w: kind %q, saved %d", errDelayFile, f.kind, f.saved)
	}
	f.list = make([]delay, 0, (end-delayHead)/delaySize)
	for at := delayHead; at < end; at += delaySize {
		f.list = append(f.list, delay{MessageID(b[at : at+16]), int64(binary.BigEndian.Uint64(b[at+16:]))})
	}
	return f, nil
}

// remaining is how long after now a message that is due at due has to wait, both
// in nanoseconds since 1970. A clock that was set back since the file was written
// does not make the wait longer than it was then.
func (f delayFile) remaining(due, now int64) int64 {
	if due <= now || due <= f.saved {
		return 0
	}
	left := due - f.saved
	if now > f.saved {
		left = due - now
	}
	return min(left, int64(maxDelay))
}

// kind is which values this queue's delays have.
func (q *queue) kind() byte {
	if q.postpone == nil {
		return topicKind
	}
	return channelKind
}

// restoreDelays takes over the delays that the last clean stop has noted. What is
// wrong with them costs the delays only.
func (q *queue) restoreDelays() {
	f, err := q.storage.loadDelays(q.name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	q.hasDelayFile = true
	if err == nil && f.kind != q.kind() {
		err = fmt.Errorf("%w: kind %q", errDelayFile, f.kind)
	}
	if err != nil {
		q.log.Warn("read delays of deferred messages, which will be delivered early", "queue", q.name, "err", err)
		return
	}
	if q.diskDepth() == 0 {
		return // nothing they could belong to
	}
	now, origin := time.Now().UnixNano(), q.clock.now()
	kept := f.list[:0]
	for _, one := range f.list {
		if f.kind == channelKind {
			if one.value = f.remaining(one.value, now); one.value > 0 {
				one.value += origin
			}
		}
		if one.value > 0 && (f.kind == channelKind || one.value <= math.MaxUint32) {
			kept = append(kept, one)
		}
	}
	q.delays.add(kept)
}

// saveDelays notes the delays for the next start: list, of messages that were
// stored just now, and those of older records that have not been read yet.
func (q *queue) saveDelays(list []delay) error {
	list = append(list, q.delays.drain()...)
	if len(list) == 0 {
		if q.hasDelayFile {
			return q.storage.removeDelays(q.name)
		}
		return nil
	}
	f := delayFile{kind: q.kind(), saved: time.Now().UnixNano(), list: list}
	if f.kind == channelKind {
		origin := f.saved - q.clock.now()
		for i := range list {
			list[i].value += origin
		}
	}
	return q.storage.saveDelays(q.name, f)
}

// resume gives an entry that was read from disk the delay that is noted for it.
// It reports whether the entry stays: one that is not due yet in its channel goes
// to the deferred messages instead.
func (q *queue) resume(e *entry) bool {
	value, ok := q.delays.take(e.id())
	if !ok || q.postpone != nil && value <= q.clock.now() {
		return true
	}
	*e = e.alone()
	if q.postpone == nil {
		e.batch.delayMs = uint32(value) // restoreDelays and spill admit no others
		return true
	}
	q.postpone(*e, value)
	return false
}
