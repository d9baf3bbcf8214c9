package diskqueue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Many files are used at once, by more goroutines than files may be open: never
// are there more, and each holds what was written to it.
func TestOpenFilesAreBounded(t *testing.T) {
	const limit, files, users, rounds = 4, 50, 20, 100
	f := newFaultFS(t)
	pool := new(filePool)
	pool.init(f, limit)
	dir := t.TempDir()
	all := make([]File, files)
	for i := range all {
		file, err := pool.open(filepath.Join(dir, fmt.Sprint(i)), os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = file
	}
	var group sync.WaitGroup
	for user := range users {
		group.Go(func() {
			mark := []byte{byte(user)}
			for round := range rounds {
				file := all[(user*7+round*round)%files]
				if _, err := file.WriteAt(mark, int64(user)); err != nil {
					t.Error(err)
				}
				got := make([]byte, 1)
				if _, err := file.ReadAt(got, int64(user)); err != nil || got[0] != mark[0] {
					t.Errorf("read %d, %v", got[0], err)
				}
				if n := f.opened.Load(); n > limit {
					t.Errorf("%d files open", n)
				}
			}
		})
	}
	group.Wait()
	for _, file := range all {
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			t.Error(err)
		}
	}
	if pool.n != 0 || len(pool.list) != 0 {
		t.Errorf("%d of %d files are still counted as open", pool.n, len(pool.list))
	}
}

// A call waits while all files that may be open are in use, and goes on when one
// is not any more.
func TestOpenWaitsForAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := new(filePool)
		pool.init(newFaultFS(t), 1)
		dir := t.TempDir()
		first, err := pool.open(filepath.Join(dir, "first"), os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.(*pooledFile).acquire(); err != nil {
			t.Fatal(err)
		}
		opened := make(chan File)
		go func() {
			file, err := pool.open(filepath.Join(dir, "second"), os.O_RDWR|os.O_CREATE)
			if err != nil {
				t.Error(err)
			}
			opened <- file
		}()
		time.Sleep(time.Second)
		select {
		case <-opened:
			t.Error("two files are open")
		default:
		}
		first.(*pooledFile).release()
		second := <-opened
		if err := errors.Join(first.Close(), second.Close()); err != nil {
			t.Error(err)
		}
	})
}

