package diskqueue

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A crashFS calls a hook whenever the files have changed, and in the middle of
// writes: what they are then is what a kill leaves. Nothing changes them until
// the hook returns.
type crashFS struct {
	noSyncFS
	mu      sync.Mutex
	changed func()
}

func (f *crashFS) change(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := do()
	f.changed()
	return err
}

func (f *crashFS) OpenFile(path string, flag int) (file File, err error) {
	err = f.change(func() error {
		file, err = f.noSyncFS.OpenFile(path, flag)
		return err
	})
	return crashFile{file, f}, err
}

func (f *crashFS) Remove(path string) error {
	return f.change(func() error { return f.noSyncFS.Remove(path) })
}

func (f *crashFS) Rename(from, to string) error {
	return f.change(func() error { return f.noSyncFS.Rename(from, to) })
}

type crashFile struct {
	File
	fs *crashFS
}

func (f crashFile) WriteAt(b []byte, off int64) (n int, err error) {
	half := len(b) / 2
	first := func() error { n, err = f.File.WriteAt(b[:half], off); return err }
	if err := f.fs.change(first); err != nil {
		return n, err
	}
	err = f.fs.change(func() error { n, err = f.File.WriteAt(b[half:], off+int64(half)); return err })
	return half + n, err
}

func (f crashFile) Truncate(size int64) error {
	return f.fs.change(func() error { return f.File.Truncate(size) })
}

// books are what a test knows about the records of a queue, by number.
type books struct {
	mu       sync.Mutex
	begun    map[int]bool // given to Put
	needed   map[int]bool // accepted and not finished
	finished map[int]bool
	recent   int // finished since all was written down
	held     int // taken and not finished when all was written down
	emptying bool
}

func newBooks() *books {
	return &books{begun: make(map[int]bool), needed: make(map[int]bool), finished: make(map[int]bool)}
}

// A wreck is a directory that a crash has left, with the books of that moment.
type wreck struct {
	dir         string
	needed      map[int]bool
	begun       map[int]bool
	mayComeBack int  // finished records that may come again
	emptying    bool // first files may be missing
	again       int  // crashes so far
}

// check opens the queue and compares what comes out with the books. Opening it may
// crash, too.
func (w wreck) check(t *testing.T, rng *rand.Rand, o Options) {
	var inside []wreck
	fs := new(crashFS)
	fs.changed = func() {
		if w.again < 2 && len(inside) == 0 && rng.IntN(8) == 0 {
			next := w
			next.dir, next.again = t.TempDir(), w.again+1
			copyDirectory(t, next.dir, w.dir)
			inside = append(inside, next)
		}
	}
	o.Dir, o.FS = w.dir, fs
	q := open(t, o)
	fs.mu.Lock()
	fs.changed = func() {}
	fs.mu.Unlock()
	depth := q.Depth()
	came := make(map[int]int)
	all := takeAll(t, q)
	for _, payload := range all {
		n := numberOf(t, payload)
		came[n]++
		if !w.begun[n] {
			t.Fatalf("record %d was never put", n)
		}
	}
	if int64(len(all)) != depth {
		t.Fatalf("depth %d, took %d", depth, len(all))
	}
	for n := range w.needed {
		if came[n] == 0 {
			t.Fatalf("record %d is lost, crash %d, files %v", n, w.again, slices.Collect(maps.Keys(directory(t, w.dir))))
		}
		if came[n] > 2+w.again {
			t.Fatalf("record %d came %d times", n, came[n])
		}
	}
	back := 0
	for n := range came {
		if !w.needed[n] {
			back++
		}
	}
	if back > w.mayComeBack {
		t.Fatalf("%d finished records came again, at most %d may", back, w.mayComeBack)
	}
	if d := q.Damage(); d != (Damage{}) && !w.emptying {
		t.Fatalf("damage %+v, crash %d", d, w.again)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for name := range directory(t, w.dir) {
		if strings.Contains(name, "unfinished") || strings.HasSuffix(name, ".tmp") {
			t.Fatalf("%s is left", name)
		}
	}
	for _, next := range inside {
		next.check(t, rng, o)
	}
}

func copyDirectory(t *testing.T, to, from string) {
	for name, content := range directory(t, from) {
		if err := os.WriteFile(filepath.Join(to, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func numberOf(t *testing.T, payload []byte) int {
	n, err := strconv.ParseInt(string(payload[10:26]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// TestRandomUnfinished takes records, finishes them in any order, some of them
// late or never, keeps others beside the queue, and looks now and then what a
// crash at this moment would leave: no record that is not finished may be missing,
// and of those finished only so many may come again. In the end, closed, the
// directory holds exactly what was not taken.
func TestRandomUnfinished(t *testing.T) {
	for range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomUnfinished(t, seed) })
		})
	}
}

// FuzzUnfinished is TestRandomUnfinished for the fuzzer, which chooses the seed.
func FuzzUnfinished(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { randomUnfinished(t, seed) })
	})
}

