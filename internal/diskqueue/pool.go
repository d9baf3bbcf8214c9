package diskqueue

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// A filePool keeps a bounded number of files open. A [pooledFile] that is not
// being read or written may be closed in favour of another; its next call opens
// it again, under the same name. Where all are being used, a call waits: none
// waits for a second file while it uses a first.
type filePool struct {
	// Set once in init.
	fs    FS
	limit int

	waiting atomic.Int64 // calls that wait for a place

	mu   sync.Mutex
	free *sync.Cond    // a file is not used any more, or closed
	n    int           // files open or being opened
	list []*pooledFile // those open
	hand int           // where in list to look next for one to close
}

func (p *filePool) init(fs FS, limit int) {
	p.fs, p.limit = fs, limit
	p.free = sync.NewCond(&p.mu)
}

// open opens a file for as long as its user wants it.
func (p *filePool) open(path string, flag int) (File, error) {
	file := &pooledFile{pool: p, path: path, flag: flag}
	// Errors are those of this call, and the file is there when it returns.
	if _, err := file.acquire(); err != nil {
		return nil, err
	}
	file.release()
	file.flag &^= os.O_CREATE | os.O_EXCL
	return file, nil
}

// reserve waits until one more file may be opened.
func (p *filePool) reserve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting.Add(1) // before looking: who is found in use sees it when it ends
	defer p.waiting.Add(-1)
	for p.n >= p.limit && !p.evictLocked() {
		p.free.Wait()
	}
	p.n++
}

// add makes a file that is open now one that may be closed.
func (p *filePool) add(f *pooledFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.index = len(p.list)
	p.list = append(p.list, f)
}

// removeLocked forgets a file that is to be closed.
func (p *filePool) removeLocked(f *pooledFile) {
	last := p.list[len(p.list)-1]
	p.list[f.index] = last
	last.index = f.index
	p.list[len(p.list)-1] = nil
	p.list = p.list[:len(p.list)-1]
}

// vacate gives up a place.
func (p *filePool) vacate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	p.free.Signal()
}

// evict closes a file of which that is possible, and reports whether there was
// one.
func (p *filePool) evict() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.evictLocked()
}

// evictLocked closes a file that was not used lately, if there is one. Files
// get a second chance: the hand passes over those used since it came by last.
func (p *filePool) evictLocked() bool {
	for range 2 * len(p.list) {
		p.hand++
		if p.hand >= len(p.list) {
			p.hand = 0
		}
		f := p.list[p.hand]
		if !f.mu.TryLock() {
			continue // its user is coming or going
		}
		if f.users > 0 || f.recent {
			f.recent = false
			f.mu.Unlock()
			continue
		}
		p.removeLocked(f)
		p.n--
		// What was written is in the kernel's hands; an error says nothing that
		// the next fsync does not.
		_ = f.file.Close()
		f.file = nil
		f.mu.Unlock()
		return true
	}
	return false
}

// A pooledFile is a [File] that is open while it is used, and as a rule beyond.
type pooledFile struct {
	// Set once.
	pool *filePool
	path string
	flag int // without those that create, after the first time

	index int // in pool.list; guarded by pool.mu

	mu     sync.Mutex // taken before pool.mu; the pool only tries
	file   File       // nil while closed
	users  int        // calls under way; it stays open
	recent bool       // used since the pool looked
}

// acquire opens the file if need be; release must follow unless it fails.
func (f *pooledFile) acquire() (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		f.pool.reserve()
		file, err := f.pool.fs.OpenFile(f.path, f.flag)
		for isTooManyOpen(err) && f.pool.evict() { // the rest of the process needs more than was thought
			file, err = f.pool.fs.OpenFile(f.path, f.flag)
		}
		if err != nil {
			f.pool.vacate()
			return nil, err
		}
		f.file = file
		f.pool.add(f)
	}
	f.users++
	f.recent = true
	return f.file, nil
}

func (f *pooledFile) release() {
	f.mu.Lock()
	f.users--
	f.mu.Unlock()
	if f.pool.waiting.Load() > 0 {
		f.pool.mu.Lock()
		f.pool.free.Signal()
		f.pool.mu.Unlock()
	}
}

func (f *pooledFile) ReadAt(b []byte, off int64) (int, error) {
	file, err := f.acquire()
	if err != nil {
		return 0, err
	}
	defer f.release()
	return file.ReadAt(b, off)
}

func (f *pooledFile) WriteAt(b []byte, off int64) (int, error) {
	file, err := f.acquire()
	if err != nil {
		return 0, err
	}
	defer f.release()
	return file.WriteAt(b, off)
}

func (f *pooledFile) Truncate(size int64) error {
	return f.with(func(file File) error { return file.Truncate(size) })
}

func (f *pooledFile) Sync() error { return f.with(File.Sync) }

func (f *pooledFile) Size() (size int64, err error) {
	err = f.with(func(file File) error {
		size, err = file.Size()
		return err
	})
	return size, err
}

func (f *pooledFile) with(call func(File) error) error {
	file, err := f.acquire()
	if err != nil {
		return err
	}
	defer f.release()
	return call(file)
}

// Close closes the file for good. No other call may be under way or follow.
func (f *pooledFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	f.pool.mu.Lock()
	f.pool.removeLocked(f)
	f.pool.mu.Unlock()
	err := f.file.Close()
	f.file = nil
	f.pool.vacate()
	return err
}

// isTooManyOpen reports whether err says that the process, or the system, has as
// many files open as it may.
func isTooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
