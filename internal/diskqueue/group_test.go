package diskqueue

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// waitingPut puts a record at SyncEvery 1 after a group of three publishers was done
// that moment, on a disk whose fsyncs take 5 ms; others put more, each a millisecond
// later than the one before. It returns how long the first took and how many fsyncs
// there were.
func waitingPut(t *testing.T, f *faultFS, q *Queue, others int) (took time.Duration, syncs int64) {
	r := &q.out.returning
	r.publishers, r.released, r.took = 3, time.Now(), 5*time.Millisecond
	syncs = f.syncs.Load()
	start := time.Now()
	var group sync.WaitGroup
	for i := range 1 + others {
		group.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			if err := q.Put(batch(m(i))); err != nil {
				t.Error(err)
			}
			if i == 0 {
				took = time.Since(start)
			}
		})
	}
	group.Wait()
	return took, f.syncs.Load() - syncs
}

// Publishers that come again soon after they were answered share an fsync of a slow
// disk. Who does not come is waited for once, and then more and more seldom.
func TestWaitForReturningPublishers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		o.SyncEvery, o.SyncTimeout = 1, time.Hour
		q := open(t, o)
		put(t, q, m(0))
		for _, step := range []struct {
			others int
			took   time.Duration
			syncs  int64
		}{
			{others: 2, took: 2 * time.Millisecond, syncs: 1}, // all came
			{others: 2, took: 2 * time.Millisecond, syncs: 1},
			{others: 1, took: 5 * time.Millisecond, syncs: 1}, // one is missing
			{others: 0, took: 0, syncs: 1},                    // not waited for
			{others: 0, took: 5 * time.Millisecond, syncs: 1},
			{others: 0, took: 0, syncs: 1},
			{others: 0, took: 0, syncs: 1},
			{others: 2, took: 2 * time.Millisecond, syncs: 1}, // they come again
			{others: 2, took: 2 * time.Millisecond, syncs: 1},
		} {
			if took, syncs := waitingPut(t, f, q, step.others); took != step.took || syncs != step.syncs {
				t.Errorf("%+v: took %v, %d fsyncs", step, took, syncs)
			}
		}
		time.Sleep(5 * time.Millisecond) // the last group is done for longer than an fsync takes
		start := time.Now()
		put(t, q, m(0))
		if took := time.Since(start); took != 0 {
			t.Errorf("the first publisher of a quiet queue waited %v", took)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReturning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := returning{publishers: 16, released: time.Now()}
		for range 100 {
			r.synced(minWait - time.Microsecond)
		}
		if wait := r.wait(1); wait != 0 {
			t.Errorf("fast disk: waits %v", wait)
		}
		for range 100 {
			r.synced(time.Hour)
		}
		if wait := r.wait(1); wait != maxWait {
			t.Errorf("disk that hangs: waits %v", wait)
		}
		if wait := r.wait(16); wait != 0 {
			t.Errorf("all there: waits %v", wait)
		}
		waits := 0
		for range 10_000 {
			if r.wait(1) > 0 {
				waits++
				r.waited(false)
			}
		}
		if least, most := 10_000>>maxMisses-5, 10_000>>maxMisses+5; waits < least || waits > most {
			t.Errorf("in vain: %d times, want %d to %d", waits, least, most)
		}
	})
}
