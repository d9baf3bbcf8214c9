package diskqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
)

const (
	// maxSlab is how much is read at once. Payloads are cut from the bytes
	// read, so it is also how much memory one payload that is kept can pin.
	maxSlab = 64 << 10
	// minSlab is what a reader begins with: a consumer that takes one record
	// now and then does not pin maxSlab for each.
	minSlab = 4 << 10
	// maxReadTries is how often a place is tried that gives an I/O error.
	maxReadTries = 3
	// recountLimit is the size of a backlog, in bytes, that is counted anew
	// when damage has made the depth wrong; beyond, it is put right at the end.
	recountLimit = 256 << 20
)

// Take appends the payloads of up to most records to dst and returns it. The
// caller owns them; they are never written again. Payloads that lie side by
// side share an allocation of at most 64 KiB, or of one record: who keeps one
// for long copies it. The first of them has the ticket that is returned, the
// others those that follow it; until [Queue.Finish] they come again after a crash.
//
// Damaged records are skipped, set aside and logged. An error comes with the
// records before it; Ready is announced again after SyncTimeout, and a place
// that fails for good is given up and counted as damage.
func (q *Queue) Take(dst [][]byte, most int) (_ [][]byte, first Ticket, err error) {
	dst, first, more, err := q.take(dst, most)
	if more {
		q.announce() // without a lock: who is told may pass the token on with another Take
	}
	return dst, first, err
}

// take is Take but for the token; it reports whether that is to be passed on.
func (q *Queue) take(dst [][]byte, most int) (_ [][]byte, first Ticket, more bool, err error) {
	q.readMu.Lock()
	defer q.readMu.Unlock()
	q.mu.Lock()
	closed, end := q.closed, q.write
	q.mu.Unlock()
	if closed {
		return dst, 0, false, ErrClosed
	}
	begin, damage := len(dst), q.files.damage()
	for len(dst)-begin < most {
		var payload []byte
		if payload, err = q.in.next(end); payload == nil {
			break
		}
		dst = append(dst, payload)
	}
	q.in.settle(end)
	first, more = q.endTake(err)
	q.checkDepth(q.files.damage() != damage)
	if err != nil {
		return dst, first, false, fmt.Errorf("read disk queue %q: %w", q.o.Name, err)
	}
	return dst, first, more, nil
}

// endTake publishes what a Take has done. It returns the ticket of the first record,
// and whether there are more.
func (q *Queue) endTake(err error) (first Ticket, more bool) {
	q.mu.Lock()
	q.done = append(q.done, q.in.done...)
	q.in.done = nil
	floor := q.window.floor(q.read)
	first = q.window.next()
	q.window.push(&q.in.taken)
	q.depth.Add(-int64(len(q.in.taken.sizes)))
	q.in.taken.reset()
	q.read = q.in.at
	if err != nil {
		q.retryRead = true
		q.armLocked(q.o.SyncTimeout)
	}
	if q.window.floor(q.read) != floor { // damage was passed, or the end of a file
		q.passedLocked(1)
	}
	more = q.read.before(q.write)
	q.mu.Unlock()
	return first, more
}

// Finish says that nobody needs the records of these tickets any more, so that
// they do not come again after a crash. It is noted on disk a little later.
// Tickets of records that are finished, or dropped by Empty, are passed over.
func (q *Queue) Finish(tickets ...Ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var done stretch
	struck := int64(0)
	for _, t := range tickets {
		if !q.window.set(t, finished, &done) && q.kept.strike(t) {
			struck++
		}
	}
	q.passedLocked(q.window.settle(finished, done) + struck)
}

// passedLocked sees to it that what has changed by n records being finished is
// noted on disk. It needs mu.
func (q *Queue) passedLocked(n int64) {
	q.counts.ops += n
	switch {
	case q.disposableLocked(), q.window.tooLong(q.o.MaxReplay) && !q.stuck:
		q.armLocked(0)
	case q.counts.ops-q.counts.saved >= q.o.SyncEvery:
		q.armLocked(min(saveDelay, q.o.SyncTimeout))
	case n > 0:
		q.armLocked(q.o.SyncTimeout)
	}
}

