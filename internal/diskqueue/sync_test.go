package diskqueue

import (
	"errors"
	"strings"
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
		synctest.Wait()
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

// Whoever has to know is told of syncs that fail in the background, with the name
// of the queue, and when all is well again.
func TestSyncedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		var told []error
		o.SyncTimeout, o.Synced = time.Second, func(err error) { told = append(told, err) }
		q := open(t, o)
		put(t, q, m(1))
		f.set(func() { f.onSync = func(string) error { return errIO } })
		time.Sleep(2500 * time.Millisecond)
		f.set(func() { f.onSync = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if len(told) != 3 || !errors.Is(told[0], errIO) || !strings.Contains(told[0].Error(), `disk queue "t"`) || !errors.Is(told[1], errIO) || told[2] != nil {
			t.Errorf("told %q", told)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Try fails as Put would, and leaves nothing.
func TestTry(t *testing.T) {
	f, o := faultOptions(t)
	o.SyncTimeout = time.Hour
	full := func(_ string, b []byte) (int, error) {
		if len(b) > 100 {
			return 50, errNoSpace
		}
		return 0, nil
	}
	for name, row := range map[string]struct {
		prepare func()
		size    int
		want    error
	}{
		"all well":                {func() {}, 1 << 20, nil},
		"small enough":            {func() { f.onWrite = full }, 100, nil},
		"no space":                {func() { f.onWrite = full }, 101, errNoSpace},
		"no space for metadata":   {func() { f.onRename = func(string) error { return errNoSpace } }, 1, errNoSpace},
		"fsync fails":             {func() { f.onSync = func(string) error { return errIO } }, 1, errIO},
		"what it wrote must stay": {func() { f.onTruncate = func(string) error { return errIO } }, 1, errIO},
	} {
		t.Run(name, func(t *testing.T) {
			o.Dir = t.TempDir()
			q := open(t, o)
			f.set(row.prepare)
			if err := q.Try(row.size); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
			f.set(func() { f.onWrite, f.onRename, f.onSync, f.onTruncate = nil, nil, nil, nil })
			put(t, q, m(1))
			if err := q.Try(1000); err != nil {
				t.Error(err)
			}
			put(t, q, m(2))
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			equalDirectory(t, o.Dir, map[string]string{
				"t.diskqueue.000000.dat": join(r(1), r(2)), "t.diskqueue.meta.dat": "2\n0,0\n0,70\n",
			})
			if err := q.Try(1); err != ErrClosed {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// A batch costs one write, whatever the number of its records.
func TestBatchIsOneWrite(t *testing.T) {
	f, o := faultOptions(t)
	q := open(t, o)
	b := new(Batch)
	for n := range 5000 {
		b.Append(func(dst []byte) []byte { return append(dst, m(n)...) })
	}
	if err := q.Put(b); err != nil {
		t.Fatal(err)
	}
	if n := f.writes.Load(); n != 1 {
		t.Errorf("%d writes", n)
	}
}
