package nsqtofile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// cutTornMember cuts off what is behind the last whole gzip member or zstd frame of
// f: what was being written when a crash came. It was not synced, so that nsqd sends
// its messages again.
func cutTornMember(f *os.File, kind Compression) (cut int64, err error) {
	size, err := sizeOf(f)
	if err != nil {
		return 0, err
	}
	var length int64
	switch kind {
	case Gzip:
		length, err = wholeMembers(io.NewSectionReader(f, 0, size))
	case Zstd:
		length, err = wholeFrames(f, size)
	}
	if err != nil {
		return 0, err
	}
	return cutAt(f, size, length)
}

// wholeMembers returns the length of the gzip members at the start of r that are
// complete and sound. An error is one of reading r.
func wholeMembers(r io.Reader) (length int64, err error) {
	counter := &countingReader{r: r}
	// gzip reads no further than it must from what has ReadByte.
	buffered := bufio.NewReaderSize(counter, bufferSize)
	var member *gzip.Reader
	for {
		if member == nil {
			member, err = gzip.NewReader(buffered)
		} else {
			err = member.Reset(buffered)
		}
		if err == nil {
			member.Multistream(false)
			_, err = io.Copy(io.Discard, member)
		}
		if err != nil {
			return length, counter.err // else: the end, or damage
		}
		length = counter.n - int64(buffered.Buffered())
	}
}

// countingReader counts what is read, and keeps the error of reading, if there was
// one.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// wholeFrames returns the length of the zstd frames at the start of r, of size
// bytes, that are complete and sound. An error is one of reading r.
func wholeFrames(r io.ReaderAt, size int64) (length int64, err error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	defer decoder.Close()
	for length < size {
		n, err := frameLength(r, length, size)
		if err != nil || n == 0 {
			return length, err
		}
		counter := &countingReader{r: io.NewSectionReader(r, length, n)}
		if err := decoder.Reset(counter); err != nil {
			return length, counter.err
		}
		if _, err := io.Copy(io.Discard, decoder); err != nil {
			return length, counter.err
		}
		length += n
	}
	return length, nil
}

// frameLength returns the length of the zstd frame at an offset, 0 if it is not
// complete. Source: RFC 8878, sections 3.1.1 and 3.1.1.2.
func frameLength(r io.ReaderAt, start, size int64) (int64, error) {
	var head [zstd.HeaderMaxSize]byte
	n, err := r.ReadAt(head[:min(int64(len(head)), size-start)], start)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	var header zstd.Header
	if header.Decode(head[:n]) != nil || header.Skippable {
		return 0, nil // nothing that we write
	}
	for at := start + int64(header.HeaderSize); ; {
		var block [4]byte
		if at+3 > size {
			return 0, nil
		}
		if _, err := r.ReadAt(block[:3], at); err != nil {
			return 0, err
		}
		// 1 bit: the last block; 2 bits: its kind; 21 bits: its size.
		bits := binary.LittleEndian.Uint32(block[:])
		length := int64(bits >> 3)
		if bits>>1&3 == 1 { // one byte, to be repeated
			length = 1
		}
		at += 3 + length
		if bits&1 == 0 {
			continue
		}
		if header.HasCheckSum {
			at += 4
		}
		if at > size {
			return 0, nil
		}
		return at - start, nil
	}
}
