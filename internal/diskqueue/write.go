package diskqueue

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxGather is how many bytes of several batches are copied together for one
// write call; a single batch is written from where it is.
const maxGather = 256 << 10

// gatherBuffers hold batches of several publishers while they are written.
var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, maxGather); return &b }}

// writer is the open end of the queue. Guarded by Queue.writeMu.
type writer struct {
	file        File // nil when closed; a write opens it again
	hasMetadata bool // there is a metadata file
	torn        bool // a failed write could not be undone on disk yet
	returning   returning
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return f.Close()
}

// restore cuts off what a failed write has left.
func (w *writer) restore(q *Queue) error {
	if !w.torn {
		return nil
	}
	q.mu.Lock()
	end := q.write
	q.mu.Unlock()
	err := q.files.cutFile(end.file, end.offset)
	w.torn = err != nil
	return err
}

// commitLocked writes the batches, syncs them if that is due, and only then
// shows them to readers. It needs writeMu.
func (q *Queue) commitLocked(batches []*Batch) error {
	q.mu.Lock()
	closed, closing, start := q.closed, q.closing, q.write
	unsynced, sick := q.counts.written-q.counts.synced, q.dataErr != nil
	q.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err := q.out.restore(q); err != nil {
		return fmt.Errorf("write to disk queue %q: %w", q.o.Name, err)
	}
	c := commit{q: q, at: start}
	err := c.write(batches, closing)
	inline := !closing && (q.o.SyncEvery == 1 || sick || unsynced+c.records > 2*q.o.SyncEvery)
	if err == nil && inline {
		start := time.Now()
		err = q.syncData(q.out.file, c.at)
		q.out.returning.synced(time.Since(start))
	}
	if err != nil {
		c.undo(start)
		return fmt.Errorf("write to disk queue %q: %w", q.o.Name, err)
	}
	q.mu.Lock()
	q.write = c.at
	q.depth.Add(c.records)
	q.counts.written += c.records
	q.counts.ops += c.records
	if inline {
		q.counts.synced = q.counts.written
	}
	if q.counts.written-q.counts.synced >= q.o.SyncEvery {
		q.armLocked(0)
	} else {
		q.armLocked(q.o.SyncTimeout)
	}
	q.mu.Unlock()
	q.announce()
	return nil
}

// Try finds out whether a batch of that many bytes could be put: it writes as many
// zeros behind the end, syncs them and cuts them off again. What a crash in
// between leaves, Open removes. The error is that of Put.
func (q *Queue) Try(size int) error {
	q.writeMu.Lock()
	defer q.writeMu.Unlock()
	q.mu.Lock()
	closed, end := q.closed, q.write
	q.mu.Unlock()
	if closed {
		return ErrClosed
	}
	err := q.out.restore(q)
	if err == nil {
		err = q.tryLocked(end, int64(size))
	}
	if err != nil {
		return fmt.Errorf("write to disk queue %q: %w", q.o.Name, err)
	}
	return nil
}

// tryLocked needs writeMu.
func (q *Queue) tryLocked(end position, size int64) error {
	c := commit{q: q, at: end}
	if err := c.ensureMetadata(); err != nil {
		return err
	}
	if err := c.ensureFile(end.offset); err != nil {
		return err
	}
	q.out.torn = true
	zeros := make([]byte, min(size, maxGather))
	var err error
	for at := int64(0); at < size && err == nil; at += int64(len(zeros)) {
		_, err = q.out.file.WriteAt(zeros[:min(int64(len(zeros)), size-at)], end.offset+at)
	}
	if err == nil {
		err = q.out.file.Sync()
	}
	return errors.Join(err, q.out.restore(q))
}

// A commit is the writing of one group.
type commit struct {
	q       *Queue
	at      position // where the next record goes
	records int64    // added so far
	pending []byte   // ends at at, not written yet
	scratch *[]byte  // from gatherBuffers

	gathered bool // pending is in scratch, not in a batch
}

