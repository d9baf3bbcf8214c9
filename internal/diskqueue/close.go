package diskqueue

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// Closing says that Close is next and that nobody reads any more. What is put
// from here on need not survive a crash before Close has returned, which makes
// all of it durable at once.
func (q *Queue) Closing() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing = true
}

// Close syncs the data, saves the metadata and closes the files: the directory
// is then as upstream's diskqueue would leave it. Calls of Put and Take that
// come later return [ErrClosed]; a second Close does nothing. Where hundreds of
// queues are closed at a time they share their fsyncs.
func (q *Queue) Close() error {
	if !q.shut() {
		return nil
	}
	q.writeMu.Lock()
	defer q.writeMu.Unlock()
	q.readMu.Lock() // a Take that is under way comes to its end
	errs := []error{q.in.reset(q.in.at)}
	q.readMu.Unlock()
	errs = append(errs, q.out.restore(q))
	e := ending{q: q}
	q.dir.endings.do(&e, q.dir.end)
	errs = append(errs, e.err, q.out.close())
	q.keptMu.Lock()
	errs = append(errs, q.keptFile.close())
	q.keptMu.Unlock()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close disk queue %q: %w", q.o.Name, err)
	}
	return nil
}

// shut marks the queue closed and waits for the timer's function. It returns
// false when the queue was closed before.
func (q *Queue) shut() bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.closed = true
	close(q.ended)
	if q.timer != nil && q.timer.Stop() {
		q.timer = nil
		q.background.Done()
	}
	q.mu.Unlock()
	q.background.Wait()
	return true
}

const (
	// endTogether is from how many queues on the file system is synced as a whole:
	// that also writes what other programs have written.
	endTogether = 64
	// endAtOnce is how many are synced at a time otherwise. A file system serves many
	// fsyncs as fast as one.
	endAtOnce = 64
	// placeAtOnce is how many make or rename files at a time, which wait for each
	// other there.
	placeAtOnce = 4
)

// An ending is a queue that is being closed, by a Close that holds its writeMu.
type ending struct {
	q         *Queue
	s         snapshot
	temporary string // path of the metadata that is to be put in place
	err       error
}

// end makes all that was put into queues of this directory durable.
func (d *sharedDir) end(all []*ending) {
	alone := all
	if d.volume != nil && len(all) >= endTogether {
		alone = d.endTogether(all)
	}
	each(alone, endAtOnce, func(e *ending) { e.err = e.q.flush(true) })
}

// endTogether syncs the file system once for all queues, and returns those that
// must be synced each by itself: all of them when that has failed, for it does not
// tell which of them that concerns.
func (d *sharedDir) endTogether(all []*ending) (alone []*ending) {
	together := make([]*ending, 0, len(all))
	for _, e := range all {
		if e.s = e.q.snapshot(); e.q.needsVolume(e.s) {
			together = append(together, e)
		} else {
			alone = append(alone, e)
		}
	}
	each(together, placeAtOnce, func(e *ending) {
		e.temporary, e.err = e.q.files.prepareMetadata(e.s.metadata, false)
	})
	if err := d.syncVolume(); err != nil {
		each(together, placeAtOnce, func(e *ending) { e.q.files.dropTemporary(e.temporary) })
		return all
	}
	each(together, placeAtOnce, (*ending).place)
	err := d.fs.SyncDir(d.path)
	each(together, placeAtOnce, func(e *ending) {
		e.err = errors.Join(e.err, err, e.q.clearUp(e.s.metadata.read.file))
	})
	return alone
}

// needsVolume reports whether a sync of the file system is what the queue needs: not
// nothing, nor more than that.
func (q *Queue) needsVolume(s snapshot) bool {
	q.syncMu.Lock()
	suspect := q.synced.suspect
	q.syncMu.Unlock()
	return q.savesLast(s) && !suspect
}

// syncVolume syncs the file system, for all that any queue has written.
func (d *sharedDir) syncVolume() error {
	start := time.Now()
	err := d.volume.Sync()
	if !errors.Is(err, errors.ErrUnsupported) {
		d.fs.shared.onSync(time.Since(start), err)
	}
	return err
}

// place puts the metadata in place; it is on stable storage, and so is the data.
func (e *ending) place() {
	if e.err == nil {
		e.err = e.q.files.placeMetadata(e.temporary)
	}
}

// each calls f for all endings, for some at a time.
func each(endings []*ending, atOnce int, f func(*ending)) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, e := range endings {
		g.Go(func() error {
			f(e)
			return nil
		})
	}
	_ = g.Wait() // f keeps its errors
}
