package diskqueue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func faultOptions(t *testing.T) (*faultFS, Options) {
	f := newFaultFS(t)
	o := testOptions(t, t.TempDir())
	o.FS = f
	return f, o
}

// A write that fails, whole or in part, and also where it cannot be undone on
// disk, loses nothing that was accepted and leaves nothing of what was not.
func TestWriteFailure(t *testing.T) {
	for _, fits := range []int{0, 3, 35, 40} {
		for _, undo := range []bool{true, false} {
			for _, rolling := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d bytes fit, undo %v, rolling %v", fits, undo, rolling), func(t *testing.T) {
					f, o := faultOptions(t)
					o.MaxBytesPerFile = 1000
					failing := "t.diskqueue.000000.dat"
					if rolling {
						o.MaxBytesPerFile = 110
						failing = "t.diskqueue.000001.dat"
					}
					q := open(t, o)
					put(t, q, m(1), m(2))
					f.set(func() {
						f.onWrite = func(name string, b []byte) (int, error) {
							if name == failing {
								return min(fits, len(b)), errNoSpace
							}
							return 0, nil
						}
						f.onTruncate = func(string) error {
							if undo {
								return nil
							}
							return errIO
						}
					})
					err := q.Put(batch(m(3), m(4), m(5)))
					if !errors.Is(err, errNoSpace) || !strings.Contains(err.Error(), "no space left on device") {
						t.Fatalf("put: %v", err)
					}
					err = q.Put(batch(m(3), m(4), m(5)))
					if !errors.Is(err, errNoSpace) && (undo || !errors.Is(err, errIO)) {
						t.Fatalf("second put: %v", err)
					}
					equalDepth(t, q, 2)
					f.set(func() { f.onWrite, f.onTruncate = nil, nil })
					put(t, q, m(6), m(7))
					equalRecords(t, takeAll(t, q), [][]byte{m(1), m(2), m(6), m(7)})
					put(t, q, m(8))
					if err := q.Close(); err != nil {
						t.Fatal(err)
					}
					q = open(t, o)
					equalRecords(t, takeAll(t, q), [][]byte{m(8)})
					if d := q.Damage(); d != (Damage{}) {
						t.Fatalf("damage %+v", d)
					}
				})
			}
		}
	}
}

// Close cuts off what a failed write could not.
func TestCloseAfterWriteFailure(t *testing.T) {
	f, o := faultOptions(t)
	q := open(t, o)
	put(t, q, m(1))
	f.set(func() {
		f.onWrite = func(string, []byte) (int, error) { return 35, errNoSpace }
		f.onTruncate = func(string) error { return errIO }
	})
	if err := q.Put(batch(m(2), m(3))); !errors.Is(err, errNoSpace) {
		t.Fatal(err)
	}
	f.set(func() { f.onWrite, f.onTruncate = nil, nil })
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, o.Dir, map[string]string{
		"t.diskqueue.000000.dat": string(r(1)), "t.diskqueue.meta.dat": "1\n0,0\n0,35\n",
	})
}

// At SyncEvery 1 a failed fsync refuses the records; they do not come out.
func TestSyncFailureRefusesPut(t *testing.T) {
	f, o := faultOptions(t)
	o.SyncEvery = 1
	q := open(t, o)
	put(t, q, m(1))
	f.set(func() { f.onSync = func(string) error { return errIO } })
	if err := q.Put(batch(m(2))); !errors.Is(err, errIO) {
		t.Fatalf("put: %v", err)
	}
	if err := q.Err(); !errors.Is(err, errIO) {
		t.Fatalf("Err: %v", err)
	}
	equalDepth(t, q, 1)
	f.set(func() { f.onSync = nil })
	put(t, q, m(3))
	if err := q.Err(); err != nil {
		t.Fatalf("Err: %v", err)
	}
	equalRecords(t, takeAll(t, q), [][]byte{m(1), m(3)})
}