// write adds all batches, file by file.
func (c *commit) write(batches []*Batch, closing bool) error {
	defer func() {
		if c.scratch != nil {
			gatherBuffers.Put(c.scratch)
		}
	}()
	if !closing {
		if err := c.ensureMetadata(); err != nil {
			return err
		}
	}
	for _, b := range batches {
		for next := 0; next < b.Len(); {
			first := next
			start := 0
			if first > 0 {
				start = b.ends[first-1]
			}
			next = c.fit(b, first, start)
			if next == first {
				if err := c.roll(); err != nil {
					return err
				}
				continue
			}
			if err := c.add(b.buf[start:b.ends[next-1]]); err != nil {
				return err
			}
			c.records += int64(next - first)
		}
	}
	return c.flush()
}

// fit returns the end of the run of records from first on, which begins at
// start in b, that goes into the current file. A record that would make it too
// long goes to the next file, unless this one is empty.
func (c *commit) fit(b *Batch, first, start int) int {
	room := c.q.o.MaxBytesPerFile - c.at.offset
	if int64(b.Size()-start) <= room {
		return b.Len()
	}
	next := first
	for next < b.Len() && int64(b.ends[next]-start) <= room {
		next++
	}
	if next == first && c.at.offset == 0 {
		next++
	}
	return next
}

// add puts the bytes of some records behind pending.
func (c *commit) add(run []byte) error {
	if len(c.pending) > 0 && len(c.pending)+len(run) > maxGather {
		if err := c.flush(); err != nil {
			return err
		}
	}
	switch {
	case len(c.pending) == 0:
		c.pending = run
	case c.gathered:
		c.pending = append(c.pending, run...)
	default:
		if c.scratch == nil {
			c.scratch = gatherBuffers.Get().(*[]byte)
		}
		c.pending = append(append((*c.scratch)[:0], c.pending...), run...)
		c.gathered = true
	}
	c.at.offset += int64(len(run))
	return nil
}

// flush writes what is pending with one call.
func (c *commit) flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	begin := c.at.offset - int64(len(c.pending))
	if err := c.ensureFile(begin); err != nil {
		return err
	}
	if _, err := c.q.out.file.WriteAt(c.pending, begin); err != nil {
		return err
	}
	c.pending, c.gathered = nil, false
	return nil
}

// ensureMetadata makes the metadata file if there is none: upstream ignores, and
// then overwrites, data without it.
func (c *commit) ensureMetadata() error {
	if c.q.out.hasMetadata {
		return nil
	}
	if err := c.saveMetadata(c.q.o.SyncEvery == 1); err != nil {
		return err
	}
	c.q.out.hasMetadata = true
	return nil
}

// ensureFile opens the file that is written, in which the next byte is at begin.
func (c *commit) ensureFile(begin int64) error {
	if c.q.out.file != nil {
		return nil
	}
	f, created, err := c.q.files.openWrite(c.at.file, begin)
	if err != nil {
		return err
	}
	c.q.out.file = f
	if created {
		c.q.newEntry.Store(true)
	}
	return nil
}

// roll goes on with the next file. The old one is synced and the metadata
// points at the new one before it exists: upstream, opening after a crash,
// looks no further than one file beyond what the metadata says.
func (c *commit) roll() error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.q.syncData(c.q.out.file, c.at); err != nil {
		return err
	}
	end := c.at
	c.at = position{file: end.file + 1}
	if err := c.saveMetadata(true); err != nil {
		c.at = end
		return err
	}
	return c.q.out.close()
}

// saveMetadata saves the state in which what this commit has added counts.
func (c *commit) saveMetadata(durable bool) error {
	s := c.q.snapshot()
	s.metadata.depth += c.records
	s.metadata.write = c.at
	return c.q.saveMetadata(s, durable)
}

// undo takes back on disk what this commit has written. Where that fails too,
// the next write or Close does it; a crash before would bring back records that
// were refused.
func (c *commit) undo(start position) {
	q := c.q
	errs := []error{q.out.close()}
	for n := c.at.file; n > start.file; n-- {
		errs = append(errs, q.files.remove(n))
	}
	q.syncMu.Lock()
	if start.before(q.synced.at) {
		q.synced.at = start
	}
	q.syncMu.Unlock()
	q.out.torn = true
	errs = append(errs, q.out.restore(q))
	q.mu.Lock()
	q.counts.ops++ // a rollover may have saved what no longer holds
	q.armLocked(q.o.SyncTimeout)
	q.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		q.files.warn("failed to undo a write", err)
	}
}
