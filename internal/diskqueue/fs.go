package diskqueue

import (
	"errors"
	"io"
	"os"

	"github.com/nsq-suite/nsq/internal/durable"
)

// FS is the file system a queue works on. The default is the operating
// system's; tests put one in its place that counts calls and makes them fail.
// Errors say what os functions say: errors.Is(err, fs.ErrNotExist) must hold
// for a missing file. Calls may overlap.
type FS interface {
	// OpenFile is os.OpenFile with mode 0600.
	OpenFile(path string, flag int) (File, error)
	// Size returns the length in bytes of the file at path.
	Size(path string) (int64, error)
	// Names returns the names, in no order, of the entries of dir.
	Names(dir string) ([]string, error)
	// Remove deletes the file at path.
	Remove(path string) error
	// Rename moves a file, replacing the one that has the new name.
	Rename(from, to string) error
	// SyncDir makes creations, renames and removals in dir survive a power
	// loss. It does nothing on systems that cannot (Windows).
	SyncDir(dir string) error
	// OpenVolume returns the file system that dir is on, or [errors.ErrUnsupported]
	// where that can only be synced file by file.
	OpenVolume(dir string) (Volume, error)
}

// A Volume is a file system that can be synced as a whole, which for hundreds of
// files is much faster than one after the other. Calls may overlap.
type Volume interface {
	// Sync returns once all that was written to any file before is on stable
	// storage, names included. An error may be that of any program, and concern what
	// was written since the volume was opened or synced last. It is
	// [errors.ErrUnsupported] when so much is to be written for other programs that
	// it could take long.
	Sync() error
}

// File is an open file of an [FS]. Calls may overlap.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Truncate sets the length in bytes.
	Truncate(size int64) error
	// Sync returns once the content and the length are on stable storage.
	Sync() error
	// Size returns the length in bytes.
	Size() (int64, error)
	Close() error
}

// osFS is the operating system's file system.
type osFS struct{}

func (osFS) OpenFile(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (osFS) Names(dir string) (names []string, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Readdirnames(-1)
}

func (osFS) Remove(path string) error     { return os.Remove(path) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) SyncDir(dir string) error     { return durable.SyncDir(dir) }

func (osFS) OpenVolume(dir string) (Volume, error) { return openVolume(dir) }

// osFile is an *os.File whose Sync is the cheapest call that is enough.
type osFile struct{ *os.File }

func (f osFile) Sync() error { return syncFile(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
