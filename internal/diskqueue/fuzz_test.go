package diskqueue

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzMetadata(f *testing.F) {
	for _, s := range []string{"0\n0,0\n0,0\n", "2\n0,0\n0,62", "-1\n3,4\n5,6\n", "", "1\n2,3\n1,0\n", "1\n0,-1\n0,0\n", "9999999999999999999\n0,0\n0,0\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMetadata(b)
		if err != nil {
			return
		}
		again, err := parseMetadata(m.append(nil))
		if err != nil || again != m {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
		if m.write.before(m.read) || m.read.file < 0 || m.read.offset < 0 {
			t.Fatalf("accepted %+v", m)
		}
	})
}

// FuzzOpen opens a queue on any two files and any metadata. The depth must be
// what comes out, the queue must work afterwards, and what is intact at the
// beginning of the first file must come out.
func FuzzOpen(f *testing.F) {
	f.Add("2\n0,0\n0,70\n", []byte(join(r(1), r(2))), []byte(nil), 2)
	f.Add("2\n0,0\n1,35\n", []byte(join(r(1), r(2)[:20])), r(3), 1)
	f.Add("2\n0,0\n1,35\n", []byte(join(r(1), withLength(2, 0), r(3))), []byte(join(r(3), zeros(100))), 1)
	f.Add("2\n0,0\n1,35\n", []byte(join(withLength(1, 66), r(2), r(3))), []byte(strings.Repeat("x", 90)), 0)
	f.Add("", []byte(join(r(1), record(message(2, join(r(8), r(9)))), withLength(2, 0), r(3))), r(4), 0)
	f.Add("5\n1,20\n77,1\n", []byte(join(r(1))), r(4), 0)
	f.Fuzz(func(t *testing.T, meta string, file0, file1 []byte, prefix int) {
		dir := t.TempDir()
		for name, content := range map[string][]byte{"000000.dat": file0, "000001.dat": file1, "meta.dat": []byte(meta)} {
			if len(content) == 0 {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, "t.diskqueue."+name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := testOptions(t, dir)
		o.Logger, o.FS = nil, noSyncFS{}
		q := open(t, o)
		depth := q.Depth()
		got := takeAll(t, q)
		if int64(len(got)) != depth {
			t.Fatalf("depth %d, took %d", depth, len(got))
		}
		size := 0
		for _, payload := range got {
			size += len(payload)
			if !bytes.Contains(file0, record(payload)) && !bytes.Contains(file1, record(payload)) {
				t.Fatalf("record %x was never stored", payload)
			}
		}
		if size > len(file0)+len(file1) {
			t.Fatalf("took %d bytes out of %d", size, len(file0)+len(file1))
		}
		if meta == "" {
			for n := range min(prefix, len(got)) {
				if start := n * 35; start+35 > len(file0) || !bytes.Equal(file0[start:start+35], r(n+1)) {
					break
				}
				// The last of them is in doubt when what follows does not fit.
				if next := (n + 2) * 35; next <= len(file0) && bytes.Equal(file0[next-35:next], r(n+2)) && !bytes.Equal(got[n], m(n+1)) {
					t.Fatalf("record %d is %x", n, got[n])
				}
			}
		}
		equalDepth(t, q, 0)
		put(t, q, m(0), m(0))
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = open(t, o)
		equalRecords(t, takeAll(t, q), [][]byte{m(0), m(0)})
		if d := q.Damage(); d != (Damage{}) {
			t.Fatalf("damage is still there: %+v", d)
		}
	})
}
