package diskqueue

import "time"

// A group is the batches that are written and synced together. The Put that
// starts a group leads it: it waits until the group before is done, then
// commits for all that joined meanwhile.
type group struct {
	batches []*Batch
	done    chan struct{} // closed when err is set; made by the first follower
	err     error

	wanted int           // how many batches the leader waits for; 0: it does not wait
	full   chan struct{} // closed when there are so many
}

// Put appends the records of b, which may be read until Put returns. It returns
// after write(2), and at SyncEvery 1 after fsync; calls that overlap share
// both. An error means that none of the records is in the queue: the file is
// cut back to what was accepted before, and the next Put tries anew.
func (q *Queue) Put(b *Batch) error {
	if b.Len() == 0 {
		return nil
	}
	if err := b.check(q.o.MinRecordSize); err != nil {
		return err
	}
	q.gatherMu.Lock()
	if g := q.gathering; g != nil {
		g.batches = append(g.batches, b)
		if len(g.batches) == g.wanted {
			close(g.full)
		}
		if g.done == nil {
			g.done = make(chan struct{})
		}
		q.gatherMu.Unlock()
		<-g.done
		return g.err
	}
	g := &group{batches: []*Batch{b}}
	q.gathering = g
	q.gatherMu.Unlock()

	q.writeMu.Lock()
	q.closeGroupLocked(g)
	err := q.commitLocked(g.batches)
	q.releaseLocked(g)
	q.writeMu.Unlock()
	if g.done != nil {
		g.err = err
		close(g.done)
	}
	return err
}

// closeGroupLocked ends the gathering: who comes now belongs to the next group.
// It needs writeMu. Where an fsync takes long it first waits for the publishers that
// the group before has just released: otherwise 16 publishers settle into groups of
// 15 and 1, two fsyncs for 16 records.
func (q *Queue) closeGroupLocked(g *group) {
	r := &q.out.returning
	q.gatherMu.Lock()
	if wait := r.wait(len(g.batches)); wait > 0 {
		g.wanted, g.full = r.publishers, make(chan struct{})
		q.gatherMu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-g.full:
		case <-timer.C:
		}
		timer.Stop()
		q.gatherMu.Lock()
		r.waited(len(g.batches) >= g.wanted)
	}
	q.gathering = nil
	q.gatherMu.Unlock()
}

// releaseLocked notes who may come again, now that g is done. It needs writeMu.
func (q *Queue) releaseLocked(g *group) {
	if q.o.SyncEvery > 1 {
		return
	}
	r := &q.out.returning
	r.publishers, r.released = len(g.batches), time.Now()
	q.gatherMu.Lock()
	if q.gathering != nil {
		r.publishers += len(q.gathering.batches)
	}
	q.gatherMu.Unlock()
}

// returning is what a leader knows of publishers who come again as soon as they are
// answered, and whether it pays to wait for them. Guarded by Queue.writeMu.
type returning struct {
	publishers int           // in the last group, and waiting when it was done
	released   time.Time     // when it was done
	took       time.Duration // an fsync, of late; see synced

	skip   int // groups that are not waited for
	misses int // how often publishers have not come in time, less how often they have
}

const (
	// minWait is from which duration of an fsync on a leader waits. Within a shorter
	// one publishers are answered and come again while the next runs, and a timer may be
	// late by a millisecond.
	minWait = 500 * time.Microsecond
	// maxWait is how long it waits at most, however slow the disk.
	maxWait = 10 * time.Millisecond
	// maxMisses bounds how rarely it waits for publishers that seldom come: with one
	// in 64 groups.
	maxMisses = 6
)

// wait returns how long to wait with a group of that many for others: until an
// fsync's time after the last one has ended, so that it never costs more than an fsync
// that it may save.
func (r *returning) wait(members int) time.Duration {
	if r.took < minWait || members >= r.publishers {
		return 0
	}
	left := time.Until(r.released.Add(min(r.took, maxWait)))
	if left <= 0 {
		return 0
	}
	if r.skip > 0 {
		r.skip--
		return 0
	}
	return left
}

// waited notes whether those who were waited for have come.
func (r *returning) waited(came bool) {
	if came {
		r.misses = max(r.misses-1, 0)
		return
	}
	r.skip = 1 << r.misses
	r.misses = min(r.misses+1, maxMisses)
}

// synced notes how long an fsync took. Short ones count for more: a long one may have
// waited for a processor, during which others are answered.
func (r *returning) synced(took time.Duration) {
	if took < r.took {
		r.took -= (r.took - took) / 4
	} else {
		r.took += (took - r.took) / 32
	}
}
