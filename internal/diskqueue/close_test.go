package diskqueue

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// manyQueues opens queues t0, t1, … that have one record each; every eighth
// had one before, which was saved.
func manyQueues(t *testing.T, o Options, n int) []*Queue {
	o.SyncTimeout, o.Logger = time.Hour, nil
	queues := make([]*Queue, n)
	for i := range queues {
		o.Name = fmt.Sprint("t", i)
		if i%8 == 0 {
			q := open(t, o)
			put(t, q, m(1000+i))
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
		}
		queues[i] = open(t, o)
		queues[i].Closing()
		put(t, queues[i], m(i))
	}
	return queues
}

// closeMany closes queues while the first fsync takes a second, in which all others
// come. It returns the error of each.
func closeMany(queues []*Queue) []error {
	errs := make([]error, len(queues))
	var group sync.WaitGroup
	for i, q := range queues {
		group.Go(func() { errs[i] = q.Close() })
		if i == 0 {
			synctest.Wait()
		}
	}
	group.Wait()
	return errs
}

func reopenMany(t *testing.T, o Options, n int) {
	t.Helper()
	for i := range n {
		o.Name = fmt.Sprint("t", i)
		q := open(t, o)
		want := [][]byte{m(i)}
		if i%8 == 0 {
			want = [][]byte{m(1000 + i), m(i)}
		}
		equalRecords(t, takeAll(t, q), want)
		if err := q.Delete(); err != nil {
			t.Fatal(err)
		}
	}
}

// Queues that are closed at the same time share one sync of the file system: behind
// all that they write, before any metadata is put in place.
func TestClosingManySyncsOnce(t *testing.T) {
	const n = 2 * endTogether
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		var told atomic.Int64
		o.Shared = NewShared(SharedOptions{FS: f, OnSync: func(time.Duration, error) { told.Add(1) }})
		queues := manyQueues(t, o, n)
		told.Store(0)
		var volumes, saved atomic.Int64
		first := true
		f.set(func() {
			f.onSync = func(name string) error {
				if !strings.HasPrefix(name, "t0.") {
					t.Errorf("fsync of %s", name)
				}
				time.Sleep(time.Second)
				return nil
			}
			f.onSyncVolume = func() error {
				for _, q := range queues[1:] {
					if q.out.file == nil {
						t.Errorf("%s was not written", q.o.Name)
					}
				}
				if n := saved.Load(); n != 1 { // the first one's
					t.Errorf("the metadata of %d queues was in place", n)
				}
				volumes.Add(1)
				return nil
			}
			f.onRename = func(name string) error {
				if volumes.Load() == 0 && !strings.HasPrefix(name, "t0.") {
					t.Errorf("%s was put in place before it was synced", name)
				}
				saved.Add(1)
				return nil
			}
			f.onSyncDir = func(string) error {
				if saved := saved.Load(); !first && saved != 1 && saved != n {
					t.Errorf("%d in place when the directory is synced", saved)
				}
				first = false
				return nil
			}
		})
		if err := errors.Join(closeMany(queues)...); err != nil {
			t.Fatal(err)
		}
		if volumes := volumes.Load(); volumes != 1 {
			t.Errorf("%d syncs of the file system", volumes)
		}
		if told := told.Load(); told > 6 { // data, metadata, directory for the first; volume, directory
			t.Errorf("told of %d fsyncs", told)
		}
		f.set(func() { f.onSync, f.onSyncVolume, f.onRename, f.onSyncDir = nil, nil, nil, nil })
		reopenMany(t, o, n)
	})
}

// When the file system cannot be synced as a whole, or that fails, each queue syncs by itself,
// and only those fail that the disk fails.
func TestClosingManyAlone(t *testing.T) {
	const n, failing = 2 * endTogether, "t7"
	for name, volumeErr := range map[string]error{"unsupported": errors.ErrUnsupported, "failing": errIO} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := faultOptions(t)
				o.Shared = NewShared(SharedOptions{FS: f})
				queues := manyQueues(t, o, n)
				var syncs atomic.Int64
				f.set(func() {
					f.onSyncVolume = func() error { return volumeErr }
					f.onSync = func(name string) error {
						syncs.Add(1)
						time.Sleep(time.Second)
						if strings.HasPrefix(name, failing+".") {
							return errIO
						}
						return nil
					}
				})
				for i, err := range closeMany(queues) {
					name := fmt.Sprint("t", i)
					if name != failing && err != nil || name == failing && (!errors.Is(err, errIO) || !strings.Contains(err.Error(), `"t7"`)) {
						t.Errorf("%s: got %v", name, err)
					}
				}
				if syncs := syncs.Load(); syncs != 2*n-1 { // data and metadata, but for the one that failed
					t.Errorf("%d fsyncs", syncs)
				}
				f.set(func() { f.onSync, f.onSyncVolume = nil, nil })
				for name := range directory(t, o.Dir) {
					if strings.HasSuffix(name, ".tmp") {
						t.Errorf("%s is left", name)
					}
				}
			})
		})
	}
}

// One queue of many cannot save its metadata: the others are not concerned.
func TestClosingManyOneUnsaved(t *testing.T) {
	const n = 2 * endTogether
	for _, fails := range []string{"write", "rename"} {
		t.Run(fails, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := faultOptions(t)
				o.Shared = NewShared(SharedOptions{FS: f})
				queues := manyQueues(t, o, n)
				f.set(func() {
					f.onSyncVolume = func() error { return nil }
					f.onSync = func(string) error {
						time.Sleep(time.Second)
						return nil
					}
					f.onRename = func(name string) error {
						if fails == "rename" && strings.HasPrefix(name, "t7.") {
							return errNoSpace
						}
						return nil
					}
					f.onWrite = func(name string, b []byte) (int, error) {
						if fails == "write" && strings.HasPrefix(name, "t7.") {
							return 0, errNoSpace
						}
						return len(b), nil
					}
				})
				for i, err := range closeMany(queues) {
					if i == 7 != errors.Is(err, errNoSpace) {
						t.Errorf("t%d: got %v", i, err)
					}
				}
				f.set(func() { f.onSync, f.onSyncVolume, f.onRename, f.onWrite = nil, nil, nil, nil })
				reopenMany(t, o, n) // without its metadata, too
			})
		})
	}
}
