package diskqueue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// A store names and opens the files of one queue and keeps the count of what
// was found damaged in them. All but the counters is set once.
type store struct {
	fs   FS
	dir  string
	name string // as in file names
	min  int64  // smallest payload of a record
	log  *slog.Logger
	head string // of every log line

	damagedRecords, damagedBytes, damagedFiles atomic.Int64
}

// FileName is how the queue called name ("topic" or "topic:channel") is called in
// file names: on Windows ";" stands for ":".
func FileName(name string) string {
	if channelSeparator == ':' {
		return name
	}
	return strings.ReplaceAll(name, ":", string(channelSeparator))
}

func (s *store) base() string { return filepath.Join(s.dir, s.name) + ".diskqueue." }

// dataPath is the path of data file n: at least six digits.
func (s *store) dataPath(n int64) string { return fmt.Sprintf("%s%06d.dat", s.base(), n) }

func (s *store) metadataPath() string { return s.base() + "meta.dat" }

// openRead opens data file n for reading; the error may be fs.ErrNotExist.
func (s *store) openRead(n int64) (File, error) {
	f, err := s.fs.OpenFile(s.dataPath(n), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open data file: %w", err)
	}
	return f, nil
}

// openWrite opens data file n for writing from offset size on. Bytes beyond
// are what is left of a write that failed; they go. created says that there
// was no such file.
func (s *store) openWrite(n, size int64) (f File, created bool, err error) {
	path := s.dataPath(n)
	f, err = s.fs.OpenFile(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		created = true
		f, err = s.fs.OpenFile(path, os.O_RDWR|os.O_CREATE)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open data file: %w", err)
	}
	if err := cut(f, size); err != nil {
		return nil, false, errors.Join(fmt.Errorf("cut data file %q: %w", path, err), f.Close())
	}
	return f, created, nil
}

// cut shortens f to size if it is longer.
func cut(f File, size int64) error {
	have, err := f.Size()
	if err != nil || have <= size {
		return err
	}
	return f.Truncate(size)
}

// cutFile shortens data file n to size; a missing file is short enough.
func (s *store) cutFile(n, size int64) error {
	f, err := s.fs.OpenFile(s.dataPath(n), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open data file: %w", err)
	}
	if err := errors.Join(cut(f, size), f.Close()); err != nil {
		return fmt.Errorf("cut data file %q: %w", s.dataPath(n), err)
	}
	return nil
}

// remove deletes data file n; a missing file is fine.
func (s *store) remove(n int64) error {
	if err := s.fs.Remove(s.dataPath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove data file: %w", err)
	}
	return nil
}

// dispose removes files that are read to their end, or sets them aside.
func (s *store) dispose(files []doneFile) {
	for _, f := range files {
		dispose := s.remove
		if f.keep {
			dispose = s.setFileAside
		}
		if err := dispose(f.number); err != nil {
			s.error("failed to dispose of data file", err)
		}
	}
}

// readFull reads into b from off on and returns how many bytes there were;
// fewer than len(b) at the end of the file is no error.
func readFull(r io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
