package nsqtofile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// openFile opens the file at path for writing, and makes its name durable. With
// compression or rotation by time it must be new (fs.ErrExist), otherwise it may
// exist and is appended to; what half a message a crash has left at its end is cut
// off then, and the length of that returned.
func openFile(path string, opts *Options) (o *file, cut int64, err error) {
	flag := os.O_RDWR | os.O_CREATE | os.O_APPEND
	if opts.exclusive() {
		flag = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(path, flag, 0o666)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	mayCut := func(int64) bool { return true }
	if opts.exclusive() {
		if !lockAlone(f) { // somebody looks whether a crash has left it
			err = lockShared(f)
			lockAlone(f)
		}
	} else {
		if lockAlone(f) {
			if cut, err = cutTornLine(f); err != nil {
				return nil, 0, err
			}
		}
		err = lockShared(f)
		mayCut = func(size int64) bool {
			now, err := sizeOf(f)
			return err == nil && now == size && lockAlone(f)
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if !stillAt(path, f) {
		// Before we had the lock, somebody has taken it for a file left by a crash.
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrExist}
	}
	size, err := sizeOf(f)
	if err != nil {
		return nil, 0, fmt.Errorf("unable to stat output file %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, 0, err
	}
	o, err = newFile(path, f, size, mayCut, opts)
	return o, cut, err
}

// stillAt says whether path leads to f.
func stillAt(path string, f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// cutTornLine cuts off what is behind the last newline of f: a message whose write a
// crash has interrupted. It was not finished, so that nsqd sends it again.
func cutTornLine(f *os.File) (cut int64, err error) {
	size, err := sizeOf(f)
	if err != nil || size == 0 {
		return 0, err
	}
	buf := make([]byte, bufferSize)
	for end := size; end > 0; {
		start := max(end-bufferSize, 0)
		chunk := buf[:end-start]
		if _, err := f.ReadAt(chunk, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
			return cutAt(f, size, start+int64(i)+1)
		}
		end = start
	}
	return cutAt(f, size, 0)
}

// cutAt cuts f, which has size bytes, to length, and says by how much.
func cutAt(f *os.File, size, length int64) (cut int64, err error) {
	if length == size {
		return 0, nil
	}
	if err := f.Truncate(length); err != nil {
		return 0, err
	}
	return size - length, f.Sync()
}
