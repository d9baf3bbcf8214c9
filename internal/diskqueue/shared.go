package diskqueue

import (
	"sync"
	"time"
)

// SharedOptions say how the queues of one process use the file system together.
type SharedOptions struct {
	// FS is the file system. Nil: the operating system's.
	FS FS
	// MaxOpenFiles is how many data and metadata files are open at a time. Zero: a
	// quarter of what the system grants the process, at most 512.
	MaxOpenFiles int
	// OnSync is told of every fsync, of data files, metadata files and the
	// directory: how long it took, and why it failed. Calls overlap. Nil: nobody.
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

	background chan struct{} // holds a token for each queue that syncs in the background

	mu          sync.Mutex // guards directories
	directories map[string]*groupSync
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
		directories: make(map[string]*groupSync),
	}
	s.files.init(o.FS, o.MaxOpenFiles)
	return s
}

// timed runs one fsync and tells of it.
func (s *Shared) timed(sync func() error) error {
	start := time.Now()
	err := sync()
	s.onSync(time.Since(start), err)
	return err
}

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
	s.shared.mu.Lock()
	g := s.shared.directories[dir]
	if g == nil {
		g = new(groupSync)
		s.shared.directories[dir] = g
	}
	s.shared.mu.Unlock()
	return g.do(func() error {
		return s.shared.timed(func() error { return s.FS.SyncDir(dir) })
	})
}

type sharedFile struct {
	File
	shared *Shared
}

func (f sharedFile) Sync() error { return f.shared.timed(f.File.Sync) }

// A groupSync shares the fsyncs of one directory: whoever comes while one runs
// waits for the next, together with all others who do.
type groupSync struct {
	mu      sync.Mutex
	running *oneSync // nil for none
	next    *oneSync // begins when running has ended; nil for none
}

type oneSync struct {
	done chan struct{}
	err  error // valid once done is closed
}

// do returns the result of a sync that began after the call.
func (g *groupSync) do(sync func() error) error {
	g.mu.Lock()
	if g.next != nil {
		shared := g.next
		g.mu.Unlock()
		<-shared.done
		return shared.err
	}
	own, before := &oneSync{done: make(chan struct{})}, g.running
	if before == nil {
		g.running = own
	} else {
		g.next = own
	}
	g.mu.Unlock()
	if before != nil {
		<-before.done
		g.mu.Lock()
		g.running, g.next = own, nil
		g.mu.Unlock()
	}
	own.err = sync()
	g.mu.Lock()
	g.running = nil
	g.mu.Unlock()
	close(own.done)
	return own.err
}