// disposableLocked reports whether a file is not needed any more. It needs mu.
func (q *Queue) disposableLocked() bool {
	return len(q.done) > 0 && q.done[0].number < q.window.floor(q.read).file
}

// checkDepth puts the depth right when the records contradict it. readMu is
// held.
func (q *Queue) checkDepth(damaged bool) {
	q.mu.Lock()
	depth, end := q.depth.Load(), q.write
	atEnd := !q.in.at.before(end)
	if atEnd {
		q.depth.Store(0)
	}
	q.mu.Unlock()
	if atEnd {
		if depth != 0 && !damaged {
			q.files.log.Warn(q.files.head+"depth corrected at the end", slog.Int64("depth", depth))
		}
		return
	}
	if !damaged && depth > 0 {
		return
	}
	records, err := q.files.countUpTo(q.in.at, end, recountLimit)
	if err != nil {
		if !errors.Is(err, errTooLong) {
			q.files.warn("failed to count records", err)
		}
		return
	}
	q.mu.Lock()
	q.depth.Add(records - depth) // what was put meanwhile stays counted
	q.mu.Unlock()
}

// A doneFile is read to its end. It goes once the position that is saved is beyond
// it: all of it is finished, and a crash does not find the position in a file that
// is missing.
type doneFile struct {
	number int64
	keep   bool // set it aside instead
}

// reader is the taking end of the queue. Guarded by Queue.readMu.
type reader struct {
	files *store
	at    position // of the next record
	file  File     // nil when closed; next opens it again
	size  int64    // of the file, once it is known to be finished; else 0
	buf   []byte   // read ahead, from at on; never written again
	fresh bool     // nothing was taken from buf since it was read
	slab  int64    // size of the last slab

	// Of the Take under way.
	taken run
	done  []doneFile

	believed int64 // a record that ends here needs no fitting successor
	tries    int   // failed reads in a row
	keep     bool  // damage could not be copied aside: set the whole file aside
}

// reset closes the file, drops what was read ahead and goes to at.
func (r *reader) reset(at position) error {
	f, fresh := r.file, reader{files: r.files, at: at, taken: r.taken, done: r.done}
	if at.file == r.at.file {
		fresh.keep, fresh.tries = r.keep, r.tries
	}
	*r = fresh
	if f == nil {
		return nil
	}
	return f.Close()
}

// next returns the next payload before end, nil when there is none.
func (r *reader) next(end position) ([]byte, error) {
	for {
		limit, found, err := r.limit(end)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		if r.at.offset >= limit {
			if r.at.file >= end.file {
				r.drained()
				return nil, nil
			}
			r.finish()
			continue
		}
		if payload := r.cut(limit); payload != nil {
			return payload, nil
		}
		if err := r.load(limit); err == nil {
			r.tries = 0
			continue
		} else if r.tries++; r.tries < maxReadTries && !errors.Is(err, errTorn) {
			return nil, err
		} else {
			r.tries = 0
			r.giveUp(end, err)
		}
	}
}

