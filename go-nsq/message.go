package nsq

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// MsgIDLength is the length of a message id in bytes.
const MsgIDLength = 16

// messageHeaderLength is what precedes the body of a message: 8 bytes
// timestamp, 2 bytes attempts, the id.
const messageHeaderLength = 8 + 2 + MsgIDLength

// defaultRequeueDelay asks Requeue for the configured delay times attempts.
const defaultRequeueDelay time.Duration = -1

// errShortMessage is returned by DecodeMessage; its text is part of the API.
var errShortMessage = errors.New("not enough data to decode valid message")

// MessageID is the id nsqd gave a message: 16 ASCII characters.
type MessageID [MsgIDLength]byte

// Message is a message received from nsqd. A handler that returns answers it;
// after DisableAutoResponse the handler's side answers it itself, exactly once
// and from any goroutine, with Finish, Requeue or RequeueWithoutBackoff.
type Message struct {
	ID        MessageID
	Body      []byte // owned by the message
	Timestamp int64  // when nsqd got the message; nanoseconds since 1970
	Attempts  uint16 // deliveries so far, this one included

	discarded bool // finished without being handled; set by the handler's goroutine before

	NSQDAddress string // of the connection the message came from

	Delegate MessageDelegate // takes the answer

	autoResponseDisabled int32 // atomic
	responded            int32 // atomic
}

// NewMessage returns a message with the current time, no attempts and no
// Delegate. It keeps body.
func NewMessage(id MessageID, body []byte) *Message {
	return &Message{ID: id, Body: body, Timestamp: time.Now().UnixNano()}
}

// DisableAutoResponse makes the handler responsible for answering the message.
// It is called inside HandleMessage.
func (m *Message) DisableAutoResponse() {
	atomic.StoreInt32(&m.autoResponseDisabled, 1)
}

// IsAutoResponseDisabled says whether DisableAutoResponse was called.
func (m *Message) IsAutoResponseDisabled() bool {
	return atomic.LoadInt32(&m.autoResponseDisabled) == 1
}

// HasResponded says whether the message was finished or requeued.
func (m *Message) HasResponded() bool {
	return atomic.LoadInt32(&m.responded) == 1
}

// Finish tells nsqd that the message is done. Only the first of Finish,
// Requeue and RequeueWithoutBackoff acts. Panics without a Delegate.
func (m *Message) Finish() {
	if m.answer() {
		m.Delegate.OnFinish(m)
	}
}

// Touch restarts nsqd's timeout of the message. It does nothing once the
// message is answered. Panics without a Delegate.
func (m *Message) Touch() {
	if m.HasResponded() {
		return
	}
	m.Delegate.OnTouch(m)
}

// Requeue gives the message back to nsqd, to be delivered again after delay
// (whole milliseconds; the rest is cut off), and counts as a failure in
// backoff. delay -1 means DefaultRequeueDelay times attempts, at most
// MaxRequeueDelay. Panics without a Delegate.
func (m *Message) Requeue(delay time.Duration) {
	m.doRequeue(delay, true)
}

// RequeueWithoutBackoff is Requeue without counting as a failure.
func (m *Message) RequeueWithoutBackoff(delay time.Duration) {
	m.doRequeue(delay, false)
}

func (m *Message) doRequeue(delay time.Duration, backoff bool) {
	if m.answer() {
		m.Delegate.OnRequeue(m, delay, backoff)
	}
}

// answer says whether this call is the one that answers the message.
func (m *Message) answer() bool {
	return atomic.CompareAndSwapInt32(&m.responded, 0, 1)
}

// WriteTo writes the message as nsqd sends it: 8 bytes timestamp and 2 bytes
// attempts, both big-endian; the id; the body.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	var head [messageHeaderLength]byte
	binary.BigEndian.PutUint64(head[:8], uint64(m.Timestamp))
	binary.BigEndian.PutUint16(head[8:10], m.Attempts)
	copy(head[10:], m.ID[:])

	n, err := w.Write(head[:])
	total := int64(n)
	if err != nil {
		return total, err
	}
	n, err = w.Write(m.Body)
	return total + int64(n), err
}

// DecodeMessage parses the data of a message frame, at least 26 bytes: what
// WriteTo writes. Body aliases b; it is empty, not nil, when nothing follows
// the id.
func DecodeMessage(b []byte) (*Message, error) {
	if len(b) < messageHeaderLength {
		return nil, errShortMessage
	}
	m := new(Message)
	m.decodeHeader(b)
	m.Body = b[messageHeaderLength:]
	return m, nil
}

// decodeHeader takes timestamp, attempts and id from the first 26 bytes of b.
func (m *Message) decodeHeader(b []byte) {
	m.Timestamp = int64(binary.BigEndian.Uint64(b[:8]))
	m.Attempts = binary.BigEndian.Uint16(b[8:10])
	m.ID = MessageID(b[10:messageHeaderLength])
}
