package diskqueue

import (
	"testing"
	"testing/synctest"
	"time"
)

// A busy queue syncs its data every SyncEvery records, and saves its metadata
// ten times a second.
func TestBusyQueueSavesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		o.SyncEvery, o.SyncTimeout = 2, 10*time.Second
		q := open(t, o)
		for n := range 200 {
			put(t, q, m(2*n), m(2*n+1))
			if _, err := take(q, nil, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := f.syncs.Load(); n < 200 {
			t.Errorf("%d fsyncs of 200 times SyncEvery records", n)
		}
		if n := f.saves.Load(); n > 12 {
			t.Errorf("metadata was saved %d times in a second", n)
		}
		time.Sleep(saveDelay)
		if s := q.snapshot(); s.counts.ops != s.counts.saved || s.counts.written != s.counts.synced {
			t.Errorf("not saved: %+v", s.counts)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A queue that was not touched since it was opened is closed without any fsync.
func TestCloseOfUntouchedQueue(t *testing.T) {
	f, o := faultOptions(t)
	q := open(t, o)
	put(t, q, m(1), m(2))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	f.set(func() {
		f.onSync = func(name string) error { t.Errorf("fsync of %s", name); return nil }
		f.onSyncDir = func(string) error { t.Error("fsync of the directory"); return nil }
	})
	q = open(t, o)
	equalDepth(t, q, 2)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.onSync, f.onSyncDir = nil, nil })
	equalRecords(t, takeAll(t, open(t, o)), [][]byte{m(1), m(2)})
}
