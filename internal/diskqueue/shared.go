package diskqueue

import "time"

// SharedOptions say how the queues of one process use the file system together.
type SharedOptions struct {
	// FS is the file system. Nil: the operating system's.
	FS FS
	// OnSync is told of every fsync, of data files, metadata files and the
	// directory: how long it took, and why it failed. Calls overlap. Nil: nobody.
	OnSync func(took time.Duration, err error)
}

// Shared is what the queues of one process have in common. All methods may be
// called at once from many goroutines.
type Shared struct {
	fs     FS
	onSync func(time.Duration, error)
}

// NewShared returns what [Options.Shared] of each queue is set to.
func NewShared(o SharedOptions) *Shared {
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.OnSync == nil {
		o.OnSync = func(time.Duration, error) {}
	}
	return &Shared{fs: o.FS, onSync: o.OnSync}
}

// sharedFS is the file system as the queues see it.
type sharedFS struct {
	FS
	shared *Shared
}

func (s sharedFS) OpenFile(path string, flag int) (File, error) {
	f, err := s.FS.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	return sharedFile{f, s.shared}, nil
}

func (s sharedFS) SyncDir(dir string) error {
	return s.shared.timed(func() error { return s.FS.SyncDir(dir) })
}

type sharedFile struct {
	File
	shared *Shared
}

func (f sharedFile) Sync() error { return f.shared.timed(f.File.Sync) }

// timed runs one fsync and tells of it.
func (s *Shared) timed(sync func() error) error {
	start := time.Now()
	err := sync()
	s.onSync(time.Since(start), err)
	return err
}
