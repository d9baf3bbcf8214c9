package diskqueue

import (
	"errors"
	"fmt"
	"io"
	"maps"
)

const (
	// rewriteAbove is the size in bytes from which on the file of the kept is
	// written anew when less than a quarter of it is unfinished.
	rewriteAbove = 1 << 20
	// moveAtOnce is how many records are copied there at a time.
	moveAtOnce = 256
	// returnAtOnce is how many bytes go back from there at a time.
	returnAtOnce = 1 << 20
)

// kept is which records are in the file of the kept: those that were taken long
// ago, and those that never were in the queue. Guarded by Queue.mu.
type kept struct {
	places map[Ticket]place // of the unfinished ones
	bytes  int64            // of those
	struck []place          // finished, and not marked so in the file yet
	// orphans were left unfinished by a former process, and are not back in the
	// queue yet. Written with writeMu held, too.
	orphans []place
	last    Ticket // of the last that Keep has stored; those are negative
}

func (k *kept) hold(t Ticket, p place) {
	if k.places == nil {
		k.places = make(map[Ticket]place)
	}
	k.places[t] = p
	k.bytes += p.size
}

// strike notes that the record of a ticket is finished, and reports whether there
// was one.
func (k *kept) strike(t Ticket) bool {
	p, ok := k.places[t]
	if ok {
		delete(k.places, t)
		k.bytes -= p.size
		k.struck = append(k.struck, p)
	}
	return ok
}