// Records that were accepted and whose fsync fails are written once more, and
// no more of them are accepted than SyncEvery allows.
func TestSyncFailureInBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		o.SyncEvery, o.SyncTimeout = 100, time.Second
		q := open(t, o)
		put(t, q, m(1), m(2))
		f.set(func() { f.onSync = func(string) error { return errIO } })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if err := q.Err(); !errors.Is(err, errIO) {
			t.Fatalf("Err: %v", err)
		}
		if err := q.Put(batch(m(3))); !errors.Is(err, errIO) {
			t.Fatalf("put: %v", err)
		}
		var rewritten []byte
		f.set(func() {
			f.onSync = nil
			f.onWrite = func(name string, b []byte) (int, error) {
				if name == "t.diskqueue.000000.dat" {
					rewritten = append(rewritten, b...)
				}
				return 0, nil
			}
		})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := q.Err(); err != nil {
			t.Fatalf("Err: %v", err)
		}
		if string(rewritten) != join(r(1), r(2)) {
			t.Fatalf("rewritten: %q", rewritten)
		}
		equalDirectory(t, o.Dir, map[string]string{
			"t.diskqueue.000000.dat": join(r(1), r(2)), "t.diskqueue.meta.dat": "2\n0,0\n0,70\n",
		})
		put(t, q, m(4))
		equalRecords(t, takeAll(t, q), [][]byte{m(1), m(2), m(4)})
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMetadataFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		o.SyncTimeout = time.Second
		q := open(t, o)
		put(t, q, m(1))
		f.set(func() { f.onRename = func(string) error { return errIO } })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if err := q.Err(); !errors.Is(err, errIO) {
			t.Fatalf("Err: %v", err)
		}
		put(t, q, m(2))
		f.set(func() { f.onRename = nil })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := q.Err(); err != nil {
			t.Fatalf("Err: %v", err)
		}
		equalDirectory(t, o.Dir, map[string]string{
			"t.diskqueue.000000.dat": join(r(1), r(2)), "t.diskqueue.meta.dat": "2\n0,0\n0,70\n",
		})
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// The first Put fails if the metadata cannot be made: upstream would ignore the
// data.
func TestFirstPutNeedsMetadata(t *testing.T) {
	f, o := faultOptions(t)
	f.onRename = func(string) error { return errNoSpace }
	q := open(t, o)
	if err := q.Put(batch(m(1))); !errors.Is(err, errNoSpace) {
		t.Fatalf("put: %v", err)
	}
	equalDirectory(t, o.Dir, map[string]string{})
	f.set(func() { f.onRename = nil })
	put(t, q, m(2))
	equalRecords(t, takeAll(t, q), [][]byte{m(2)})
}

// A read error that passes costs nothing; one that stays costs the file.
func TestReadFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		o.SyncTimeout, o.MaxBytesPerFile = time.Second, 70
		q := open(t, o)
		put(t, q, m(1), m(2), m(3))
		fail := func(name string) error {
			if name == "t.diskqueue.000000.dat" {
				return errIO
			}
			return nil
		}
		for range 2 {
			<-q.Ready()
			f.set(func() { f.onRead = fail })
			if _, err := take(q, nil, 1); !errors.Is(err, errIO) {
				t.Fatalf("take: %v", err)
			}
			if isReady(q) {
				t.Fatal("ready at once after a failure")
			}
		}
		<-q.Ready()
		f.set(func() { f.onRead = nil })
		got, err := take(q, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		equalRecords(t, got, [][]byte{m(1)})

		time.Sleep(2 * time.Second) // files are closed, what was read ahead is dropped
		f.set(func() { f.onRead = fail })
		for range maxReadTries - 1 {
			<-q.Ready()
			if _, err := take(q, nil, 1); !errors.Is(err, errIO) {
				t.Fatalf("take: %v", err)
			}
		}
		<-q.Ready()
		equalRecords(t, takeAll(t, q), [][]byte{m(3)})
		equalDepth(t, q, 0)
		if d, want := q.Damage(), (Damage{Files: 1}); d != want {
			t.Fatalf("damage %+v, want %+v", d, want)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		equalDirectory(t, o.Dir, map[string]string{
			"t.diskqueue.000000.dat.bad": join(r(1), r(2)), "t.diskqueue.000001.dat": string(r(3)),
			"t.diskqueue.meta.dat": "0\n1,35\n1,35\n",
		})
	})
}

