package diskqueue

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is returned by operations on a queue that was closed or deleted.
var ErrClosed = errors.New("disk queue is closed")

// Options say where a queue is and how it writes.
type Options struct {
	// Dir is the directory of the files. It must exist.
	Dir string
	// Name is "topic" or "topic:channel". File names begin with it; on Windows
	// ':' becomes ';' there.
	Name string
	// Names is a listing of Dir made at start by [List]. Nil: Open lists Dir.
	Names *Names
	// MaxBytesPerFile is the length a data file does not exceed, unless one
	// larger record is alone in it. Zero: 100 MiB.
	MaxBytesPerFile int64
	// MinRecordSize is the size of the smallest payload, in bytes. Put refuses
	// smaller ones, and in a file they count as damage.
	MinRecordSize int32
	// MaxRecordSize is the size of the largest payload that is published now, in
	// bytes; zero: there is no such bound. Larger ones are read and taken back by
	// Put, as they were stored under another bound. But where a file ends inside
	// of one, that is taken for damage, not for a write that did not come to its end.
	MaxRecordSize int32
	// SyncEvery is how many records may be written before they are synced. At
	// 1 a Put returns only after an fsync. Otherwise a sync in the background
	// begins after that many, and a Put that would leave more than twice as
	// many unsynced waits for it. Zero: 2500.
	SyncEvery int64
	// SyncTimeout is how long after the first unsynced operation all is synced.
	// Zero: 2 s.
	SyncTimeout time.Duration
	// Notify is called, if not nil, whenever a token was left in Ready. Of the
	// queue's methods it may call Take.
	Notify func()
	// MaxReplay bounds what comes again after a crash although it was finished,
	// because something older was not: so many records, or 4 KiB for each where
	// records are large, and beyond that four times as much as is unfinished.
	// Zero: 4096.
	MaxReplay int64
	// Synced is told how each sync in the background went, with an error that names
	// the queue. What failed is tried again after SyncTimeout. Nil: nobody.
	Synced func(error)
	// Logger gets lines that begin "DISKQUEUE(<name>): ". Nil: none.
	Logger *slog.Logger
	// Shared is what this queue has in common with others. Nil: nothing.
	Shared *Shared
	// FS is the file system of a queue whose Shared is nil. Nil: the operating
	// system's.
	FS FS
}

