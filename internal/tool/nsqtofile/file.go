package nsqtofile

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// bufferSize is how many bytes are collected for one write.
const bufferSize = 64 << 10

// A file is one output file being written. Its methods do not overlap.
//
// Messages are certain to be on disk after sync. With compression that ends a gzip
// member or zstd frame, so that what was synced can be read whatever happens
// afterwards. Without, each write is of whole messages, so that processes that
// append to the same file do not tear each other's.
type file struct {
	path   string
	f      handle
	alone  func(size int64) bool // says whether nobody else has written to it or could: it may be cut
	size   int64                 // of what was written, and what was there before
	synced int64                 // size when it was last synced
	buf    []byte
	member member // nil without compression
	begun  bool   // something was written to the member
}

// A handle is an *os.File, or in tests one that fails.
type handle interface {
	io.Writer
	Sync() error
	Truncate(size int64) error
	Close() error
}

// A member is a gzip or zstd writer: Close ends the member or frame, Reset begins
// another one.
type member interface {
	io.WriteCloser
	Reset(io.Writer)
}

// newFile returns a file that is written to f, which has size bytes.
func newFile(path string, f handle, size int64, alone func(size int64) bool, opts *Options) (*file, error) {
	o := &file{path: path, f: f, alone: alone, size: size, synced: size}
	var err error
	switch opts.compression() {
	case Gzip:
		o.member, err = gzip.NewWriterLevel(compressed{o}, opts.GzipLevel)
	case Zstd:
		o.member, err = zstd.NewWriter(compressed{o}, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20), // there may be many topics
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(opts.ZstdLevel)))
	}
	return o, err
}

// compressed takes what the member writes.
type compressed struct{ o *file }

func (c compressed) Write(p []byte) (int, error) {
	c.o.buf = append(c.o.buf, p...)
	if len(c.o.buf) < bufferSize {
		return len(p), nil
	}
	return len(p), c.o.flush()
}

// write adds a message and a newline.
func (o *file) write(body []byte) error {
	if o.member == nil {
		o.buf = append(append(o.buf, body...), '\n')
		if len(o.buf) < bufferSize {
			return nil
		}
		return o.flush()
	}
	o.begun = true
	if _, err := o.member.Write(body); err != nil {
		return err
	}
	_, err := o.member.Write([]byte{'\n'})
	return err
}

// flush hands what is collected to the system; without compression it can then be
// read.
func (o *file) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	n, err := o.f.Write(o.buf)
	o.size += int64(n)
	o.buf = o.buf[:0]
	if cap(o.buf) > 16*bufferSize {
		o.buf = nil // a huge message is no reason to keep its space
	}
	return err
}

// endMember ends the member, if one was begun.
func (o *file) endMember() error {
	if o.member == nil || !o.begun {
		return nil
	}
	err := o.member.Close()
	o.member.Reset(compressed{o})
	o.begun = false
	return err
}

// sync returns once all messages are on disk.
func (o *file) sync() error {
	if err := o.endMember(); err != nil {
		return fmt.Errorf("failed to close %s writer: %w", o.kind(), err)
	}
	if err := o.flush(); err != nil {
		return fmt.Errorf("writing message to disk: %w", err)
	}
	if err := o.f.Sync(); err != nil {
		return fmt.Errorf("failed to fsync output file: %w", err)
	}
	o.synced = o.size
	return nil
}

// emptyMember is a gzip member without content, as Go's own package writes it:
// scripts know empty files by its 23 bytes.
const emptyMember = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"

// close syncs and closes the file. One without a message is a valid compressed file
// nevertheless.
func (o *file) close() error {
	if o.size == 0 && len(o.buf) == 0 && !o.begun {
		switch o.member.(type) {
		case *gzip.Writer:
			o.buf = append(o.buf, emptyMember...)
		case *zstd.Encoder:
			o.begun = true // an empty frame
		}
	}
	if err := o.sync(); err != nil {
		return err
	}
	if err := o.f.Close(); err != nil {
		return fmt.Errorf("failed to close output file: %w", err)
	}
	return nil
}

// abandon closes a file after an error. What was not synced is cut off if that is
// possible: those messages come again, and half a one would stay.
func (o *file) abandon() error {
	var err error
	if o.alone(o.size) {
		err = o.f.Truncate(o.synced)
	}
	return errors.Join(err, o.f.Close())
}

// kind names the compression in error texts.
func (o *file) kind() string {
	if _, ok := o.member.(*gzip.Writer); ok {
		return "GZIP"
	}
	return "ZSTD"
}
