package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// FrameType says what the data of a frame from nsqd is.
type FrameType int32

// The frame types of protocol V2; there are no others.
const (
	FrameResponse FrameType = 0 // answer to a command, or a heartbeat
	FrameError    FrameType = 1 // error code and description, see [Error]
	FrameMessage  FrameType = 2 // a message, see [AppendMessage]
)

// FrameOverhead is how many bytes a frame takes on the wire besides its data.
const FrameOverhead = 8

// AppendFrame appends a frame: 4 bytes size (of what follows), 4 bytes type, the
// data. Source: TCP protocol spec, "Frames".
func AppendFrame(dst []byte, t FrameType, data []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(data)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(t))
	return append(dst, data...)
}

// AppendMessageFrame appends a frame that holds a message, see [AppendMessage].
func AppendMessageFrame(dst []byte, nanos int64, attempts uint16, id MessageID, body []byte) []byte {
	dst = AppendMessageFrameHead(dst, nanos, attempts, id, len(body))
	return append(dst, body...)
}

// AppendMessageFrameHead appends all of a message frame but its body, which the
// caller writes next: so a large body need not be copied.
func AppendMessageFrameHead(dst []byte, nanos int64, attempts uint16, id MessageID, bodyLen int) []byte {
	const n = FrameOverhead + MinMessageSize
	dst = slices.Grow(dst, n)
	head := dst[len(dst) : len(dst)+n]
	binary.BigEndian.PutUint32(head, uint32(4+MinMessageSize+bodyLen))
	binary.BigEndian.PutUint32(head[4:], uint32(FrameMessage))
	binary.BigEndian.PutUint64(head[8:], uint64(nanos))
	binary.BigEndian.PutUint16(head[16:], attempts)
	copy(head[18:], id[:])
	return dst[:len(dst)+n]
}

// AppendSized appends a 4-byte length and data: the form of command bodies and
// of nsqlookupd's replies.
func AppendSized(dst, data []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)))
	return append(dst, data...)
}

// What [ReadSized] says of a length that it refuses.
var (
	ErrNegativeSize = errors.New("negative size")
	ErrSizeTooBig   = errors.New("size exceeds the limit")
)

// readAhead is how much [ReadBody] allocates before anything has arrived.
const readAhead = 64 << 10

// ReadSized reads a 4-byte length and as many bytes: the reverse of
// [AppendSized]. A length that is negative or, where limit > 0, above limit is
// refused before anything is allocated ([ErrNegativeSize], [ErrSizeTooBig]).
// A stream that ends early gives [io.ErrUnexpectedEOF], or [io.EOF] where not
// even the first byte of the length came.
func ReadSized(r io.Reader, limit int32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int32(binary.BigEndian.Uint32(head[:]))
	if n < 0 {
		return nil, fmt.Errorf("%w %d", ErrNegativeSize, n)
	}
	if limit > 0 && n > limit {
		return nil, fmt.Errorf("%w: %d > %d", ErrSizeTooBig, n, limit)
	}
	return ReadBody(r, int(n))
}

// ReadBody reads exactly n bytes. A peer can announce any n, so memory grows with
// what it really sends: a buffer of 64 KiB at first, then three times what has
// arrived. A stream that ends early gives [io.ErrUnexpectedEOF].
func ReadBody(r io.Reader, n int) ([]byte, error) { return ReadBodyAhead(r, n, readAhead) }

// ReadBodyAhead is ReadBody with a buffer of ahead bytes at first, at least 1.
func ReadBodyAhead(r io.Reader, n, ahead int) ([]byte, error) {
	b := make([]byte, min(n, ahead))
	for have := 0; ; {
		m, err := io.ReadFull(r, b[have:])
		have += m
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if have == n {
			return b, nil
		}
		grown := make([]byte, min(n, 3*have))
		copy(grown, b)
		b = grown
	}
}
