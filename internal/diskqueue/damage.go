package diskqueue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// A CorruptError says what is damaged: the bytes of File from Offset on. It is
// logged where the damage is found; the queue goes on behind it.
type CorruptError struct {
	File   string // path of the data or metadata file
	Offset int64
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt queue file %q at offset %d: %v", e.File, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Causes of a CorruptError.
var (
	errBadRecord = errors.New("record length does not fit")
	errTorn      = errors.New("file ends inside the queue")
	errMissing   = errors.New("file is missing")
)

// Damage counts what was found damaged since a queue was opened.
type Damage struct {
	Records int64 // places where at least one record was unreadable
	Bytes   int64 // copied aside
	Files   int64 // missing, truncated or unreadable as a whole, metadata included
}

// setAside appends the bytes of data file n from from up to to to the file's
// ".bad", where nothing ever reads them again, counts and logs them. It
// returns false when the copy failed.
func (s *store) setAside(n int64, r io.ReaderAt, from, to int64, cause error) bool {
	path := s.dataPath(n)
	s.damagedRecords.Add(1)
	s.damagedBytes.Add(to - from)
	s.corrupt("set damaged bytes aside", &CorruptError{File: path, Offset: from, Err: cause}, slog.Int64("bytes", to-from))
	if err := s.copyTo(path+".bad", io.NewSectionReader(r, from, to-from)); err != nil {
		s.error("failed to copy damaged bytes", err)
		return false
	}
	return true
}

func (s *store) copyTo(path string, r io.Reader) (err error) {
	f, err := s.fs.OpenFile(path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, size), r)
	return err
}

// setFileAside renames data file n to ".bad", or to ".bad.1" and so on where
// that name is taken.
func (s *store) setFileAside(n int64) error {
	path := s.dataPath(n)
	to := path + ".bad"
	for i := 1; ; i++ {
		if _, err := s.fs.Size(to); err != nil {
			break
		}
		to = fmt.Sprintf("%s.bad.%d", path, i)
	}
	if err := s.fs.Rename(path, to); err != nil && !isMissing(err) {
		return err
	}
	return nil
}

// IsSetAside reports whether a file of that name holds damaged bytes of a queue.
func IsSetAside(name string) bool {
	_, rest, isQueue := strings.Cut(name, ".diskqueue.")
	_, number, isBad := strings.Cut(rest, ".dat.bad")
	return isQueue && isBad && (number == "" || number[0] == '.' && isDigits(number[1:]))
}

// lost counts and logs a file of which nothing more can be read.
func (s *store) lost(path string, offset int64, cause error) {
	s.damagedFiles.Add(1)
	s.corrupt("queue file damaged", &CorruptError{File: path, Offset: offset, Err: cause})
}

// damage returns how often damage was found.
func (s *store) damage() int64 { return s.damagedRecords.Load() + s.damagedFiles.Load() }

func (s *store) corrupt(text string, err *CorruptError, attrs ...any) {
	s.log.Error(s.head+text, append([]any{slog.Any("err", err)}, attrs...)...)
}

func (s *store) error(text string, err error) { s.log.Error(s.head+text, slog.Any("err", err)) }
func (s *store) warn(text string, err error)  { s.log.Warn(s.head+text, slog.Any("err", err)) }

// isMissing reports whether err says that a file does not exist.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
