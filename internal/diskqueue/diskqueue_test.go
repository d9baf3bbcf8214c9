package diskqueue

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testOptions are those of a queue named "t" of messages in dir.
func testOptions(t testing.TB, dir string) Options {
	return Options{
		Dir: dir, Name: "t", MinRecordSize: 26, MaxRecordSize: 1 << 20,
		SyncTimeout: time.Hour, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// open opens a queue that is closed when the test ends.
func open(t testing.TB, o Options) *Queue {
	t.Helper()
	q, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return q
}

// message is the payload of a message record: timestamp, attempts, id, body.
// The id is n in hex.
func message(n int, body string) []byte {
	b := binary.BigEndian.AppendUint64(nil, 0x18ea5d0785fd9538)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = fmt.Appendf(b, "%016x", n)
	return append(b, body...)
}

// record is payload behind its length.
func record(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

func batch(payloads ...[]byte) *Batch {
	b := new(Batch)
	for _, p := range payloads {
		b.Append(func(dst []byte) []byte { return append(dst, p...) })
	}
	return b
}

func put(t testing.TB, q *Queue, payloads ...[]byte) {
	t.Helper()
	if err := q.Put(batch(payloads...)); err != nil {
		t.Fatal(err)
	}
}

// take takes records and finishes them.
func take(q *Queue, dst [][]byte, most int) ([][]byte, error) {
	before := len(dst)
	dst, first, err := q.Take(dst, most)
	tickets := make([]Ticket, len(dst)-before)
	for i := range tickets {
		tickets[i] = first + Ticket(i)
	}
	q.Finish(tickets...)
	return dst, err
}

// takeAll takes until nothing is left.
func takeAll(t testing.TB, q *Queue) (all [][]byte) {
	t.Helper()
	for {
		got, err := take(q, nil, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
	}
}

func equalRecords(t testing.TB, got, want [][]byte) {
	t.Helper()
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("records:\n got %s\nwant %s", describe(got), describe(want))
	}
}

func describe(records [][]byte) string {
	var s []string
	for _, r := range records {
		if len(r) >= idPayload {
			s = append(s, fmt.Sprintf("%s+%d", r[10:26], len(r)-26))
			continue
		}
		s = append(s, hex.EncodeToString(r))
	}
	return "[" + strings.Join(s, " ") + "]"
}

func equalDepth(t testing.TB, q *Queue, want int64) {
	t.Helper()
	if got := q.Depth(); got != want {
		t.Fatalf("depth %d, want %d", got, want)
	}
}

// directory returns the content of all files of dir by name.
func directory(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

func equalDirectory(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := directory(t, dir)
	for name, content := range got {
		if w, ok := want[name]; !ok {
			t.Errorf("unexpected file %s (%d bytes)", name, len(content))
		} else if w != content {
			t.Errorf("file %s:\n got %q\nwant %q", name, content, w)
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("file %s is missing", name)
		}
	}
}

func isReady(q *Queue) bool {
	select {
	case <-q.Ready():
		return true
	default:
		return false
	}
}

func TestGoldenBytes(t *testing.T) {
	// The message of the specification's test vectors, as a queue-file record.
	golden, err := hex.DecodeString("0000001b18ea5d0785fd9538000031386134353064643833653639303030" + "61")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	q := open(t, testOptions(t, dir))
	equalDirectory(t, dir, map[string]string{})
	put(t, q, golden[4:])
	put(t, q, golden[4:])
	equalDepth(t, q, 2)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, dir, map[string]string{
		"t.diskqueue.000000.dat": string(golden) + string(golden),
		"t.diskqueue.meta.dat":   "2\n0,0\n0,62\n",
	})
	for name := range directory(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o177 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}

	q = open(t, testOptions(t, dir))
	equalDepth(t, q, 2)
	if !isReady(q) {
		t.Fatal("not ready after opening")
	}
	got, err := take(q, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	equalRecords(t, got, [][]byte{golden[4:]})
	if !isReady(q) {
		t.Fatal("token not passed on")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, dir, map[string]string{
		"t.diskqueue.000000.dat": string(golden) + string(golden),
		"t.diskqueue.meta.dat":   "1\n0,31\n0,62\n",
	})
}

func TestCloseOfUnusedQueue(t *testing.T) {
	dir := t.TempDir()
	q := open(t, testOptions(t, dir))
	if isReady(q) {
		t.Fatal("ready though empty")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, dir, map[string]string{"t.diskqueue.meta.dat": "0\n0,0\n0,0\n"})
	if err := q.Put(batch(message(1, "a"))); err != ErrClosed {
		t.Fatalf("put after close: %v", err)
	}
	if _, err := take(q, nil, 1); err != ErrClosed {
		t.Fatalf("take after close: %v", err)
	}
}

func TestRolloverBoundary(t *testing.T) {
	five := func(n int) []byte { return message(n, "abcde") } // 35 bytes with its length
	large := message(9, strings.Repeat("x", 200))
	for name, row := range map[string]struct {
		max     int64
		batches [][][]byte
		files   map[string]string
	}{
		"exactly full stays": {70, [][][]byte{{five(1), five(2)}}, map[string]string{
			"t.diskqueue.000000.dat": string(record(five(1))) + string(record(five(2))),
			"t.diskqueue.meta.dat":   "2\n0,0\n0,70\n",
		}},
		"one byte short rolls": {69, [][][]byte{{five(1), five(2)}}, map[string]string{
			"t.diskqueue.000000.dat": string(record(five(1))),
			"t.diskqueue.000001.dat": string(record(five(2))),
			"t.diskqueue.meta.dat":   "2\n0,0\n1,35\n",
		}},
		"the next after exactly full rolls": {70, [][][]byte{{five(1), five(2)}, {five(3)}}, map[string]string{
			"t.diskqueue.000000.dat": string(record(five(1))) + string(record(five(2))),
			"t.diskqueue.000001.dat": string(record(five(3))),
			"t.diskqueue.meta.dat":   "3\n0,0\n1,35\n",
		}},
		"a large record is alone": {70, [][][]byte{{five(1), large, five(2)}}, map[string]string{
			"t.diskqueue.000000.dat": string(record(five(1))),
			"t.diskqueue.000001.dat": string(record(large)),
			"t.diskqueue.000002.dat": string(record(five(2))),
			"t.diskqueue.meta.dat":   "3\n0,0\n2,35\n",
		}},
		"a large record comes first": {70, [][][]byte{{large, five(1), five(2), five(3)}}, map[string]string{
			"t.diskqueue.000000.dat": string(record(large)),
			"t.diskqueue.000001.dat": string(record(five(1))) + string(record(five(2))),
			"t.diskqueue.000002.dat": string(record(five(3))),
			"t.diskqueue.meta.dat":   "4\n0,0\n2,35\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := testOptions(t, dir)
			o.MaxBytesPerFile = row.max
			q := open(t, o)
			var want [][]byte
			for _, b := range row.batches {
				put(t, q, b...)
				want = append(want, b...)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			equalDirectory(t, dir, row.files)
			q = open(t, o)
			equalDepth(t, q, int64(len(want)))
			equalRecords(t, takeAll(t, q), want)
			equalDepth(t, q, 0)
		})
	}
}

// A reader that has taken everything when the file rolls over leaves no file
// behind.
func TestReaderCaughtUpAtRollover(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(t, dir)
	o.MaxBytesPerFile = 70
	q := open(t, o)
	for n := range 9 {
		put(t, q, message(n, "abcde"))
		equalRecords(t, takeAll(t, q), [][]byte{message(n, "abcde")})
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, dir, map[string]string{
		"t.diskqueue.000004.dat": string(record(message(8, "abcde"))),
		"t.diskqueue.meta.dat":   "0\n4,35\n4,35\n",
	})
}

// A finished file goes soon after its last record was taken, when that is on
// record.
func TestFinishedFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(t, dir)
	o.MaxBytesPerFile = 70
	q := open(t, o)
	put(t, q, message(1, "abcde"), message(2, "abcde"), message(3, "abcde"))
	if _, err := take(q, nil, 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "t.diskqueue.000000.dat"))
		return os.IsNotExist(err)
	})
	if got := directory(t, dir)["t.diskqueue.meta.dat"]; got != "1\n1,0\n1,35\n" {
		t.Fatalf("metadata %q", got)
	}
	equalDepth(t, q, 1)
}

func TestPutRefusesSizes(t *testing.T) {
	q := open(t, testOptions(t, t.TempDir()))
	err := q.Put(batch(message(2, "ok"), message(1, "")[:25]))
	if want := "invalid message write size (25) minMsgSize=26 maxMsgSize=2147483647"; err == nil || err.Error() != want {
		t.Errorf("put: %v, want %s", err, want)
	}
	equalDepth(t, q, 0)
}

// A record that was stored while larger ones were allowed comes back when it is
// requeued, or when the daemon stops.
func TestPutTakesLargeRecordsBack(t *testing.T) {
	o := testOptions(t, t.TempDir())
	q := open(t, o)
	large := message(1, strings.Repeat("x", 1000))
	put(t, q, large)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	o.MaxRecordSize = 30
	q = open(t, o)
	got := takeAll(t, q)
	put(t, q, got...)
	equalRecords(t, takeAll(t, q), [][]byte{large})
}

func TestEmptyAndDelete(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(t, dir)
	o.MaxBytesPerFile = 70
	other := filepath.Join(dir, "t.diskqueue.000000.dat.bad")
	if err := os.WriteFile(other, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := open(t, o)
	put(t, q, message(1, "abcde"), message(2, "abcde"), message(3, "abcde"))
	if _, err := take(q, nil, 1); err != nil {
		t.Fatal(err)
	}
	if err := q.Empty(); err != nil {
		t.Fatal(err)
	}
	equalDepth(t, q, 0)
	equalDirectory(t, dir, map[string]string{filepath.Base(other): "kept"})
	equalRecords(t, takeAll(t, q), nil)
	put(t, q, message(4, "abcde"))
	equalRecords(t, takeAll(t, q), [][]byte{message(4, "abcde")})
	if err := q.Empty(); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, dir, map[string]string{
		filepath.Base(other): "kept", "t.diskqueue.meta.dat": "0\n3,0\n3,0\n",
	})

	q = open(t, o)
	put(t, q, message(5, "abcde"))
	if err := q.Delete(); err != nil {
		t.Fatal(err)
	}
	equalDirectory(t, dir, map[string]string{filepath.Base(other): "kept"})
	if err := q.Put(batch(message(1, "a"))); err != ErrClosed {
		t.Fatalf("put after delete: %v", err)
	}
	if err := q.Empty(); err != ErrClosed {
		t.Fatalf("empty after delete: %v", err)
	}
}

func TestNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "100%d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "a:ch", "b.diskqueue.c"} {
		o := testOptions(t, dir)
		o.Name = name
		q := open(t, o)
		put(t, q, message(1, "x"))
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	leftover := filepath.Join(dir, "a.diskqueue.meta.dat.12345.tmp")
	foreign := filepath.Join(dir, "a.diskqueue.meta.dat.x.tmp")
	for _, path := range []string{leftover, foreign} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a": true, "a:ch": true, "b.diskqueue.c": true, "b": false, "ch": false} {
		if names.Has(name) != want {
			t.Errorf("Has(%q) is %v", name, !want)
		}
	}
	for range 2 { // the second Open lists the directory itself
		o := testOptions(t, dir)
		o.Name, o.Names = "a", names
		q := open(t, o)
		equalDepth(t, q, 1)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("leftover: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("foreign file: %v", err)
	}
}

