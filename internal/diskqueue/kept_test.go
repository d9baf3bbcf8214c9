package diskqueue

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Files of the kept that are damaged or do not end: what is whole comes back.
func TestKeptFileDamage(t *testing.T) {
	one, two, three := string(appendKept(nil, m(1))), string(appendKept(nil, m(2))), string(appendKept(nil, m(3)))
	done := string(markFinished) + two[1:]
	wrong := two[:20] + "x" + two[21:]
	for name, row := range map[string]struct {
		content string
		want    [][]byte
		damage  Damage
	}{
		"whole":            {keptMagic + one + two + three, [][]byte{m(1), m(2), m(3)}, Damage{}},
		"one finished":     {keptMagic + one + done + three, [][]byte{m(1), m(3)}, Damage{}},
		"all finished":     {keptMagic + done + done, nil, Damage{}},
		"wrong byte":       {keptMagic + one + wrong + three, [][]byte{m(1), m(3)}, Damage{Records: 1}},
		"wrong mark":       {keptMagic + "X" + one[1:] + three, [][]byte{m(3)}, Damage{Records: 1}},
		"torn head":        {keptMagic + one + two[:5], [][]byte{m(1)}, Damage{}},
		"torn payload":     {keptMagic + one + two[:20], [][]byte{m(1)}, Damage{}},
		"no records":       {keptMagic, nil, Damage{}},
		"torn magic":       {keptMagic[:3], nil, Damage{}},
		"empty":            {"", nil, Damage{}},
		"something else":   {"something else", nil, Damage{Files: 1}},
		"length too large": {keptMagic + one + "U\xff\xff\xff\xff" + two[5:], [][]byte{m(1)}, Damage{}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "t.diskqueue.unfinished.dat"), []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			names, err := List(dir)
			if err != nil {
				t.Fatal(err)
			}
			if !names.Has("t") {
				t.Error("the listing does not know of the queue")
			}
			o := testOptions(t, dir)
			o.Names = names
			q := open(t, o)
			equalDepth(t, q, int64(len(row.want)))
			equalRecords(t, takeAll(t, q), row.want)
			if d := q.Damage(); d != row.damage {
				t.Errorf("damage %+v, want %+v", d, row.damage)
			}
			if _, err := os.Stat(filepath.Join(dir, "t.diskqueue.unfinished.dat")); !os.IsNotExist(err) {
				t.Errorf("the file is still there: %v", err)
			}
		})
	}
}

// FuzzKeptFile opens a queue with any file of the kept. What comes out was in it.
func FuzzKeptFile(f *testing.F) {
	for _, s := range []string{"", keptMagic, keptMagic + string(appendKept(appendKept(nil, m(1)), m(2))), keptMagic + "U\xff\xff\xff\xff12345"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// The fuzzer will not find checksums: they are put right where there is room.
		for at := len(keptMagic); at+keptHead <= len(b); {
			size := keptHead + int(binary.BigEndian.Uint32(b[at+1:]))
			if size > len(b)-at {
				break
			}
			if b[at]%4 > 0 { // and left wrong in some
				binary.BigEndian.PutUint32(b[at+5:], keptSum(b[at:at+size]))
			}
			at += size
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "t.diskqueue.unfinished.dat")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o := testOptions(t, dir)
		o.Logger, o.FS, o.MinRecordSize = nil, noSyncFS{}, 0
		q := open(t, o)
		size := len(keptMagic)
		for _, payload := range takeAll(t, q) {
			size += keptHead + len(payload)
			if !strings.Contains(string(b), string(payload)) {
				t.Fatalf("%q was not in the file", payload)
			}
		}
		if size > len(b) && size > len(keptMagic) {
			t.Fatalf("%d bytes came out of %d", size, len(b))
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Fatalf("the file is still there: %v", err)
		}
	})
}

// While the disk is full nothing can be moved, nor put back by Open: both are tried
// again.
func TestKeptFileOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFaultFS(t)
		o := testOptions(t, t.TempDir())
		o.FS, o.MaxReplay, o.SyncTimeout = fs, 1, time.Second
		full := func(isFull bool) {
			fs.set(func() {
				fs.onWrite = nil
				if isFull {
					fs.onWrite = func(string, []byte) (int, error) { return 0, errNoSpace }
				}
			})
		}
		q := open(t, o)
		put(t, q, m(0), m(1), m(2), m(3), m(4), m(5), m(6), m(7), m(8), m(9))
		time.Sleep(2 * time.Second)
		full(true)
		_, first, err := q.Take(nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < 10; i++ {
			q.Finish(first + Ticket(i))
		}
		time.Sleep(10 * time.Second)
		if _, err := q.Keep(batch(m(10))); !errors.Is(err, errNoSpace) {
			t.Fatalf("keep: %v", err)
		}
		full(false)
		time.Sleep(10 * time.Second)
		if _, err := q.Keep(batch(m(10))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)

		crashed := o
		crashed.Dir = t.TempDir()
		copyDirectory(t, crashed.Dir, o.Dir)
		full(true)
		again := open(t, crashed)
		equalDepth(t, again, 0)
		full(false)
		time.Sleep(10 * time.Second)
		equalDepth(t, again, 2)
		equalRecords(t, takeAll(t, again), [][]byte{m(0), m(10)})
	})
}

// A record that stays in the file of the kept does not make it grow for ever.
func TestKeptFileIsRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t, t.TempDir())
		o.FS, o.SyncTimeout = noSyncFS{}, time.Second
		q := open(t, o)
		path := filepath.Join(o.Dir, "t.diskqueue.unfinished.dat")
		stuck, err := q.Keep(batch(m(0)))
		if err != nil {
			t.Fatal(err)
		}
		largest := int64(0)
		big := message(1, strings.Repeat("b", 100_000))
		for range 100 {
			ticket, err := q.Keep(batch(big))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			q.Finish(ticket)
			time.Sleep(2 * time.Second)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, info.Size())
		}
		if largest > rewriteAbove+200_000 {
			t.Errorf("the file grew to %d bytes", largest)
		}
		crashed := o
		crashed.Dir = t.TempDir()
		copyDirectory(t, crashed.Dir, o.Dir)
		equalRecords(t, takeAll(t, open(t, crashed)), [][]byte{m(0)})
		q.Finish(stuck)
	})
}