// limit returns where the records of the current file end: at end, or at the
// real size of a file that is finished. It opens the file; if that is missing,
// found is false and reading goes on elsewhere.
func (r *reader) limit(end position) (limit int64, found bool, err error) {
	if r.file == nil && r.at.before(end) {
		f, err := r.files.openRead(r.at.file)
		if isMissing(err) {
			r.files.lost(r.files.dataPath(r.at.file), r.at.offset, errMissing)
			r.skipFile(end)
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		r.file = f
	}
	if r.at.file >= end.file {
		return end.offset, true, nil
	}
	if r.size == 0 {
		if r.size, err = r.file.Size(); err != nil {
			return 0, false, err
		}
	}
	return r.size, true, nil
}

// cut takes the next payload out of what was read ahead: nil if not all of it,
// with the length of its successor, is there and fits.
func (r *reader) cut(limit int64) []byte {
	b, rest := r.buf, limit-r.at.offset
	if len(b) < headerSize {
		return nil
	}
	length := binary.BigEndian.Uint32(b)
	if !fits(length, r.files.min, rest) {
		return nil
	}
	n := headerSize + int64(length)
	if int64(len(b)) < n {
		return nil
	}
	if n < rest && r.at.offset+n != r.believed {
		if int64(len(b)) < n+headerSize || !fits(binary.BigEndian.Uint32(b[n:]), r.files.min, rest-n) {
			return nil
		}
	}
	r.buf, r.fresh = b[n:], false
	r.taken.add(r.at, n)
	r.at.offset += n
	return b[headerSize:n:n]
}

// load reads on for cut, or finds out why cut has failed.
func (r *reader) load(limit int64) error {
	off, rest := r.at.offset, limit-r.at.offset
	if !r.fresh {
		r.slab = min(max(2*r.slab, minSlab), maxSlab)
		return r.fill(off, min(r.slab, rest))
	}
	// All that was read begins with this record, and it was not enough.
	if rest < headerSize {
		return r.judge(limit)
	}
	if len(r.buf) < headerSize {
		return errTorn
	}
	length := binary.BigEndian.Uint32(r.buf)
	if !fits(length, r.files.min, rest) {
		return r.judge(limit)
	}
	n := headerSize + int64(length)
	if n < rest && off+n != r.believed {
		// Checked before anything is allocated for a length that may be wrong.
		var successor [headerSize]byte
		if _, err := readFull(r.file, successor[:min(headerSize, rest-n)], off+n); err != nil {
			return err
		}
		if !fits(binary.BigEndian.Uint32(successor[:]), r.files.min, rest-n) {
			return r.judge(limit)
		}
		r.believed = off + n
	}
	if int64(len(r.buf)) >= n {
		return nil
	}
	if err := r.fill(off, n); err != nil {
		return err
	}
	if int64(len(r.buf)) < n {
		return errTorn
	}
	return nil
}

// fill reads n bytes from off on, or as many as there are, into fresh memory.
func (r *reader) fill(off, n int64) error {
	b := make([]byte, n)
	got, err := readFull(r.file, b, off)
	if err != nil {
		return err
	}
	r.buf, r.fresh = b[:got], true
	return nil
}

// judge finds out whether the record at hand is damaged; if it is, its bytes
// are set aside and reading goes on behind them.
func (r *reader) judge(limit int64) error {
	off := r.at.offset
	x := extent{r: r.file, limit: limit, min: r.files.min}
	resume, err := x.judge(off)
	if err != nil {
		return err
	}
	if resume == off {
		end, _, err := x.next(off)
		r.believed = end
		return err
	}
	if !r.files.setAside(r.at.file, r.file, off, resume, errBadRecord) {
		r.keep = true
	}
	r.at.offset, r.buf, r.fresh = resume, nil, false
	return nil
}

// settle goes to the next file if the current one is finished and read, so
// that it is removed soon after its last record is taken.
func (r *reader) settle(end position) {
	for r.at.file < end.file && r.file != nil {
		size, _, err := r.limit(end)
		if err != nil || r.at.offset < size {
			return
		}
		r.finish()
	}
	if !r.at.before(end) {
		r.drained()
	}
}

// drained gives the memory back.
func (r *reader) drained() { r.buf, r.fresh, r.slab = nil, false, 0 }

// finish goes from the current file, which is read to its end, to the next.
func (r *reader) finish() {
	r.done = append(r.done, doneFile{number: r.at.file, keep: r.keep})
	r.moveTo(position{file: r.at.file + 1})
}

// giveUp leaves a file that cannot be read on: it is set aside as a whole, or,
// if it is still written to, stays until it is finished.
func (r *reader) giveUp(end position, err error) {
	r.files.lost(r.files.dataPath(r.at.file), r.at.offset, err)
	r.keep = true
	if r.at.file < end.file {
		r.finish()
		return
	}
	r.skipFile(end)
}

// skipFile goes to the next file or, in the file being written, to its end.
func (r *reader) skipFile(end position) {
	if r.at.file >= end.file {
		r.moveTo(end)
		return
	}
	r.moveTo(position{file: r.at.file + 1})
}

func (r *reader) moveTo(at position) {
	if err := r.reset(at); err != nil {
		r.files.warn("failed to close data file", err)
	}
}
