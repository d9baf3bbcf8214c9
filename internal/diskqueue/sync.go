package diskqueue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// saveDelay bounds how often the metadata of a busy queue is saved: every second
// SyncEvery would be thousands of renames a second. Saved positions that are late
// cost repeated deliveries and a scan after a crash, never a loss.
const saveDelay = 100 * time.Millisecond

// syncState is what the fsyncs have covered. Guarded by Queue.syncMu.
type syncState struct {
	at position // all before is on stable storage
	// An fsync failed: the kernel may have dropped the pages it could not
	// write and call them clean. What lies behind at is written once more.
	suspect bool
}

// A snapshot is the state of the queue at one moment, to be saved.
type snapshot struct {
	metadata metadata
	counts   counts
	done     bool      // there are files to dispose of once this is saved
	savedAt  time.Time // when another was, last
	seq      int64     // later snapshots have higher ones
}

func (q *Queue) snapshot() snapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.snapshots++
	return snapshot{
		metadata: metadata{
			depth: q.depth.Load() + int64(q.window.len()),
			read:  q.window.floor(q.read),
			write: q.write,
		},
		counts:  q.counts,
		done:    q.disposableLocked(),
		savedAt: q.savedAt,
		seq:     q.snapshots,
	}
}

// isDue reports whether it is time to save s.
func (s *snapshot) isDue() bool {
	return s.done || s.counts.ops > s.counts.saved && time.Since(s.savedAt) >= saveDelay
}

// armLocked makes the timer's function run after d unless it will sooner. It
// needs mu.
func (q *Queue) armLocked(d time.Duration) {
	if q.closed || q.closing || d == 0 && q.running {
		return // Close syncs; the running sync looks again when it ends
	}
	if q.timer != nil {
		if d > 0 || q.urgent || !q.timer.Stop() {
			return
		}
		q.background.Done()
	}
	q.urgent = d == 0
	q.background.Add(1)
	q.timer = time.AfterFunc(d, q.onTimer)
}

// onTimer syncs in the background, on a goroutine that lives only for that.
func (q *Queue) onTimer() {
	defer q.background.Done()
	select {
	case q.o.Shared.background <- struct{}{}:
		defer func() { <-q.o.Shared.background }()
	case <-q.ended:
		return
	}
	q.mu.Lock()
	q.timer, q.urgent = nil, false
	if q.closed {
		q.mu.Unlock()
		return
	}
	q.running = true
	retryRead, tooLong, orphans := q.retryRead, q.window.tooLong(q.o.MaxReplay), len(q.kept.orphans) > 0
	q.retryRead, q.stuck = false, false
	q.mu.Unlock()
	if retryRead {
		q.announce()
	}

	var errs [3]error
	if orphans {
		errs[0] = q.returnOrphans()
	}
	if tooLong {
		errs[1] = q.shorten()
	}
	errs[2] = q.flush(false)
	err := errors.Join(errs[:]...)
	if err != nil {
		q.files.error("failed to sync", err)
		err = fmt.Errorf("sync disk queue %q: %w", q.o.Name, err)
	}
	q.o.Synced(err)
	q.mu.Lock()
	q.running = false
	q.stuck = errs[1] != nil
	switch {
	case err != nil:
		q.armLocked(q.o.SyncTimeout)
	case q.counts.written-q.counts.synced >= q.o.SyncEvery || q.disposableLocked() || q.window.tooLong(q.o.MaxReplay):
		q.armLocked(0)
	case q.counts.ops > q.counts.saved:
		q.armLocked(min(saveDelay, q.o.SyncTimeout)) // flush has put it off
	}
	idle := q.timer == nil && q.counts.ops == q.counts.saved
	q.mu.Unlock()
	if idle {
		q.release()
	}
}

