package nsqd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// input is the way from one client: a buffer in which commands are parsed where
// they lie.
//
// A connection that sends little reads into a small buffer of its own; one that
// fills it borrows a large one for as long as it does.
type input struct {
	r io.Reader
	// beforeRead is called when all that r has given is used up: slices of the
	// buffer that were handed out become invalid when it returns. An error ends
	// reading.
	beforeRead func() error

	buf        []byte // small, or *large
	start, end int    // what has arrived and is not used yet
	small      [smallInput]byte
	large      *[]byte // borrowed from inputBuffers, or nil
}

const (
	smallInput = 128
	largeInput = 64 << 10
)

var inputBuffers = sync.Pool{New: func() any { b := make([]byte, largeInput); return &b }}

// errLineTooLong is returned by line; the connection is closed without an error
// frame. Source: TCP protocol spec, "Commands: syntax".
var errLineTooLong = errors.New("command line too long")

func newInput(r io.Reader, beforeRead func() error) *input {
	in := &input{r: r, beforeRead: beforeRead}
	in.buf = in.small[:]
	return in
}

// line returns the next command line without its end. It is valid until the next
// read.
func (in *input) line() ([]byte, error) {
	searched := 0
	for {
		if i := bytes.IndexByte(in.buf[in.start+searched:in.end], '\n'); i >= 0 {
			n := searched + i + 1
			if n > protocol.MaxLineLength {
				return nil, errLineTooLong
			}
			line := in.buf[in.start : in.start+n]
			in.start += n
			return protocol.TrimLine(line), nil
		}
		searched = in.end - in.start
		if searched >= protocol.MaxLineLength {
			return nil, errLineTooLong
		}
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}

// skip takes line, which has its end, if that is what comes next and it has arrived.
func (in *input) skip(line string) bool {
	if in.buffered() < len(line) || string(in.buf[in.start:in.start+len(line)]) != line {
		return false
	}
	in.start += len(line)
	return true
}

// fin takes a FIN, if that is what comes next and it has arrived. It leaves one that
// is not plainly well-formed to line.
func (in *input) fin() (id MessageID, ok bool) {
	const begin, length = len("FIN "), len("FIN ") + len(id) + len("\n")
	if in.buffered() < length {
		return id, false
	}
	b := in.buf[in.start : in.start+length]
	id = MessageID(b[begin:])
	if string(b[:begin]) != "FIN " || b[length-1] != '\n' || !isWord(id) {
		return id, false
	}
	in.start += length
	return id, true
}

// isWord reports whether id has no byte that could end a parameter or a line: none up
// to the space, looked for in eight bytes at a time.
func isWord(id MessageID) bool {
	const each = 0x0101010101010101
	found := uint64(0)
	for _, x := range [2]uint64{binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])} {
		found |= (x - (' '+1)*each) &^ x
	}
	return found&(0x80*each) == 0
}

// buffered returns how many bytes have arrived and are not used yet.
func (in *input) buffered() int { return in.end - in.start }

// size reads a 4-byte length, which may be negative.
func (in *input) size() (int32, error) {
	for in.buffered() < 4 {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := int32(binary.BigEndian.Uint32(in.buf[in.start:]))
	in.start += 4
	return n, nil
}

// peek returns n bytes that have arrived, valid until the next read, or nil if
// they have not.
func (in *input) peek(n int) []byte {
	if in.buffered() < n {
		return nil
	}
	b := in.buf[in.start : in.start+n : in.start+n]
	in.start += n
	return b
}

// Read gives what has arrived, or reads more.
func (in *input) Read(p []byte) (int, error) {
	if in.buffered() == 0 {
		if len(p) >= largeInput { // into its place at once
			if err := in.beforeRead(); err != nil {
				return 0, err
			}
			return in.r.Read(p)
		}
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.start:in.end])
	in.start += n
	return n, nil
}

// fill reads what has arrived, at least one byte.
func (in *input) fill() error {
	if err := in.beforeRead(); err != nil {
		return err
	}
	in.makeRoom()
	return in.read()
}

// await reads what arrives next, at least one byte, into the small buffer, when all
// that had arrived is used up and beforeRead was called.
func (in *input) await() error {
	in.release()
	return in.read()
}

// read reads into what is left of the buffer.
func (in *input) read() error {
	for range 100 {
		n, err := in.r.Read(in.buf[in.end:])
		in.end += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom moves the rest to the front and picks the buffer to read into.
func (in *input) makeRoom() {
	rest := in.buf[in.start:in.end]
	busy := in.end > smallInput/2 // the last read brought more than the odd command
	if in.large == nil && busy {
		in.large = inputBuffers.Get().(*[]byte)
	} else if in.large != nil && !busy && len(rest) == 0 {
		in.release()
	}
	into := in.small[:]
	if in.large != nil {
		into = *in.large
	}
	if len(rest) >= len(into) { // only after unread
		into = make([]byte, 2*len(rest))
	}
	in.end = copy(into, rest)
	in.start = 0
	in.buf = into
}

// release returns the large buffer, and drops what is not used yet.
func (in *input) release() {
	if in.large != nil {
		inputBuffers.Put(in.large)
		in.large = nil
	}
	in.buf = in.small[:]
	in.start, in.end = 0, 0
}

// takeOver returns a reader of all that is not used yet, and leaves in without a
// source: use must follow.
func (in *input) takeOver() io.Reader {
	r := in.r
	if in.buffered() > 0 {
		r = io.MultiReader(bytes.NewReader(bytes.Clone(in.buf[in.start:in.end])), r)
	}
	in.start, in.end = 0, 0
	return r
}

// use makes r the source.
func (in *input) use(r io.Reader, beforeRead func() error) {
	in.r, in.beforeRead = r, beforeRead
}

// unread puts b back in front of what has arrived, of which it was the end.
func (in *input) unread(b []byte) {
	if len(b) == 0 {
		return
	}
	in.buf = append(append(make([]byte, 0, max(len(b)+in.buffered(), smallInput)), b...), in.buf[in.start:in.end]...)
	in.start, in.end = 0, len(in.buf)
}
