package protocol

import (
	"encoding/binary"
	"errors"
)

const (
	// MessageIDLength is the length of a message ID in bytes.
	MessageIDLength = 16

	// MinMessageSize is the length of a message with an empty body: 8 bytes
	// timestamp, 2 bytes attempts and the ID.
	MinMessageSize = 8 + 2 + MessageIDLength
)

// MessageID identifies a message within one nsqd. nsqd makes lower-case hex
// digits; everybody else treats the bytes as opaque.
type MessageID [MessageIDLength]byte

// String returns the 16 bytes as text.
func (id MessageID) String() string { return string(id[:]) }

// ErrShortMessage is returned by [DecodeMessage] for data that cannot hold a
// message.
var ErrShortMessage = errors.New("not enough data to decode valid message")

// A Message is the decoded form of the data of a message frame, which is also
// the payload of a record in a disk queue.
type Message struct {
	Nanos    int64  // when nsqd took the message, nanoseconds since 1970
	Attempts uint16 // deliveries so far; in a frame this one included
	ID       MessageID
	Body     []byte
}

// AppendMessage appends the wire form of a message to dst and returns it:
// 8 bytes timestamp (nanoseconds since 1970), 2 bytes attempts (this delivery
// included), 16 bytes ID, then the body. Source: TCP protocol spec, "Message
// layout".
func AppendMessage(dst []byte, nanos int64, attempts uint16, id MessageID, body []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(nanos))
	dst = binary.BigEndian.AppendUint16(dst, attempts)
	dst = append(dst, id[:]...)
	return append(dst, body...)
}

// DecodeMessage is the reverse of [AppendMessage]. The Body aliases b. It
// returns [ErrShortMessage] if b is shorter than [MinMessageSize].
func DecodeMessage(b []byte) (Message, error) {
	if len(b) < MinMessageSize {
		return Message{}, ErrShortMessage
	}
	return Message{
		Nanos:    int64(binary.BigEndian.Uint64(b)),
		Attempts: binary.BigEndian.Uint16(b[8:]),
		ID:       MessageID(b[10:MinMessageSize]),
		Body:     b[MinMessageSize:],
	}, nil
}
