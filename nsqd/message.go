package nsqd

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A MessageID is 16 bytes, lower-case hex digits where this daemon made it.
type MessageID = protocol.MessageID

// A batch is messages that came together: those of one MPUB, of a run of PUBs, or one
// that was read from disk. It never changes, so that all channels and consumers share
// it. A message is nothing beside its bytes in a batch and four bytes that say where
// they are, and so a deep backlog is little but what was published.
type batch struct {
	// wire is the bytes they came in, see form. It is a string because it never
	// changes, and because a slice would take eight bytes more; see textOf.
	wire string

	// number is the reserved number of the first one's ID, see idSource; of a record,
	// which holds its ID, it is the ticket.
	number  uint64
	nanos   int64  // when they were published, nanoseconds since 1970
	delayMs uint32 // how long each channel is to defer them
	node    uint16 // of their IDs
	form    form

	// bounds is, in a sized batch, where in wire the first message begins and where
	// each one ends.
	bounds []uint32
}

// form is what the wire of a batch looks like.
type form uint8

const (
	sized    form = iota // for each message a 4-byte size and as many bytes, as in MPUB
	single               // the body of one message
	recorded             // one message as [protocol.AppendMessage] puts it, with ID and time
)

// sizePrefix is the length of the size before each body of a sized batch, maxWire the
// most bytes of one, so that bounds can tell.
const (
	sizePrefix = 4
	maxWire    = math.MaxUint32
)

// ticket is that of a record; see entry.stored.
func (b *batch) ticket() diskqueue.Ticket { return diskqueue.Ticket(b.number) }

// textOf returns b as a string without a copy. Nobody may change b while something
// refers to the string.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf returns s as bytes, which nobody may change, without a copy.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// An entry is messages in a row of one batch in the queue of one topic or one channel,
// with what that queue knows of them. Only in a queue, and among deferred messages,
// are there entries of more than one.
type entry struct {
	batch *batch
	row
	attempts uint16 // in a channel: deliveries so far; wraps around at 65,536
	stored   stored // where it has a record that goes with it; then it is one message
}

// A row is which messages of a batch an entry is. (It is a type of its own since the
// compiler keeps no struct of more than four fields in registers, and entries are
// passed on for each message.)
type row struct {
	index uint16 // of the first
	count uint16 // of messages
}

// maxDelay is the longest delay a batch can hold, about 49 days.
const maxDelay = math.MaxUint32 * time.Millisecond

// Len returns how many messages e is.
func (e *entry) Len() int { return int(e.count) }

// Cut removes and returns the first n messages, n of (0,Len).
func (e *entry) Cut(n int) entry {
	first := *e
	first.count = uint16(n)
	e.index += uint16(n)
	e.count -= uint16(n)
	return first
}

// singly appends the messages of e to into, each as an entry of its own.
func (e entry) singly(into []entry) []entry {
	n := int(e.count)
	into = slices.Grow(into, n)
	at := len(into)
	into = into[:at+n]
	e.count = 1
	for i := range into[at:] {
		into[at+i] = e
		e.index++
	}
	return into
}

// id is the ID of the first message.
func (e *entry) id() MessageID {
	if b := e.batch; b.form != recorded {
		return renderID(b.number+uint64(e.index), b.node)
	}
	return MessageID(bytesOf(e.batch.wire[recordedID:]))
}

// recordedID is where the ID stands in a record, behind time and attempts.
const recordedID = 8 + 2

// body is that of the first message.
func (e *entry) body() string {
	b := e.batch
	switch b.form {
	case sized:
		bounds := b.bounds[e.index:]
		return b.wire[bounds[0]+sizePrefix : bounds[1]]
	case single:
		return b.wire
	}
	return b.wire[protocol.MinMessageSize:]
}

// bodySize is the size of all bodies of e.
func (e *entry) bodySize() int {
	if e.batch.form != sized {
		return len(e.body())
	}
	bounds := e.batch.bounds[e.index:]
	return int(bounds[e.count]-bounds[0]) - sizePrefix*e.Len()
}

// isTwin reports whether other, one message of the same ID as e, is another message.
func (e *entry) isTwin(other entry) bool {
	return e.batch.nanos != other.batch.nanos || e.body() != other.body()
}