// While an fsync runs, publishers gather and readers go on; all that gathered
// share one write and one fsync.
func TestGroupCommit(t *testing.T) {
	f, o := faultOptions(t)
	o.SyncEvery = 1
	q := open(t, o)
	put(t, q, m(1))
	entered, proceed := make(chan struct{}), make(chan struct{})
	f.set(func() {
		f.onSync = func(string) error {
			entered <- struct{}{}
			<-proceed
			return nil
		}
	})
	var publishers sync.WaitGroup
	var accepted atomic.Int64
	publish := func(n int) {
		publishers.Go(func() {
			if err := q.Put(batch(m(n))); err != nil {
				t.Error(err)
			}
			accepted.Add(1)
		})
	}
	publish(2)
	<-entered
	writes, syncs := f.writes.Load(), f.syncs.Load()
	for n := range 16 {
		publish(3 + n)
	}
	eventually(t, func() bool {
		q.gatherMu.Lock()
		defer q.gatherMu.Unlock()
		return q.gathering != nil && len(q.gathering.batches) == 16
	})
	// The fsync of 2 is still running.
	equalDepth(t, q, 1)
	equalRecords(t, takeAll(t, q), [][]byte{m(1)})
	if n := accepted.Load(); n != 0 {
		t.Fatalf("%d accepted before the fsync", n)
	}
	proceed <- struct{}{}
	<-entered
	proceed <- struct{}{}
	publishers.Wait()
	if n := q.out.returning.publishers; n != 16 {
		t.Errorf("%d publishers may come again", n)
	}
	if w, s := f.writes.Load()-writes, f.syncs.Load()-syncs; w != 1 || s != 1 {
		t.Fatalf("%d writes and %d fsyncs for 16 publishers", w, s)
	}
	f.set(func() { f.onSync = nil })
	if n := len(takeAll(t, q)); n != 17 {
		t.Fatalf("took %d", n)
	}
}

// At a larger SyncEvery a running fsync holds up neither readers nor
// publishers, until twice SyncEvery records are unsynced.
func TestBackgroundSyncBlocksNobody(t *testing.T) {
	f, o := faultOptions(t)
	o.SyncEvery = 10
	q := open(t, o)
	entered, proceed, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.set(func() {
		f.onSync = func(name string) error {
			if strings.Contains(name, "meta") {
				return nil
			}
			select {
			case entered <- struct{}{}:
				<-proceed
			case <-done:
			}
			return nil
		}
	})
	for n := range 10 {
		put(t, q, m(n))
	}
	<-entered
	for n := range 10 {
		put(t, q, m(10+n))
	}
	if n := len(takeAll(t, q)); n != 20 {
		t.Fatalf("took %d", n)
	}
	last := make(chan error)
	go func() { last <- q.Put(batch(m(20))) }()
	proceed <- struct{}{} // the one in the background
	for waits := 0; ; waits++ {
		select {
		case <-entered: // that of the last Put, or before it one more in the background
			equalDepth(t, q, 0)
			proceed <- struct{}{}
			continue
		case err := <-last:
			if err != nil || waits == 0 {
				t.Fatalf("after %d fsyncs: %v", waits, err)
			}
		}
		break
	}
	close(done)
	equalRecords(t, takeAll(t, q), [][]byte{m(20)})
}

