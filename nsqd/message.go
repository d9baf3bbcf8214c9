package nsqd

import (
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A MessageID is 16 bytes, lower-case hex digits where this daemon made it.
type MessageID = protocol.MessageID

// A Message is what a producer published. It never changes, so that all channels
// and consumers share it and its body.
type Message struct {
	ID    MessageID
	Nanos int64 // when it was published, nanoseconds since 1970

	// Body is a string because it never changes, and because a slice would take eight
	// bytes more in each of millions of messages. It shares the memory in which the
	// message came; see textOf.
	Body string

	ticket diskqueue.Ticket // of the record it was read from; see entry.stored
}

// body returns Body as bytes, which nobody may change, without a copy.
func (m *Message) body() []byte { return unsafe.Slice(unsafe.StringData(m.Body), len(m.Body)) }

// textOf returns b as a string without a copy. Nobody may change b while something
// refers to the string.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// An entry is a message in the queue of one topic or one channel, with what that
// queue knows of it.
type entry struct {
	msg      *Message
	delayMs  uint32 // in a topic: how long each channel is to defer it
	attempts uint16 // in a channel: deliveries so far; wraps around at 65,536
	stored   stored // where it has a record that goes with the entry
}

// maxDelay is the longest delay an entry can hold, about 49 days.
const maxDelay = math.MaxUint32 * time.Millisecond

func (e entry) delay() time.Duration { return time.Duration(e.delayMs) * time.Millisecond }

// alone returns e with memory of its own: it may wait long, and must not keep
// what its neighbours came in alive.
func (e entry) alone() entry {
	own := *e.msg
	own.Body = strings.Clone(own.Body)
	e.msg = &own
	return e
}

// makeEntry turns one body, which the message keeps, into a message.
func makeEntry(ids *idSource, body []byte, delayMs uint32) entry {
	m := &Message{ID: ids.id(ids.reserve(1)), Nanos: time.Now().UnixNano(), Body: textOf(body)}
	return entry{msg: m, delayMs: delayMs}
}

// makeEntries turns the bodies of one run of commands into messages of one slab.
// With own set the bodies are copied, into a slab too: they lie in a buffer that
// is about to be reused. A message that will wait long must not keep its
// neighbours' memory alive, so deferred ones get memory of their own.
func makeEntries(ids *idSource, bodies [][]byte, delayMs uint32, own bool, into []entry) []entry {
	now := time.Now().UnixNano()
	first := ids.reserve(len(bodies))
	if delayMs > 0 {
		for i, b := range bodies {
			m := &Message{ID: ids.id(first + uint64(i)), Nanos: now, Body: string(b)}
			into = append(into, entry{msg: m, delayMs: delayMs})
		}
		return into
	}
	var slab []byte
	if own {
		total := 0
		for _, b := range bodies {
			total += len(b)
		}
		slab = make([]byte, 0, total)
	}
	messages := make([]Message, len(bodies))
	for i, b := range bodies {
		if own {
			at := len(slab)
			slab = append(slab, b...)
			b = slab[at:len(slab):len(slab)]
		}
		messages[i] = Message{ID: ids.id(first + uint64(i)), Nanos: now, Body: textOf(b)}
		into = append(into, entry{msg: &messages[i]})
	}
	return into
}

// decodeEntry reads into msg what [protocol.AppendMessage] stored; the message
// keeps record.
func decodeEntry(msg *Message, record []byte) (entry, error) {
	m, err := protocol.DecodeMessage(record)
	if err != nil {
		return entry{}, err
	}
	*msg = Message{ID: m.ID, Nanos: m.Nanos, Body: textOf(m.Body)}
	return entry{msg: msg, attempts: m.Attempts}, nil
}
