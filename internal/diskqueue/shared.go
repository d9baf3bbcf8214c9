package diskqueue

import (
	"sync"
	"sync/atomic"
	"time"
)

// SharedOptions say how the queues of one process use the file system together.
type SharedOptions struct {
	// FS is the file system. Nil: the operating system's.
	FS FS
	// MaxOpenFiles is how many data and metadata files are open at a time. Zero: a
	// quarter of what the system grants the process, at most 512.
	MaxOpenFiles int
	// OnSync is told of every fsync, of data files, metadata files, the directory and
	// its file system: how long it took, and why it failed. Calls overlap. Nil: nobody.
	OnSync func(took time.Duration, err error)
}

// backgroundSyncs is how many queues sync in the background at a time. A file
// system takes eight fsyncs at once for not much more than one; beyond that
// they only delay those that a publisher waits for.
const backgroundSyncs = 8

// Shared is what the queues of one process have in common, so that thousands of
// them do not ask the system for thousands of open files, fsyncs at the same
// moment, or fsyncs of one directory. All methods may be called at once from
// many goroutines.
type Shared struct {
	fs     FS
	files  filePool
	onSync func(time.Duration, error)
	took   atomic.Int64 // the longest fsync of late, in nanoseconds

	background chan struct{} // holds a token for each queue that syncs in the background

	mu          sync.Mutex // guards directories
	directories map[string]*sharedDir
}

// A sharedDir is what the queues in one directory share.
type sharedDir struct {
	// Set once in Shared.directory.
	fs     sharedFS
	path   string
	volume Volume // nil where it must not be synced as a whole

	entries gathering[*error]  // fsyncs of the directory
	endings gathering[*ending] // queues that are being closed
}

// NewShared returns what [Options.Shared] of each queue is set to.
func NewShared(o SharedOptions) *Shared {
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = max(min(openFileLimit()/4, 512), 8)
	}
	if o.OnSync == nil {
		o.OnSync = func(time.Duration, error) {}
	}
	s := &Shared{
		fs:          o.FS,
		onSync:      o.OnSync,
		background:  make(chan struct{}, backgroundSyncs),
		directories: make(map[string]*sharedDir),
	}
	s.files.init(o.FS, o.MaxOpenFiles)
	return s
}

// directory returns what the queues in dir share. Its volume is opened before the
// first of them writes, for it tells of no error before.
func (s *Shared) directory(dir string) *sharedDir {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.directories[dir]
	if d == nil {
		d = &sharedDir{fs: sharedFS{s.fs, s}, path: dir}
		if volume, err := s.fs.OpenVolume(dir); err == nil { // otherwise files are synced one by one
			d.volume = volume
		}
		s.directories[dir] = d
	}
	return d
}

// timed runs one fsync and tells of it.
func (s *Shared) timed(sync func() error) error {
	if s.took.Load() >= int64(longSync) {
		wakeThread()
	}
	start := time.Now()
	err := sync()
	took := time.Since(start)
	s.took.Store(max(int64(took), s.took.Load()*7/8))
	s.onSync(took, err)
	return err
}

// longSync is from which duration of fsyncs on a thread is woken for each.
const longSync = 150 * time.Microsecond

// wakeThread wakes a thread of the runtime, if one sleeps, which finds little to do and
// waits for the network then. The caller is about to wait in a system call. If its thread
// was the one that waited for the network, nobody does now: while there are idle CPUs
// the runtime takes a system call for a short one for up to 10 ms, and what arrives
// meanwhile lies there. Messages that no disk has to do with were 5 ms late at p99.
func wakeThread() { go func() {}() }

// sharedFS is the file system as the queues see it: what is open is bounded,
// fsyncs are told of, and those of one directory are shared.
type sharedFS struct {
	FS
	shared *Shared
}

func (s sharedFS) OpenFile(path string, flag int) (File, error) {
	f, err := s.shared.files.open(path, flag)
	if err != nil {
		return nil, err
	}
	return sharedFile{f, s.shared}, nil
}

func (s sharedFS) SyncDir(dir string) error {
	var err error
	s.shared.directory(dir).entries.do(&err, func(members []*error) {
		err := s.shared.timed(func() error { return s.FS.SyncDir(dir) })
		for _, member := range members {
			*member = err
		}
	})
	return err
}

type sharedFile struct {
	File
	shared *Shared
}

func (f sharedFile) Sync() error { return f.shared.timed(f.File.Sync) }
