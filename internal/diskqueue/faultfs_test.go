package diskqueue

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// faultFS is the operating system's file system with counters and failures. A
// hook gets the base name of the file; it may be changed while in use.
type faultFS struct {
	osFS
	opened               atomic.Int64 // files open now
	writes, syncs        atomic.Int64 // of data files
	saves                atomic.Int64 // of metadata
	mu                   sync.Mutex   // guards the hooks
	onWrite              func(name string, b []byte) (fits int, err error)
	onRead, onSync       func(name string) error
	onTruncate, onRename func(name string) error
	onSyncDir            func(dir string) error
	onSyncVolume         func() error // nil: it cannot be synced as a whole
}

var (
	errNoSpace = errors.New("no space left on device")
	errIO      = errors.New("input/output error")
)

// set changes hooks.
func (f *faultFS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func call(f *faultFS, hook *func(string) error, name string) error {
	f.mu.Lock()
	h := *hook
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	return h(name)
}

func (f *faultFS) OpenFile(path string, flag int) (File, error) {
	file, err := f.osFS.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	f.opened.Add(1)
	return faultFile{file, f, filepath.Base(path)}, nil
}

func (f *faultFS) Rename(from, to string) error {
	if err := call(f, &f.onRename, filepath.Base(to)); err != nil {
		return err
	}
	f.saves.Add(1)
	return f.osFS.Rename(from, to)
}

func (f *faultFS) SyncDir(dir string) error {
	if err := call(f, &f.onSyncDir, dir); err != nil {
		return err
	}
	return f.osFS.SyncDir(dir)
}

func (f *faultFS) OpenVolume(string) (Volume, error) { return faultVolume{f}, nil }

type faultVolume struct{ fs *faultFS }

func (v faultVolume) Sync() error {
	v.fs.mu.Lock()
	h := v.fs.onSyncVolume
	v.fs.mu.Unlock()
	if h == nil {
		return errors.ErrUnsupported
	}
	return h()
}

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f faultFile) isData() bool {
	return filepath.Ext(f.name) == ".dat" && f.name != "t.diskqueue.meta.dat"
}

func (f faultFile) ReadAt(b []byte, off int64) (int, error) {
	if err := call(f.fs, &f.fs.onRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f faultFile) WriteAt(b []byte, off int64) (int, error) {
	if f.isData() {
		f.fs.writes.Add(1)
	}
	f.fs.mu.Lock()
	h := f.fs.onWrite
	f.fs.mu.Unlock()
	if h != nil {
		if n, err := h(f.name, b); err != nil {
			n, writeErr := f.File.WriteAt(b[:n], off)
			return n, errors.Join(err, writeErr)
		}
	}
	return f.File.WriteAt(b, off)
}

func (f faultFile) Truncate(size int64) error {
	if err := call(f.fs, &f.fs.onTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f faultFile) Sync() error {
	if f.isData() {
		f.fs.syncs.Add(1)
	}
	if err := call(f.fs, &f.fs.onSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f faultFile) Close() error {
	f.fs.opened.Add(-1)
	return f.File.Close()
}

// noSyncFS saves the time of fsyncs in tests that make many.
type noSyncFS struct{ osFS }

type noSyncFile struct{ File }

func (noSyncFS) OpenFile(path string, flag int) (File, error) {
	f, err := osFS{}.OpenFile(path, flag)
	return noSyncFile{f}, err
}

func (noSyncFS) SyncDir(string) error { return nil }
func (noSyncFile) Sync() error        { return nil }

// newFaultFS returns a file system that must have no open file when the test
// has ended.
func newFaultFS(t *testing.T) *faultFS {
	f := new(faultFS)
	t.Cleanup(func() {
		if n := f.opened.Load(); n != 0 {
			t.Errorf("%d files left open", n)
		}
	})
	return f
}