func (o *Options) complete() error {
	if o.Name == "" || strings.ContainsAny(o.Name, `/\`+"\x00") {
		return fmt.Errorf("invalid queue name %q", o.Name)
	}
	if o.MinRecordSize < 0 || o.MaxRecordSize < 0 || o.MaxBytesPerFile < 0 || o.SyncEvery < 0 || o.SyncTimeout < 0 || o.MaxReplay < 0 {
		return errors.New("disk queue options must not be negative")
	}
	o.MaxBytesPerFile = cmp.Or(o.MaxBytesPerFile, 100<<20)
	o.MaxRecordSize = cmp.Or(o.MaxRecordSize, math.MaxInt32)
	o.SyncEvery = cmp.Or(o.SyncEvery, 2500)
	o.SyncTimeout = cmp.Or(o.SyncTimeout, 2*time.Second)
	o.MaxReplay = cmp.Or(o.MaxReplay, 4096)
	if o.Synced == nil {
		o.Synced = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Shared == nil {
		o.Shared = NewShared(SharedOptions{FS: o.FS})
	}
	return nil
}

// A Queue keeps records in files, first in, first out. All methods may be
// called at once from many goroutines.
type Queue struct {
	// Set once in Open.
	o     Options
	files *store
	dir   *sharedDir
	ready chan struct{}
	ended chan struct{} // closed when the queue is: nothing goes on in the background

	depth    atomic.Int64 // written with mu held
	newEntry atomic.Bool  // a data file was made and the directory not synced since

	gatherMu  sync.Mutex // guards gathering; never held while waiting
	gathering *group     // takes batches until its leader begins to write

	writeMu sync.Mutex // held for the write, and at SyncEvery 1 the fsync, of one group
	out     writer

	syncMu sync.Mutex // held for one fsync of a data file
	synced syncState

	metadataMu sync.Mutex // held for one save of the metadata
	savedSeq   int64      // of the snapshot that was saved last

	readMu sync.Mutex // held for one Take
	in     reader

	keptMu   sync.Mutex // held while the file of the kept is read or written
	keptFile keptFile

	mu          sync.Mutex // guards what follows; held for a few assignments
	closed      bool
	closing     bool // Close is next: it syncs, and saves the metadata
	read, write position
	window      window // between the position that is saved and read
	kept        kept
	done        []doneFile // read to their end, not removed yet
	counts      counts
	snapshots   int64 // made so far
	dataErr     error // of the last fsync
	metadataErr error // of the last save
	savedAt     time.Time
	retryRead   bool // a Take failed: announce Ready again when the timer fires
	stuck       bool // shortening the window failed: not before the timer fires
	timer       *time.Timer
	urgent      bool           // timer fires at once
	running     bool           // the timer's function is syncing
	background  sync.WaitGroup // timers armed or running
}

// counts are totals since Open; what is behind a sync or a save is the
// difference.
type counts struct {
	written, synced int64 // records
	ops, saved      int64 // records written, and finished so that the position to be saved moved
}

// Open opens the queue called o.Name, which need not exist: no file is made
// before the first Put. Whatever a crash or a damage has left is put right as
// far as possible and logged (see the package comment); the error is about
// options or I/O only.
func Open(o Options) (*Queue, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	q := &Queue{
		o: o,
		files: &store{
			fs: sharedFS{o.Shared.fs, o.Shared}, dir: o.Dir, name: FileName(o.Name), min: int64(o.MinRecordSize),
			log: o.Logger, head: "DISKQUEUE(" + o.Name + "): ",
		},
		ready: make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
	found, err := q.files.recover(o.Names, o.MaxRecordSize)
	if err != nil {
		return nil, fmt.Errorf("open disk queue %q: %w", o.Name, err)
	}
	q.o.Names = nil // it may be large
	q.dir = o.Shared.directory(o.Dir)
	q.window.first = 1
	q.keptFile.files = q.files
	if found.hasKept {
		if q.kept.orphans, err = q.keptFile.scan(); err != nil {
			return nil, fmt.Errorf("open disk queue %q: %w", o.Name, err)
		}
	}
	q.read, q.write, q.done = found.read, found.write, found.done
	q.in = reader{files: q.files, at: q.read}
	q.out = writer{hasMetadata: found.hasMetadata}
	q.synced.at = q.write
	q.depth.Store(found.depth)
	q.mu.Lock()
	if found.changed {
		// Salvaged records may be in the page cache only, and the metadata is old.
		q.synced.at = position{file: q.write.file}
		q.counts.written, q.counts.ops = 1, 1
		q.armLocked(q.o.SyncTimeout)
	}
	q.mu.Unlock()
	if len(q.kept.orphans) > 0 {
		q.recoverKept()
	}
	if q.read != q.write {
		q.announce()
	}
	return q, nil
}

// Ready is receivable when there may be something to take. It holds one token;
// Put leaves it and Take leaves it again when records remain, so that any
// number of goroutines can wait for it and none is forgotten.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

func (q *Queue) announce() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
	if q.o.Notify != nil {
		q.o.Notify()
	}
}

// Depth returns the number of records that wait. It never blocks.
func (q *Queue) Depth() int64 { return max(0, q.depth.Load()) }

// Err returns why the last fsync or the last save of the metadata failed, nil
// once it has been made good. It is retried after every SyncTimeout.
func (q *Queue) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return errors.Join(q.dataErr, q.metadataErr)
}

// Damage returns what was found damaged since Open.
func (q *Queue) Damage() Damage {
	return Damage{
		Records: q.files.damagedRecords.Load(),
		Bytes:   q.files.damagedBytes.Load(),
		Files:   q.files.damagedFiles.Load(),
	}
}

// Empty drops all records, those that were taken and are not finished included: it removes the data files and the metadata and goes
// on with the next file number. Set-aside files stay.
func (q *Queue) Empty() error {
	q.writeMu.Lock()
	defer q.writeMu.Unlock()
	return q.emptyLocked(false)
}

// Delete empties the queue and closes it. Calling it again does nothing.
func (q *Queue) Delete() error {
	if !q.shut() {
		return nil
	}
	q.writeMu.Lock()
	defer q.writeMu.Unlock()
	return q.emptyLocked(true)
}

// emptyLocked needs writeMu. It takes the other locks in their order, so that
// no fsync, no save and no Take is under way.
func (q *Queue) emptyLocked(closing bool) error {
	q.syncMu.Lock()
	defer q.syncMu.Unlock()
	q.metadataMu.Lock()
	defer q.metadataMu.Unlock()
	q.readMu.Lock()
	defer q.readMu.Unlock()
	q.keptMu.Lock()
	defer q.keptMu.Unlock()
	q.mu.Lock()
	if q.closed && !closing {
		q.mu.Unlock()
		return ErrClosed
	}
	first, last, done := q.read.file, q.write.file, q.done
	q.done = nil
	q.window.clear()
	q.kept = kept{last: q.kept.last}
	q.read = position{file: last + 1}
	q.write = q.read
	q.counts.synced, q.counts.saved = q.counts.written, q.counts.ops
	q.dataErr, q.metadataErr = nil, nil
	q.depth.Store(0)
	q.snapshots++
	q.savedSeq = q.snapshots // a save that has begun is out of date
	q.mu.Unlock()

	errs := []error{q.out.close(), q.in.reset(q.read)}
	q.synced = syncState{at: q.write}
	// The metadata goes last: a crash in between leaves it with a first file
	// that is missing, which costs nothing.
	q.files.dispose(done)
	for n := first; n <= last; n++ {
		errs = append(errs, q.files.remove(n))
	}
	errs = append(errs, q.keptFile.remove(), q.files.removeMetadata())
	q.out.hasMetadata = false
	return errors.Join(errs...)
}
