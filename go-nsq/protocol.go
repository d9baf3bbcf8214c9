package nsq

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// MagicV1 and MagicV2 open a connection to nsqlookupd and to nsqd.
var (
	MagicV1 = []byte("  V1")
	MagicV2 = []byte("  V2")
)

// Frame types of protocol V2.
const (
	FrameTypeResponse int32 = 0 // the answer to a command, or a heartbeat
	FrameTypeError    int32 = 1 // an error code and its description
	FrameTypeMessage  int32 = 2 // a message, see DecodeMessage
)

// frameHeaderLength is the size of a frame's size and type.
const frameHeaderLength = 8

// httpSize is what the first bytes of an HTTP response are as a frame size.
const httpSize = 'H'<<24 | 'T'<<16 | 'T'<<8 | 'P'

// Errors about frames; their texts are part of the API.
var (
	errHTTPResponse  = errors.New("unexpected HTTP response, a nsqd TCP endpoint is required")
	errShortResponse = errors.New("length of response is too small")
)

// IsValidTopicName says whether name is 1 to 64 of the characters a-z, A-Z,
// 0-9, ".", "_" and "-", with an optional "#ephemeral" at the end, which counts.
func IsValidTopicName(name string) bool {
	return protocol.IsValidTopicName(name)
}

// IsValidChannelName applies the rule of IsValidTopicName.
func IsValidChannelName(name string) bool {
	return protocol.IsValidChannelName(name)
}

// ReadResponse reads a frame from r: an int32 size and as many bytes, which it
// returns: frame type and data. A frame larger than maxMsgSize is an error;
// 0, the default, is no limit. Memory is taken as the bytes arrive, and a peer
// that speaks HTTP is told apart.
func ReadResponse(r io.Reader, maxMsgSize ...int32) ([]byte, error) {
	var limit int32
	if len(maxMsgSize) > 0 {
		limit = maxMsgSize[0]
	}
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int32(binary.BigEndian.Uint32(head[:]))
	if err := checkFrameSize(size, limit); err != nil {
		return nil, err
	}
	return protocol.ReadBody(r, int(size))
}

// checkFrameSize refuses sizes that are negative, HTTP, or above a limit > 0.
func checkFrameSize(size, limit int32) error {
	switch {
	case size < 0:
		return fmt.Errorf("response msg size is negative: %v", size)
	case size == httpSize:
		return errHTTPResponse
	case limit > 0 && size > limit:
		return fmt.Errorf("response msg size %v exceeds configured maximum (%v)", size, limit)
	}
	return nil
}

// UnpackResponse splits what ReadResponse returned into frame type and data,
// which aliases response. With less than 4 bytes the type is -1.
func UnpackResponse(response []byte) (int32, []byte, error) {
	if len(response) < 4 {
		return -1, nil, errShortResponse
	}
	return int32(binary.BigEndian.Uint32(response)), response[4:], nil
}

// ReadUnpackedResponse is ReadResponse and UnpackResponse in one. On error the
// frame type is -1.
func ReadUnpackedResponse(r io.Reader, maxMsgSize ...int32) (int32, []byte, error) {
	response, err := ReadResponse(r, maxMsgSize...)
	if err != nil {
		return -1, nil, err
	}
	return UnpackResponse(response)
}

// A frame is one frame from nsqd: a message, or the data of any other type.
type frame struct {
	frameType int32
	data      []byte   // nil for a message
	message   *Message // nil for anything else
}

// readFrame reads the next frame. limit is the largest size; 0 is none.
// Nothing in the result aliases the buffer of r. A frame takes one allocation
// for its data; a message another for itself.
func readFrame(r *bufio.Reader, limit int32) (frame, error) {
	head, err := r.Peek(frameHeaderLength)
	if err != nil {
		return frame{}, shortFrameError(head, limit, err)
	}
	size := int32(binary.BigEndian.Uint32(head))
	if err := checkFrameSize(size, limit); err != nil {
		return frame{}, err
	}
	if size < 4 {
		return frame{}, errShortResponse
	}
	f := frame{frameType: int32(binary.BigEndian.Uint32(head[4:]))}
	_, _ = r.Discard(frameHeaderLength) // what was peeked can be discarded
	rest := int(size) - 4
	if f.frameType == FrameTypeMessage {
		f.message, err = readMessage(r, rest)
	} else {
		f.data, err = protocol.ReadBody(r, rest)
	}
	return f, err
}

// readMessage reads a message of n bytes.
func readMessage(r *bufio.Reader, n int) (*Message, error) {
	if n < messageHeaderLength {
		return nil, errShortMessage
	}
	head, err := r.Peek(messageHeaderLength)
	if err != nil {
		return nil, unexpectedEOF(err)
	}
	m := new(Message)
	m.decodeHeader(head)
	_, _ = r.Discard(messageHeaderLength)
	m.Body, err = protocol.ReadBody(r, n-messageHeaderLength)
	return m, err
}

// shortFrameError is the error for a stream that ended after head, less than a
// frame's header. The size is looked at if there is one: an HTTP server, or a
// frame without a type, may send no more than that.
func shortFrameError(head []byte, limit int32, err error) error {
	if len(head) >= 4 {
		size := int32(binary.BigEndian.Uint32(head))
		if sizeErr := checkFrameSize(size, limit); sizeErr != nil {
			return sizeErr
		}
	}
	if len(head) > 0 {
		return unexpectedEOF(err)
	}
	return err
}

// unexpectedEOF turns io.EOF, met inside a frame, into io.ErrUnexpectedEOF.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