// Records of all sizes around those of slabs and windows, and of more than one.
func TestSizes(t *testing.T) {
	for _, most := range []int{1, 3, 1000} {
		o := testOptions(t, t.TempDir())
		o.MinRecordSize, o.MaxBytesPerFile, o.FS = 1, 300_000, noSyncFS{}
		q := open(t, o)
		var want [][]byte
		for _, around := range []int{1, 26, minSlab, maxSlab - minSlab, maxSlab, 2 * maxSlab, 310_000} {
			for size := max(1, around-9); size < around+9; size++ {
				want = append(want, bytes.Repeat([]byte{byte(len(want))}, size))
			}
		}
		put(t, q, want...)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = open(t, o)
		equalDepth(t, q, int64(len(want)))
		var got [][]byte
		for q.Depth() > 0 {
			var err error
			if got, err = take(q, got, most); err != nil {
				t.Fatal(err)
			}
		}
		equalRecords(t, got, want)
		for _, payload := range got {
			if cap(payload) != len(payload) {
				t.Fatal("appending to a payload would write into the next")
			}
		}
		if d := q.Damage(); d != (Damage{}) {
			t.Fatalf("damage %+v", d)
		}
	}
}

// Whoever is told of a token and has no use for it passes it on at once, with a Take of
// nothing: from a Put, a Take, and the end of that Take.
func TestTokenIsPassedOnAtOnce(t *testing.T) {
	o := testOptions(t, t.TempDir())
	var q *Queue
	passes := 0
	o.Notify = func() {
		if q == nil || passes == 0 {
			return
		}
		passes--
		<-q.Ready()
		if _, _, err := q.Take(nil, 0); err != nil {
			t.Error(err)
		}
	}
	q = open(t, o)
	pass := func(name string, do func()) {
		passes = 3
		do()
		if passes != 0 || len(q.Ready()) != 1 {
			t.Errorf("%s: %d passes left, %d tokens", name, passes, len(q.Ready()))
		}
	}
	pass("Put", func() { put(t, q, m(1), m(2), m(3)) })
	<-q.Ready()
	pass("Take", func() {
		if got, err := take(q, nil, 1); err != nil || len(got) != 1 {
			t.Error(got, err)
		}
	})
}
