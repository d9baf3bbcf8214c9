package diskqueue

import (
	"encoding/binary"
	"fmt"
	"math"
)

// headerSize is the length prefix of a record: int32, big-endian.
const headerSize = 4

// keepBatch is how many bytes of buffer a Batch keeps over a Reset; one huge
// batch does not pin its memory for ever.
const keepBatch = 1 << 20

// A Batch holds records for [Queue.Put] as they will lie in the file: each a
// length (int32, big-endian) and that many bytes of payload. The zero Batch is
// empty and ready; Reset makes it so again and keeps the buffer. A Batch must
// not be used by two goroutines at once, nor changed while a Put has it.
type Batch struct {
	buf  []byte
	ends []int // ends[i] is where record i ends in buf
}

// Reset empties the batch.
func (b *Batch) Reset() {
	if cap(b.buf) > keepBatch {
		b.buf, b.ends = nil, nil
		return
	}
	b.buf, b.ends = b.buf[:0], b.ends[:0]
}

// Append adds one record. encode appends the payload to dst and returns the
// result, as [append] does; it must not keep dst. The size is checked by Put.
func (b *Batch) Append(encode func(dst []byte) []byte) {
	start := len(b.buf)
	b.buf = encode(append(b.buf, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(b.buf[start:], uint32(len(b.buf)-start-headerSize))
	b.ends = append(b.ends, len(b.buf))
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.ends) }

// Size returns the number of bytes the records take in a file, lengths included.
func (b *Batch) Size() int { return len(b.buf) }

// payloads returns the payloads, which are the batch's.
func (b *Batch) payloads() [][]byte {
	all := make([][]byte, 0, len(b.ends))
	start := 0
	for _, end := range b.ends {
		all = append(all, b.buf[start+headerSize:end])
		start = end
	}
	return all
}

// check refuses a batch that holds a payload smaller than minSize, or larger than
// a length can say.
func (b *Batch) check(minSize int32) error {
	const maxSize = math.MaxInt32
	start := 0
	for _, end := range b.ends {
		if n := end - start - headerSize; n < int(minSize) || n > maxSize {
			return fmt.Errorf("invalid message write size (%d) minMsgSize=%d maxMsgSize=%d", n, minSize, maxSize)
		}
		start = end
	}
	return nil
}