// flush syncs the data and saves the metadata as they were when it began, as far
// as that is needed. In the background it puts off saving what was saved a moment
// ago; closing, which needs writeMu, it makes sure that there is metadata.
func (q *Queue) flush(closing bool) error {
	s := q.snapshot()
	if s.counts.written > s.counts.synced {
		if err := q.syncData(nil, s.metadata.write); err != nil {
			return err
		}
		q.mu.Lock()
		q.counts.synced = max(q.counts.synced, s.counts.written)
		q.mu.Unlock()
	}
	if closing && !q.savesLast(s) || !closing && !s.isDue() {
		return q.flushKept()
	}
	if err := q.syncKept(); err != nil {
		return err
	}
	// Saved only now: the metadata must not speak of data that a power loss
	// can still take away.
	err := q.saveMetadata(s, true)
	// Also when the save has failed: on a full disk this is what makes room.
	return errors.Join(err, q.clearUp(s.metadata.read.file))
}

// savesLast reports whether Close has to save the metadata. It needs writeMu.
func (q *Queue) savesLast(s snapshot) bool {
	return s.counts.ops > s.counts.saved || !q.out.hasMetadata
}

// clearUp removes what is not needed any more once the metadata with the read
// position in the file of that number was saved.
func (q *Queue) clearUp(number int64) error {
	q.mu.Lock()
	var done []doneFile
	q.done = slices.DeleteFunc(q.done, func(f doneFile) bool {
		if f.number >= number {
			return false
		}
		done = append(done, f)
		return true
	})
	q.mu.Unlock()
	q.files.dispose(done)
	return q.flushKept()
}

// release closes the files of a queue that nobody uses at the moment.
func (q *Queue) release() {
	if q.writeMu.TryLock() {
		if err := q.out.close(); err != nil {
			q.files.warn("failed to close data file", err)
		}
		q.writeMu.Unlock()
	}
	if q.readMu.TryLock() {
		if err := q.in.reset(q.in.at); err != nil {
			q.files.warn("failed to close data file", err)
		}
		q.readMu.Unlock()
	}
	if q.keptMu.TryLock() {
		if err := q.keptFile.close(); err != nil {
			q.files.warn("failed to close file of kept records", err)
		}
		q.keptMu.Unlock()
	}
}

// syncData makes everything before end survive a power loss. f is the data file
// of end; nil lets syncData open it. All files before were synced when they
// were finished.
func (q *Queue) syncData(f File, end position) error {
	q.syncMu.Lock()
	defer q.syncMu.Unlock()
	if !q.synced.at.before(end) && !q.newEntry.Load() {
		return nil
	}
	err := q.syncDataLocked(f, end)
	if err != nil {
		q.synced.suspect = true
		err = fmt.Errorf("sync data file: %w", err)
	} else if q.synced.at.before(end) {
		q.synced.at, q.synced.suspect = end, false
	}
	q.mu.Lock()
	q.dataErr = err
	q.mu.Unlock()
	return err
}

func (q *Queue) syncDataLocked(f File, end position) (err error) {
	if q.newEntry.Swap(false) {
		if err := q.files.fs.SyncDir(q.files.dir); err != nil {
			q.newEntry.Store(true)
			return err
		}
	}
	if q.synced.at.file > end.file {
		return nil // finished meanwhile
	}
	if f == nil || q.synced.suspect {
		f, err = q.files.fs.OpenFile(q.files.dataPath(end.file), os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // read to its end and removed meanwhile, or never written
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	if q.synced.suspect {
		from := int64(0)
		if q.synced.at.file == end.file {
			from = q.synced.at.offset
		}
		if err := rewrite(f, from, end.offset); err != nil {
			return err
		}
	}
	return f.Sync()
}

// rewrite writes the bytes between from and to over themselves, which makes the
// kernel write them to the disk again.
func rewrite(f File, from, to int64) error {
	b := make([]byte, min(64<<10, to-from))
	for from < to {
		n, err := readFull(f, b[:min(int64(len(b)), to-from)], from)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if _, err := f.WriteAt(b[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// saveMetadata saves a snapshot unless a later one has been saved.
func (q *Queue) saveMetadata(s snapshot, durable bool) error {
	q.metadataMu.Lock()
	defer q.metadataMu.Unlock()
	if s.seq < q.savedSeq {
		return nil
	}
	err := q.files.writeMetadata(s.metadata, durable)
	q.mu.Lock()
	q.metadataErr = err
	if err == nil {
		q.counts.saved = max(q.counts.saved, s.counts.ops)
		q.savedAt = time.Now()
	}
	q.mu.Unlock()
	if err == nil {
		q.savedSeq = s.seq
	}
	return err
}
