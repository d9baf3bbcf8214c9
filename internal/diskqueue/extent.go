package diskqueue

import (
	"encoding/binary"
	"io"
)

// Where a message record keeps its id: payload offset 10, 16 characters of
// lower-case hex. Source: queue-file record layout of the TCP protocol.
const (
	idOffset  = headerSize + 10
	idEnd     = idOffset + 16
	idPayload = idEnd - headerSize // smallest payload with an id
)

// An extent is the part of a data file that holds records: it knows how to tell
// records from damage. Records carry no checksum, so a record is believed when
// its length fits and the record behind it has a fitting length too; only when
// that fails are the message ids looked at, which makes it possible to find
// the next record behind damaged bytes.
type extent struct {
	r     io.ReaderAt
	limit int64 // end of the records
	min   int64 // smallest payload

	// A window on the file, for reading ahead.
	buf []byte
	off int64 // of buf
}

// windowSize is how much an extent reads at once.
const windowSize = 64 << 10

// bytes returns the n bytes at off, fewer at the limit, valid until the next
// call.
func (x *extent) bytes(off int64, n int) ([]byte, error) {
	n = int(max(0, min(int64(n), x.limit-off)))
	if off >= x.off && off+int64(n) <= x.off+int64(len(x.buf)) {
		return x.buf[off-x.off:][:n], nil
	}
	if x.buf == nil {
		x.buf = make([]byte, min(windowSize, x.limit))
	}
	x.off, x.buf = off, x.buf[:cap(x.buf)]
	got, err := readFull(x.r, x.buf[:min(int64(len(x.buf)), x.limit-off)], off)
	x.buf = x.buf[:got]
	return x.buf[:min(n, got)], err
}

// fits reports whether a record with this length prefix can begin where rest
// bytes remain, prefix included.
func fits(length uint32, least, rest int64) bool {
	return int64(length) >= least && int64(length) <= rest-headerSize
}

// next returns where the record at off ends; ok is false when its length does
// not fit.
func (x *extent) next(off int64) (end int64, ok bool, err error) {
	b, err := x.bytes(off, headerSize)
	if err != nil || len(b) < headerSize {
		return 0, false, err
	}
	n := binary.BigEndian.Uint32(b)
	return off + headerSize + int64(n), fits(n, x.min, x.limit-off), nil
}

// judge decides about the record at off when its length, or the one behind it,
// does not fit. It returns off if the record is to be believed, or else where
// reading goes on: the next record, or the limit when there is none.
func (x *extent) judge(off int64) (int64, error) {
	end, ok, err := x.next(off)
	if err != nil {
		return 0, err
	}
	if !ok {
		return x.search(off+1, x.limit)
	}
	// Either this length or the next record's is wrong. If this one is too
	// large, the records it swallowed are inside and their chain goes past its
	// end. A chain that meets the end is a message that quotes records.
	// Without better evidence the record is believed.
	for from := off + 1; ; {
		candidate, err := x.search(from, min(end+idEnd, x.limit))
		if err != nil || candidate == x.limit {
			return off, err
		}
		if candidate >= end {
			// The bytes between are too few for a record: this length is too
			// small and they are its end.
			return candidate, nil
		}
		at := candidate
		for at < end {
			next, ok, err := x.next(at)
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			at = next
		}
		switch {
		case at > end:
			return candidate, nil
		case at == end:
			return off, nil
		}
		from = max(at, candidate+1)
	}
}

// search returns the first place between from and until where a message record
// begins for certain; x.limit if there is none.
func (x *extent) search(from, until int64) (int64, error) {
	for off := from; off < until && off+idEnd <= x.limit; off++ {
		found, err := x.isMessage(off)
		if err != nil {
			return 0, err
		}
		if !found {
			continue
		}
		end, _, err := x.next(off)
		if err != nil {
			return 0, err
		}
		if x.limit-end < idEnd {
			return off, nil // the last one; what follows is nothing or torn
		}
		b, err := x.bytes(end, idEnd)
		if err != nil {
			return 0, err
		}
		if hasID(b) {
			return off, nil
		}
	}
	return x.limit, nil
}

// isMessage reports whether the bytes at off look like a message record: the
// length fits and an id is where it belongs.
func (x *extent) isMessage(off int64) (bool, error) {
	b, err := x.bytes(off, idEnd)
	if err != nil || len(b) < idEnd {
		return false, err
	}
	return fits(binary.BigEndian.Uint32(b), max(x.min, idPayload), x.limit-off) && hasID(b), nil
}

// hasID reports whether b, the beginning of a record, has an id.
func hasID(b []byte) bool {
	if len(b) < idEnd {
		return false
	}
	for _, c := range b[idOffset:idEnd] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isTorn reports whether the bytes from off to the limit are the beginning of a
// record of at most maxSize bytes, or zeros, which is what some file systems
// leave where the length was written and the data was not.
func (x *extent) isTorn(off, maxSize int64) (bool, error) {
	if x.limit-off < headerSize {
		return true, nil
	}
	b, err := x.bytes(off, headerSize)
	if err != nil || len(b) < headerSize {
		return false, err
	}
	length := int64(binary.BigEndian.Uint32(b))
	if length >= x.min && length <= maxSize && length > x.limit-off-headerSize {
		return true, nil
	}
	for ; off < x.limit; off += int64(len(b)) {
		if b, err = x.bytes(off, windowSize); err != nil || len(b) == 0 {
			return false, err
		}
		for _, c := range b {
			if c != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

// count returns how many records Take would find from off on, and where the
// last of them ends.
func (x *extent) count(off int64) (records, end int64, err error) {
	end = off
	for off < x.limit {
		next, ok, err := x.next(off)
		if err != nil {
			return 0, 0, err
		}
		if ok && next < x.limit {
			_, ok, err = x.next(next)
			if err != nil {
				return 0, 0, err
			}
		}
		if !ok {
			resume, err := x.judge(off)
			if err != nil {
				return 0, 0, err
			}
			if resume != off {
				off = resume
				continue
			}
		}
		records++
		off, end = next, next
	}
	return records, end, nil
}