// Keep stores the records of b beside the queue, as if they had been taken: the
// caller has them, under the ticket that is returned and those that follow it.
// They do not count in the depth, and come out of the queue only if it is opened
// after a crash that came before they were finished. Errors are those of Put.
func (q *Queue) Keep(b *Batch) (first Ticket, err error) {
	if err := b.check(q.o.MinRecordSize); err != nil {
		return 0, err
	}
	q.keptMu.Lock()
	defer q.keptMu.Unlock()
	if q.isClosed() {
		return 0, ErrClosed
	}
	places, err := q.keptFile.append(b.payloads(), q.o.SyncEvery == 1)
	if err != nil {
		return 0, fmt.Errorf("write to disk queue %q: %w", q.o.Name, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kept.last -= Ticket(len(places))
	for i, p := range places {
		q.kept.hold(q.kept.last+Ticket(i), p)
	}
	q.counts.ops += int64(len(places))
	q.armLocked(q.o.SyncTimeout)
	return q.kept.last, nil
}

func (q *Queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// shorten moves the oldest unfinished records out of a window that is too long.
func (q *Queue) shorten() error {
	q.keptMu.Lock() // the queue is not emptied meanwhile
	defer q.keptMu.Unlock()
	for {
		q.mu.Lock()
		if q.closed || !q.window.tooLong(q.o.MaxReplay) {
			q.mu.Unlock()
			return nil
		}
		held := q.window.oldest(q.o.MaxReplay, moveAtOnce)
		q.mu.Unlock()
		if err := q.moveLocked(held); err != nil {
			return err
		}
	}
}

// moveLocked moves records to the file of the kept. It needs keptMu.
func (q *Queue) moveLocked(held []heldRecord) error {
	payloads, err := q.files.readAgain(held)
	if err != nil {
		return fmt.Errorf("read unfinished records: %w", err)
	}
	// The saved position will pass what these were read from: before that they
	// are on stable storage here.
	places, err := q.keptFile.append(payloads, true)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var done stretch
	for i, h := range held {
		if q.window.set(h.ticket, moved, &done) {
			q.kept.hold(h.ticket, places[i])
		} else {
			q.kept.struck = append(q.kept.struck, places[i]) // finished meanwhile
		}
	}
	q.passedLocked(q.window.settle(moved, done))
	return nil
}

// readAgain returns the payloads of records that were taken.
func (s *store) readAgain(held []heldRecord) (payloads [][]byte, err error) {
	var f File
	number := int64(-1)
	defer func() {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, h := range held {
		if h.at.file != number {
			next, err := s.openRead(h.at.file)
			if err != nil {
				return nil, err
			}
			if f != nil {
				if err := f.Close(); err != nil {
					s.warn("failed to close data file", err)
				}
			}
			f, number = next, h.at.file
		}
		b := make([]byte, h.size)
		n, err := readFull(f, b, h.at.offset)
		if err == nil && n < len(b) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		payloads = append(payloads, b[headerSize:])
	}
	return payloads, nil
}

// syncKept makes what Keep has stored survive a power loss.
func (q *Queue) syncKept() error {
	q.keptMu.Lock()
	defer q.keptMu.Unlock()
	if err := q.keptFile.sync(); err != nil {
		return fmt.Errorf("sync kept records: %w", err)
	}
	return nil
}

// flushKept notes in the file of the kept what was finished, and removes it when
// that is all.
func (q *Queue) flushKept() error {
	q.keptMu.Lock()
	defer q.keptMu.Unlock()
	q.mu.Lock()
	struck, bytes := q.kept.struck, q.kept.bytes
	live, orphans := len(q.kept.places) > 0, len(q.kept.orphans) > 0
	q.kept.struck = nil
	q.mu.Unlock()
	if q.keptFile.size == 0 {
		return nil
	}
	if !live && !orphans {
		return q.keptFile.remove()
	}
	if err := q.keptFile.mark(struck); err != nil {
		q.mu.Lock()
		q.kept.struck = append(q.kept.struck, struck...)
		q.mu.Unlock()
		return err
	}
	if q.keptFile.size > rewriteAbove && bytes < q.keptFile.size/4 && !orphans {
		return q.rewriteKeptLocked()
	}
	return nil
}

// rewriteKeptLocked rids the file of the kept of what is finished. It needs keptMu.
func (q *Queue) rewriteKeptLocked() error {
	q.mu.Lock()
	from := maps.Clone(q.kept.places)
	q.mu.Unlock()
	to, err := q.keptFile.rewrite(from)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kept.struck = nil // these places are of the former file
	for t, p := range to {
		if _, ok := q.kept.places[t]; ok {
			q.kept.places[t] = p
		} else {
			q.kept.struck = append(q.kept.struck, p) // finished meanwhile
		}
	}
	return nil
}

// recoverKept is returnOrphans for Open. All is written down at once: killed again
// soon, the process would leave these records twice.
func (q *Queue) recoverKept() {
	err := q.returnOrphans()
	if err == nil {
		err = q.flush(true)
	}
	if err != nil {
		q.files.error("failed to put unfinished records back, will try again", err)
		q.mu.Lock()
		q.armLocked(q.o.SyncTimeout)
		q.mu.Unlock()
	}
}

// returnOrphans puts what a former process has kept and not finished at the end of
// the queue. Where it fails, the rest is left for the next time.
func (q *Queue) returnOrphans() error {
	q.writeMu.Lock()
	defer q.writeMu.Unlock()
	q.mu.Lock()
	orphans := q.kept.orphans
	q.mu.Unlock()
	for len(orphans) > 0 {
		q.keptMu.Lock()
		batch, err := q.readKeptLocked(orphans)
		q.keptMu.Unlock()
		if err != nil {
			return err
		}
		if err := q.commitLocked([]*Batch{batch}); err != nil {
			return fmt.Errorf("return unfinished records: %w", err)
		}
		q.mu.Lock()
		q.kept.struck = append(q.kept.struck, orphans[:batch.Len()]...)
		orphans = orphans[batch.Len():]
		q.kept.orphans = orphans
		q.mu.Unlock()
	}
	return nil
}

// readKeptLocked reads some of these records, at least one. It needs keptMu.
func (q *Queue) readKeptLocked(places []place) (*Batch, error) {
	batch := new(Batch)
	for _, p := range places {
		if batch.Len() > 0 && int64(batch.Size())+p.size > returnAtOnce {
			break
		}
		payload, err := q.keptFile.payload(p)
		if err != nil {
			return nil, err
		}
		batch.Append(func(dst []byte) []byte { return append(dst, payload...) })
	}
	return batch, nil
}