// An idle queue has no open file, no timer and nothing unsaved. The bubble
// would not end with a goroutine left.
func TestIdleQueueHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		o.SyncTimeout = 2 * time.Second
		q := open(t, o)
		put(t, q, m(1), m(2))
		if _, err := take(q, nil, 1); err != nil {
			t.Fatal(err)
		}
		if f.opened.Load() == 0 {
			t.Fatal("no file is open")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := f.opened.Load(); n != 0 {
			t.Fatalf("%d files open", n)
		}
		if q.timer != nil || q.in.buf != nil {
			t.Fatal("timer or buffer kept")
		}
		equalDirectory(t, o.Dir, map[string]string{
			"t.diskqueue.000000.dat": join(r(1), r(2)), "t.diskqueue.meta.dat": "1\n0,35\n0,70\n",
		})
		saves := f.saves.Load()
		time.Sleep(time.Hour)
		if f.saves.Load() != saves {
			t.Fatal("idle queue saves metadata")
		}
		equalRecords(t, takeAll(t, q), [][]byte{m(2)})
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Close makes the data as durable as the metadata that speaks of it.
func TestCloseSyncsData(t *testing.T) {
	f, o := faultOptions(t)
	q := open(t, o)
	put(t, q, m(1))
	var order []string
	f.set(func() {
		f.onSync = func(name string) error {
			if strings.HasSuffix(name, ".tmp") {
				name = "metadata"
			}
			order = append(order, name)
			return nil
		}
	})
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "t.diskqueue.000000.dat metadata" {
		t.Fatalf("synced: %s", got)
	}
}

// With SyncEvery 1, and at every rollover, things reach the disk in an order
// that no crash can turn against the reader, upstream's included.
func TestOrderOfSyncs(t *testing.T) {
	f, o := faultOptions(t)
	o.SyncEvery, o.MaxBytesPerFile = 1, 70
	q := open(t, o)
	var order []string
	short := func(name string) string {
		if strings.Contains(name, "meta") {
			return "metadata"
		}
		return strings.TrimSuffix(strings.TrimPrefix(name, "t.diskqueue.00000"), ".dat")
	}
	f.set(func() {
		f.onWrite = func(name string, _ []byte) (int, error) {
			order = append(order, "write "+short(name))
			return 0, nil
		}
		f.onSync = func(name string) error {
			order = append(order, "sync "+short(name))
			return nil
		}
		f.onRename = func(name string) error {
			order = append(order, "rename "+short(name))
			return nil
		}
		f.onSyncDir = func(string) error {
			order = append(order, "sync directory")
			return nil
		}
	})
	put(t, q, m(1))
	put(t, q, m(2), m(3))
	f.set(func() { f.onWrite, f.onSync, f.onRename, f.onSyncDir = nil, nil, nil, nil })
	want := []string{
		"write metadata", "sync metadata", "rename metadata", "sync directory",
		"write 0", "sync directory", "sync 0",
		"write 0", "sync 0",
		"write metadata", "sync metadata", "rename metadata", "sync directory",
		"write 1", "sync directory", "sync 1",
	}
	if !slices.Equal(order, want) {
		t.Fatalf("order:\n got %q\nwant %q", order, want)
	}
}

// Opening thousands of queues lists the directory once and opens no data file
// of those that were closed cleanly and are empty.
func TestOpenWithNamesDoesNotList(t *testing.T) {
	_, o := faultOptions(t)
	names, err := List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Names = names
	o.FS = noListFS{o.FS}
	for n := range 10 {
		o.Name = fmt.Sprint("topic", n)
		q := open(t, o)
		put(t, q, m(n))
	}
}

type noListFS struct{ FS }

func (noListFS) Names(string) ([]string, error) { return nil, errors.New("directory listed") }

// eventually waits for what another goroutine does next.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("did not happen")
		}
	}
}

func TestOpenFailure(t *testing.T) {
	o := testOptions(t, filepath.Join(t.TempDir(), "missing"))
	if _, err := Open(o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	for _, name := range []string{"", "a/b", `a\b`} {
		o := testOptions(t, t.TempDir())
		o.Name = name
		if _, err := Open(o); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
}
