package nsqd

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/flate"
)

// A compressor is the outer layer of a client's output. Each Write is whole
// frames, or part of a large one; Flush makes all of it readable at the other end.
// Calls must not overlap.
type compressor interface {
	io.Writer
	Flush() error
	// release ends the compressor and returns what it has borrowed.
	release()
}

// A decompressor is the outer layer of a client's input.
type decompressor interface {
	io.Reader
	// release ends the decompressor and returns what it has borrowed.
	release()
}

// A gatherer passes on, in few large writes, what a compressor writes in many
// small ones. Its buffer is borrowed only while it holds something.
type gatherer struct {
	w   io.Writer
	buf []byte
}

func (g *gatherer) Write(p []byte) (int, error) {
	if len(g.buf)+len(p) > defaultOutputBufferSize {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > defaultOutputBufferSize {
		return g.w.Write(p)
	}
	if g.buf == nil {
		g.buf = borrowBuffer()
	}
	g.buf = append(g.buf, p...)
	return len(p), nil
}

func (g *gatherer) flush() error {
	if len(g.buf) == 0 {
		return nil
	}
	_, err := g.w.Write(g.buf)
	g.release()
	return err
}

func (g *gatherer) release() {
	returnBuffer(g.buf)
	g.buf = nil
}

// A snappyWriter writes the snappy framing format, in which chunks do not depend
// on each other: between writes it needs no memory.
type snappyWriter struct {
	out     gatherer
	started bool // the stream identifier has been written
}

// The snappy framing format: a chunk is one byte type, three bytes length
// (little-endian), four bytes checksum (included in the length), data. Source:
// snappy framing format description, sections 3 and 4.
const (
	snappyIdentifier   = "\xff\x06\x00\x00sNaPpY"
	snappyCompressed   = 0x00
	snappyUncompressed = 0x01
	snappyMaxChunk     = 64 << 10 // of data, uncompressed
	snappyChunkHead    = 8
)

// castagnoli is the polynomial of the checksums of snappy chunks and of the files
// of delays.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snappyBuffers are as large as any chunk can get.
var snappyBuffers = sync.Pool{New: func() any {
	b := make([]byte, snappyChunkHead+snappy.MaxEncodedLen(snappyMaxChunk))
	return &b
}}

func newSnappyWriter(w io.Writer) *snappyWriter { return &snappyWriter{out: gatherer{w: w}} }

func (s *snappyWriter) Write(p []byte) (int, error) {
	if !s.started {
		s.started = true
		if _, err := s.out.Write([]byte(snappyIdentifier)); err != nil {
			return 0, err
		}
	}
	buf := snappyBuffers.Get().(*[]byte)
	defer snappyBuffers.Put(buf)
	for written := 0; written < len(p); {
		data := p[written:min(len(p), written+snappyMaxChunk)]
		if _, err := s.out.Write(appendSnappyChunk((*buf)[:0], data)); err != nil {
			return written, err
		}
		written += len(data)
	}
	return len(p), nil
}

// appendSnappyChunk appends data as one chunk to dst, which is empty and has the
// room. What does not shrink by an eighth goes as it is.
func appendSnappyChunk(dst, data []byte) []byte {
	sum := crc32.Checksum(data, castagnoli)
	sum = (sum>>15 | sum<<17) + 0xa282ead8
	kind := byte(snappyCompressed)
	body := snappy.Encode(dst[snappyChunkHead:cap(dst)], data)
	if len(body) >= len(data)-len(data)/8 {
		kind = snappyUncompressed
		body = append(dst[:snappyChunkHead], data...)[snappyChunkHead:]
	}
	chunk := dst[:snappyChunkHead+len(body)]
	binary.LittleEndian.PutUint32(chunk, uint32(4+len(body))<<8|uint32(kind))
	binary.LittleEndian.PutUint32(chunk[4:], sum)
	return chunk
}

func (s *snappyWriter) Flush() error { return s.out.flush() }

func (s *snappyWriter) release() { s.out.release() }

// A deflateWriter writes one raw DEFLATE stream. What it has to remember of that
// stream is large (half a megabyte or more, by level): it is borrowed by the first
// frame that is not OK, so that a client that only publishes does without.
type deflateWriter struct {
	out   gatherer
	level int
	z     *flate.Writer // nil: borrowed when needed
	dirty bool          // z has been written to since the last Flush
}

// deflateWriters are idle, by level.
var deflateWriters [10]sync.Pool

// deflatedOK is the frame OK as DEFLATE blocks of fixed codes, with the sync marker
// after it. It can stand anywhere before the first block of z, since nothing in z
// refers to what was before. Source: TCP protocol spec, "Byte-level test vectors".
const deflatedOK = "\x62\x60\x60\x60\x63\x60\x60\x60\xf0\xf7\x06\x00\x00\x00\xff\xff"

// newDeflateWriter returns a writer at level, from 1 to 9.
func newDeflateWriter(w io.Writer, level int) *deflateWriter {
	return &deflateWriter{out: gatherer{w: w}, level: level}
}

func (d *deflateWriter) Write(p []byte) (int, error) {
	if d.z == nil {
		if string(p) == okFrame {
			_, err := d.out.Write([]byte(deflatedOK))
			return len(p), err
		}
		if err := d.borrow(); err != nil {
			return 0, err
		}
	}
	d.dirty = true
	return d.z.Write(p)
}

func (d *deflateWriter) borrow() error {
	if z, ok := deflateWriters[d.level].Get().(*flate.Writer); ok {
		z.Reset(&d.out)
		d.z = z
		return nil
	}
	var err error
	d.z, err = flate.NewWriter(&d.out, d.level)
	return err
}

func (d *deflateWriter) Flush() error {
	if d.dirty {
		d.dirty = false
		if err := d.z.Flush(); err != nil {
			return err
		}
	}
	return d.out.flush()
}

func (d *deflateWriter) release() {
	d.out.release()
	if d.z != nil {
		d.z.Reset(nil) // it must not keep the connection alive
		deflateWriters[d.level].Put(d.z)
		d.z = nil
	}
}

// compressedInput is the size of the buffer below a decompressor: a pipelining
// client's socket is read in large pieces, and a decompressor asks for small ones.
const compressedInput = 4 << 10

// A snappyReader reads the snappy framing format.
type snappyReader struct {
	*snappy.Reader
	in *bufio.Reader
}

var snappyReaders = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, compressedInput)
	return &snappyReader{snappy.NewReader(in), in}
}}

func newSnappyReader(r io.Reader) *snappyReader {
	s := snappyReaders.Get().(*snappyReader)
	s.in.Reset(r)
	s.Reset(s.in)
	return s
}

func (s *snappyReader) release() {
	s.in.Reset(nil) // it must not keep the connection alive
	snappyReaders.Put(s)
}

// A deflateReader reads a raw DEFLATE stream.
type deflateReader struct {
	io.Reader
	in *bufio.Reader
}

var deflateReaders = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, compressedInput)
	return &deflateReader{flate.NewReader(in), in}
}}

func newDeflateReader(r io.Reader) (*deflateReader, error) {
	d := deflateReaders.Get().(*deflateReader)
	d.in.Reset(r)
	return d, d.Reader.(flate.Resetter).Reset(d.in, nil)
}

func (d *deflateReader) release() {
	d.in.Reset(nil) // it must not keep the connection alive
	deflateReaders.Put(d)
}