func randomUnfinished(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	o := testOptions(t, t.TempDir())
	o.SyncTimeout = time.Second
	o.MaxBytesPerFile, o.SyncEvery, o.MaxReplay = 300+rng.Int64N(2000), 1+rng.Int64N(40), 1+rng.Int64N(30)
	x := &unfinishedRun{t: t, rng: rng, crash: rand.New(rand.NewPCG(seed, 1)), o: o, books: newBooks(), held: make(map[int]Ticket)}
	fs := &crashFS{changed: x.changed}
	o.FS = fs
	x.q = open(t, o)
	for range 250 {
		x.step()
		x.books.mu.Lock()
		wrecks := x.wrecks
		x.wrecks = nil
		x.books.mu.Unlock()
		for _, w := range wrecks {
			w.check(t, rng, x.o)
		}
	}
	fs.mu.Lock()
	fs.changed = func() {}
	fs.mu.Unlock()
	// As at a clean stop: what somebody has is stored again.
	for n, ticket := range x.held {
		put(t, x.q, x.record(n))
		x.q.Finish(ticket)
	}
	if err := x.q.Close(); err != nil {
		t.Fatal(err)
	}
	q := open(t, x.o)
	came := make(map[int]bool)
	for _, payload := range takeAll(t, q) {
		n := numberOf(t, payload)
		if came[n] || !x.books.needed[n] {
			t.Fatalf("record %d: finished, or there twice", n)
		}
		came[n] = true
	}
	if len(came) != len(x.books.needed) {
		t.Fatalf("%d records came, want %d", len(came), len(x.books.needed))
	}
	if left, _ := filepath.Glob(filepath.Join(o.Dir, "*unfinished*")); len(left) > 0 {
		t.Fatalf("left behind: %s", left)
	}
}

type unfinishedRun struct {
	t      *testing.T
	rng    *rand.Rand
	o      Options
	q      *Queue
	number int
	held   map[int]Ticket
	books  *books

	// Guarded by books.mu.
	crash  *rand.Rand
	wrecks []wreck
}

// changed runs inside the queue, mostly on this test's goroutine.
func (x *unfinishedRun) changed() {
	x.books.mu.Lock()
	defer x.books.mu.Unlock()
	if x.crash.IntN(60) > 0 {
		return
	}
	w := wreck{
		dir: x.t.TempDir(), needed: maps.Clone(x.books.needed), begun: maps.Clone(x.books.begun),
		mayComeBack: int(x.o.MaxReplay) + 4*x.books.held + x.books.recent, emptying: x.books.emptying,
	}
	for n := range w.begun { // a Put under way: all of it or nothing may be there
		if !w.needed[n] && !x.books.finished[n] {
			w.mayComeBack++
		}
	}
	copyDirectory(x.t, w.dir, x.o.Dir)
	x.wrecks = append(x.wrecks, w)
}

// record is the payload with that number; some have a long body.
func (x *unfinishedRun) record(n int) []byte { return message(n, strings.Repeat("b", n*7%90)) }