func (e *entry) delay() time.Duration { return time.Duration(e.batch.delayMs) * time.Millisecond }

// alone returns e, one message, with memory of its own: it may wait long, and must
// not keep what its neighbours came in alive.
func (e entry) alone() entry {
	own := *e.batch
	if own.form == recorded {
		own.wire = strings.Clone(own.wire)
	} else {
		own.number += uint64(e.index)
		own.wire, own.form, own.bounds = strings.Clone(e.body()), single, nil
	}
	e.batch, e.index = &own, 0
	return e
}

// record returns e, one message, as one that was read from disk.
func (e entry) record(t diskqueue.Ticket) entry {
	wire := protocol.AppendMessage(nil, e.batch.nanos, e.attempts, e.id(), bytesOf(e.body()))
	e.batch = &batch{wire: textOf(wire), form: recorded, nanos: e.batch.nanos, delayMs: e.batch.delayMs, number: uint64(t)}
	e.index, e.stored = 0, storedHere
	return e
}

// countOf returns how many messages entries are.
func countOf(entries []entry) (n int) {
	for i := range entries {
		n += entries[i].Len()
	}
	return n
}

// cut returns the first n messages of entries, and the others. It leaves entries as
// they are.
func cut(entries []entry, n int) (first, rest []entry) {
	for i := range entries {
		if n <= 0 {
			return entries[:i], entries[i:]
		}
		if l := entries[i].Len(); l <= n {
			n -= l
			continue
		}
		second := entries[i]
		part := second.Cut(n)
		return append(entries[:i:i], part), append([]entry{second}, entries[i+1:]...)
	}
	return entries, nil
}

// expand turns the first k entries of into, which have as many messages as into is
// long, into entries of one message each. A memory chan holds them in rows, and
// consumers take them one by one.
func expand(into []entry, k int) {
	if k == len(into) {
		return
	}
	rows := into[len(into)-k:]
	copy(rows, into[:k])
	done := into[:0]
	for i := range rows { // each has one message at least, so done never overtakes it
		done = rows[i].singly(done)
	}
}

// maxBatch is the most messages of one batch.
const maxBatch = math.MaxUint16

// newEntry turns one body, which the message keeps, into a message.
func newEntry(ids *idSource, body []byte, delayMs uint32) entry {
	b := &batch{wire: textOf(body), form: single, delayMs: delayMs}
	ids.stamp(b, 1)
	return entry{batch: b, row: row{count: 1}}
}

// appendEntries appends to into the messages of wire, in sized form, which they keep,
// as they keep bounds.
func appendEntries(into []entry, ids *idSource, wire []byte, bounds []uint32, delayMs uint32) []entry {
	for len(bounds) > 1 {
		n := min(len(bounds)-1, maxBatch)
		b := &batch{wire: textOf(wire), bounds: bounds[:n+1], delayMs: delayMs}
		ids.stamp(b, n)
		into = append(into, entry{batch: b, row: row{count: uint16(n)}})
		bounds = bounds[n:]
	}
	return into
}

// sizedForm returns bodies in sized form, in memory of its own.
func sizedForm(bodies [][]byte) (wire []byte, bounds []uint32) {
	size := 0
	for _, body := range bodies {
		size += sizePrefix + len(body)
	}
	wire, bounds = make([]byte, 0, size), make([]uint32, 1, len(bodies)+1)
	for _, body := range bodies {
		wire = binary.BigEndian.AppendUint32(wire, uint32(len(body)))
		wire = append(wire, body...)
		bounds = append(bounds, uint32(len(wire)))
	}
	return wire, bounds
}

// decodeEntry makes of a record, which [protocol.AppendMessage] has stored and the
// message keeps, a batch in b and its entry.
func decodeEntry(b *batch, record []byte) (entry, error) {
	m, err := protocol.DecodeMessage(record)
	if err != nil {
		return entry{}, err
	}
	*b = batch{wire: textOf(record), form: recorded, nanos: m.Nanos}
	return entry{batch: b, row: row{count: 1}, attempts: m.Attempts}, nil
}