// When the system refuses to open one more file, another is closed for it; only
// where there is none the error is passed on. No place gets lost over errors.
func TestTooManyOpenFiles(t *testing.T) {
	refusing := &refusingFS{}
	pool := new(filePool)
	pool.init(refusing, 100)
	dir := t.TempDir()
	open := func(name string, flag int) (File, error) { return pool.open(filepath.Join(dir, name), flag) }
	_, err := open("missing", os.O_RDWR)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	first, err := open("first", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	refusing.refuse.Store(1)
	second, err := open("second", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	refusing.refuse.Store(2)
	if _, err := open("third", os.O_RDWR|os.O_CREATE); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v", err)
	}
	if pool.n != 0 {
		t.Errorf("%d files are counted as open", pool.n)
	}
	for _, file := range []File{first, second} {
		if _, err := file.WriteAt([]byte("x"), 0); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}

// refusingFS refuses that many times to open a file.
type refusingFS struct {
	osFS
	refuse atomic.Int64
}

func (r *refusingFS) OpenFile(path string, flag int) (File, error) {
	if r.refuse.Add(-1) >= 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
	}
	return r.osFS.OpenFile(path, flag)
}

// fewFiles tells TestManyQueuesFewFiles that it is the child.
const fewFiles = "DISKQUEUE_FEW_FILES"

// Thousands of queues spill, are read and are closed at once in a process that
// may have 64 files open: none fails.
func TestManyQueuesFewFiles(t *testing.T) {
	if os.Getenv(fewFiles) == "" {
		shell, err := exec.LookPath("sh")
		if err != nil || runtime.GOOS == "windows" {
			t.Skip("no shell with ulimit to lower the limit for a child")
		}
		child := exec.Command(shell, "-c", `ulimit -n 64 && exec "$0" -test.run='^TestManyQueuesFewFiles$' -test.v`, os.Args[0])
		child.Env = append(os.Environ(), fewFiles+"=1")
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestManyQueuesFewFiles") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const queues = 2000
	o := testOptions(t, t.TempDir())
	o.Logger, o.SyncTimeout, o.Shared = nil, 10*time.Millisecond, NewShared(SharedOptions{})
	if n := o.Shared.files.limit; n != 16 {
		t.Fatalf("up to %d open files", n)
	}
	names, err := List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Names = names
	var all sync.WaitGroup
	for i := range queues {
		all.Go(func() {
			own := o
			own.Name = fmt.Sprint("topic", i)
			q, err := Open(own)
			if err != nil {
				t.Error(err)
				return
			}
			for n := range 4 {
				if err := q.Put(batch(m(n))); err != nil {
					t.Error(err)
				}
			}
			got, err := take(q, nil, 2)
			if err != nil || len(got) != 2 {
				t.Error(len(got), err)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	o.Names = nil
	for _, name := range []string{"topic0", "topic1999"} {
		o.Name = name
		q := open(t, o)
		equalRecords(t, takeAll(t, q), [][]byte{m(2), m(3)})
	}
}

// A thousand queues whose timers fire at the same moment sync a few at a time; a
// queue that is closed meanwhile does not wait for its turn.
func TestBackgroundSyncsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := faultOptions(t)
		var running, tooMany atomic.Int64
		f.onSync = func(string) error {
			if running.Add(1) > backgroundSyncs+1 { // one of Close
				tooMany.Add(1)
			}
			time.Sleep(10 * time.Millisecond)
			running.Add(-1)
			return nil
		}
		o.SyncTimeout, o.Shared, o.Logger = time.Second, NewShared(SharedOptions{FS: f}), nil
		queues := make([]*Queue, 200)
		for i := range queues {
			o.Name = fmt.Sprint("topic", i)
			queues[i] = open(t, o)
			put(t, queues[i], m(i))
		}
		time.Sleep(o.SyncTimeout + 5*time.Millisecond)
		if n := running.Load(); n != backgroundSyncs {
			t.Errorf("%d syncs at once", n)
		}
		start := time.Now()
		if err := queues[len(queues)-1].Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("close took %v", d)
		}
		time.Sleep(time.Minute)
		if n := tooMany.Load(); n > 0 {
			t.Errorf("%d times there were too many syncs at once", n)
		}
		for _, q := range queues {
			if s := q.snapshot(); s.counts.synced != 1 || s.counts.saved != 1 {
				t.Fatalf("not synced: %+v", s.counts)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Fsyncs of the directory are shared: those who come while one runs wait for one
// more, and each gets the error of the one it waited for.
func TestDirectorySyncsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaultFS(t)
		var syncs, told atomic.Int64
		f.onSyncDir = func(string) error {
			time.Sleep(time.Second)
			if syncs.Add(1) == 2 {
				return errIO
			}
			return nil
		}
		shared := NewShared(SharedOptions{FS: f, OnSync: func(took time.Duration, err error) {
			if took != time.Second {
				t.Errorf("told of %v", took)
			}
			told.Add(1)
		}})
		dir := t.TempDir()
		var group sync.WaitGroup
		sync := func(want error) {
			group.Go(func() {
				if err := (sharedFS{f, shared}).SyncDir(dir); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			})
		}
		sync(nil)
		synctest.Wait()
		for range 100 {
			sync(errIO)
		}
		time.Sleep(1500 * time.Millisecond)
		sync(nil)
		group.Wait()
		if n, told := syncs.Load(), told.Load(); n != 3 || told != 3 {
			t.Errorf("%d syncs, told of %d", n, told)
		}
	})
}

// Between Closing and Close nothing is made durable, and Close does it all, once,
// data before metadata.
func TestClosing(t *testing.T) {
	for _, used := range []bool{false, true} {
		t.Run(fmt.Sprintf("used before %v", used), func(t *testing.T) {
			f, o := faultOptions(t)
			o.SyncEvery = 1
			q := open(t, o)
			want := [][]byte{m(1), m(2), m(3)}
			if used {
				put(t, q, m(0))
				want = append([][]byte{m(0)}, want...)
			}
			var order []string
			note := func(what string) func(string) error {
				return func(name string) error {
					if strings.Contains(name, "meta") {
						name = "metadata"
					}
					order = append(order, what+" "+strings.TrimPrefix(name, "t.diskqueue.000000"))
					return nil
				}
			}
			f.set(func() {
				f.onSync, f.onRename = note("sync"), note("rename")
				f.onSyncDir = func(string) error { order = append(order, "sync directory"); return nil }
			})
			q.Closing()
			put(t, q, m(1))
			put(t, q, m(2), m(3))
			if len(order) != 0 {
				t.Errorf("before Close: %q", order)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			wantOrder := []string{"sync .dat", "sync metadata", "rename metadata", "sync directory"}
			if !used {
				wantOrder = append([]string{"sync directory"}, wantOrder...)
			}
			if !slices.Equal(order, wantOrder) {
				t.Errorf("order:\n got %q\nwant %q", order, wantOrder)
			}
			f.set(func() { f.onSync, f.onRename, f.onSyncDir = nil, nil, nil })
			q = open(t, o)
			equalRecords(t, takeAll(t, q), want)
		})
	}
}