func (x *unfinishedRun) step() {
	switch n := x.rng.IntN(100); {
	case n < 30:
		x.put(func(b *Batch) {
			if err := x.q.Put(b); err != nil {
				x.t.Fatal(err)
			}
		})
	case n < 58:
		got, first, err := x.q.Take(nil, x.rng.IntN(12))
		if err != nil {
			x.t.Fatal(err)
		}
		for i, payload := range got {
			x.held[numberOf(x.t, payload)] = first + Ticket(i)
		}
	case n < 88:
		x.finish()
	case n < 91:
		x.put(func(b *Batch) {
			first, err := x.q.Keep(b)
			if err != nil {
				x.t.Fatal(err)
			}
			for i, payload := range b.payloads() {
				x.held[numberOf(x.t, payload)] = first + Ticket(i)
			}
		})
	case n < 99:
		time.Sleep(3 * time.Second) // all is written down
		synctest.Wait()
		x.books.mu.Lock()
		x.books.recent, x.books.held = 0, len(x.held)
		x.books.mu.Unlock()
	case x.rng.IntN(4) == 0:
		x.empty()
	}
}

func (x *unfinishedRun) put(store func(*Batch)) {
	first := x.number
	var payloads [][]byte
	x.books.mu.Lock()
	for range x.rng.IntN(12) {
		payloads = append(payloads, x.record(x.number))
		x.books.begun[x.number] = true
		x.number++
	}
	x.books.mu.Unlock()
	if len(payloads) == 0 {
		return
	}
	store(batch(payloads...))
	x.books.mu.Lock()
	defer x.books.mu.Unlock()
	for n := first; n < x.number; n++ {
		x.books.needed[n] = true
	}
}

// finish finishes some of what is held; every tenth record is left for long.
func (x *unfinishedRun) finish() {
	var list []Ticket
	x.books.mu.Lock()
	for _, n := range slices.Sorted(maps.Keys(x.held)) {
		ticket := x.held[n]
		if n%10 == 0 && x.rng.IntN(20) > 0 || x.rng.IntN(3) == 0 {
			continue
		}
		delete(x.held, n)
		delete(x.books.needed, n)
		x.books.finished[n] = true
		x.books.recent++
		list = append(list, ticket, ticket) // twice does not matter
	}
	x.books.mu.Unlock()
	x.q.Finish(list...)
}

func (x *unfinishedRun) empty() {
	x.books.mu.Lock()
	for n := range x.books.needed {
		x.books.finished[n] = true
		x.books.recent++
	}
	clear(x.books.needed)
	x.books.emptying = true
	x.books.mu.Unlock()
	if err := x.q.Empty(); err != nil {
		x.t.Fatal(err)
	}
	x.books.mu.Lock()
	x.books.emptying = false
	x.books.mu.Unlock()
	for _, ticket := range x.held { // as an answer that comes late
		x.q.Finish(ticket)
	}
	clear(x.held)
}

// One record is never finished. It holds back neither the position nor the files
// for long, and is the only one that a crash brings back.
func TestOneUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := testOptions(t, dir)
		o.FS, o.MaxBytesPerFile, o.MaxReplay, o.SyncTimeout = noSyncFS{}, 350, 25, time.Second
		q := open(t, o)
		for i := range 100 {
			put(t, q, m(i))
		}
		_, stuck, err := q.Take(nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < 100; i++ {
			if _, err := take(q, nil, 1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			most := 0
			if i <= 25+4 {
				most = i + 1 // what a crash may repeat, in tens of records
			}
			files, err := filepath.Glob(filepath.Join(dir, "*[0-9].dat"))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) > (most+99-i+9)/10+2 {
				t.Fatalf("after %d: %d files", i, len(files))
			}
		}
		time.Sleep(2 * time.Second)
		got := directory(t, dir)
		if meta := got["t.diskqueue.meta.dat"]; meta != "0\n9,350\n9,350\n" && meta != "0\n10,0\n10,0\n" {
			t.Fatalf("metadata %q", meta)
		}
		if kept := got["t.diskqueue.unfinished.dat"]; kept != keptMagic+string(appendKept(nil, m(0))) {
			t.Fatalf("kept %q", kept)
		}

		crashed := o
		crashed.Dir = t.TempDir()
		copyDirectory(t, crashed.Dir, dir)
		again := open(t, crashed)
		equalDepth(t, again, 1)
		equalRecords(t, takeAll(t, again), [][]byte{m(0)})

		q.Finish(stuck)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "t.diskqueue.unfinished.dat")); !os.IsNotExist(err) {
			t.Fatalf("the file of the kept is left: %v", err)
		}
		equalDepth(t, open(t, o), 0)
	})
}
