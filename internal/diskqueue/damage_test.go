package diskqueue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// m is the payload of message n, 35 bytes with its length; r its record.
func m(n int) []byte { return message(n, "abcde") }
func r(n int) []byte { return record(m(n)) }

// withLength is r(n) with another length prefix.
func withLength(n int, length uint32) []byte {
	b := r(n)
	binary.BigEndian.PutUint32(b, length)
	return b
}

func join(parts ...[]byte) string { return string(bytes.Join(parts, nil)) }

func zeros(n int) []byte { return make([]byte, n) }

// Each row is a directory as a crash or a damage leaves it, the records that
// come out of it, and what it holds after they were taken and the queue was
// closed. One more message is put and taken between.
func TestDamage(t *testing.T) {
	big := message(7, strings.Repeat("x", 3000))
	quoting := message(7, join(r(8), r(9)))
	quotingInside := message(7, join([]byte("before"), r(8), []byte("after, longer than one header")))
	const meta, file0, file1, file2 = "meta.dat", "000000.dat", "000001.dat", "000002.dat"
	type files map[string]string
	for name, row := range map[string]struct {
		files  files
		want   [][]byte
		left   files
		damage Damage
	}{
		"nothing wrong": {
			files{meta: "2\n0,35\n0,105\n", file0: join(r(1), r(2), r(3))},
			[][]byte{m(2), m(3)},
			files{meta: "0\n0,140\n0,140\n", file0: join(r(1), r(2), r(3), r(0))}, Damage{},
		},
		"no last newline": {
			files{meta: "1\n0,0\n0,35", file0: join(r(1))},
			[][]byte{m(1)},
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0))}, Damage{},
		},
		"metadata behind the data": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1), r(2), r(3))},
			[][]byte{m(1), m(2), m(3)},
			files{meta: "0\n0,140\n0,140\n", file0: join(r(1), r(2), r(3), r(0))}, Damage{},
		},
		"torn last record, metadata behind": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1), r(2), r(3), r(4)[:34])},
			[][]byte{m(1), m(2), m(3)},
			files{meta: "0\n0,140\n0,140\n", file0: join(r(1), r(2), r(3), r(0))}, Damage{},
		},
		"torn inside a length": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1), r(2)[:3])},
			[][]byte{m(1)},
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0))}, Damage{},
		},
		"zeros behind the last record": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1), r(2), zeros(4096))},
			[][]byte{m(1), m(2)},
			files{meta: "0\n0,105\n0,105\n", file0: join(r(1), r(2), r(0))}, Damage{},
		},
		"garbage behind the last record": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1), []byte("\xff\xff\xff\xffgarbage"))},
			[][]byte{m(1)},
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0)), file0 + ".bad": "\xff\xff\xff\xffgarbage"},
			Damage{Records: 1, Bytes: 11},
		},
		"metadata a file behind": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1), r(2)), file1: join(r(3), r(4)[:9])},
			[][]byte{m(1), m(2), m(3)},
			files{meta: "0\n1,70\n1,70\n", file1: join(r(3), r(0))}, Damage{},
		},
		"metadata points at a file that was not begun": {
			files{meta: "2\n0,0\n1,0\n", file0: join(r(1), r(2))},
			[][]byte{m(1), m(2)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0))}, Damage{},
		},
		"reader at the end of a finished file": {
			files{meta: "1\n0,70\n1,35\n", file0: join(r(1), r(2)), file1: join(r(3))},
			[][]byte{m(3)},
			files{meta: "0\n1,70\n1,70\n", file1: join(r(3), r(0))}, Damage{},
		},
		"reader at the end of a finished file, the next not begun": {
			files{meta: "0\n0,70\n1,0\n", file0: join(r(1), r(2))},
			nil,
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0))}, Damage{},
		},
		"zero length in the middle, next file intact": {
			files{meta: "5\n0,0\n1,70\n", file0: join(r(1), withLength(2, 0), r(3)), file1: join(r(4), r(5))},
			[][]byte{m(1), m(3), m(4), m(5)},
			files{meta: "0\n1,105\n1,105\n", file1: join(r(4), r(5), r(0)), file0 + ".bad": join(withLength(2, 0))},
			Damage{Records: 1, Bytes: 35},
		},
		"zeros over the middle of the write file": {
			files{meta: "5\n0,0\n0,175\n", file0: join(r(1), zeros(70), r(4), r(5))},
			[][]byte{m(1), m(4), m(5)},
			files{meta: "0\n0,210\n0,210\n", file0: join(r(1), zeros(70), r(4), r(5), r(0)), file0 + ".bad": join(zeros(70))},
			Damage{Records: 1, Bytes: 70},
		},
		"two damaged places": {
			files{meta: "5\n0,0\n0,175\n", file0: join(r(1), withLength(2, 0), r(3), withLength(4, 1<<31), r(5))},
			[][]byte{m(1), m(3), m(5)},
			files{
				meta: "0\n0,210\n0,210\n", file0: join(r(1), withLength(2, 0), r(3), withLength(4, 1<<31), r(5), r(0)),
				file0 + ".bad": join(withLength(2, 0), withLength(4, 1<<31)),
			},
			Damage{Records: 2, Bytes: 70},
		},
		"first length damaged": {
			files{meta: "2\n0,0\n0,70\n", file0: join(withLength(1, 1<<24), r(2))},
			[][]byte{m(2)},
			files{meta: "0\n0,105\n0,105\n", file0: join(withLength(1, 1<<24), r(2), r(0)), file0 + ".bad": join(withLength(1, 1<<24))},
			Damage{Records: 1, Bytes: 35},
		},
		"last length damaged": {
			files{meta: "2\n0,0\n1,0\n", file0: join(r(1), withLength(2, 32))},
			[][]byte{m(1)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0)), file0 + ".bad": join(withLength(2, 32))},
			Damage{Records: 1, Bytes: 35},
		},
		"a length that swallows other records": {
			files{meta: "5\n0,0\n0,175\n", file0: join(r(1), withLength(2, 31+16), r(3), r(4), r(5))},
			[][]byte{m(1), m(3), m(4), m(5)},
			files{
				meta: "0\n0,210\n0,210\n", file0: join(r(1), withLength(2, 31+16), r(3), r(4), r(5), r(0)),
				file0 + ".bad": join(withLength(2, 31+16)),
			},
			Damage{Records: 1, Bytes: 35},
		},
		"a length that ends too soon": {
			files{meta: "4\n0,0\n1,0\n", file0: join(r(1), withLength(2, 28), r(3), r(4))},
			[][]byte{m(1), m(3), m(4)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0)), file0 + ".bad": join(withLength(2, 28))},
			Damage{Records: 1, Bytes: 35},
		},
		"a length that reaches to the end": {
			files{meta: "4\n0,0\n1,0\n", file0: join(r(1), withLength(2, 31+32), r(3), r(4))},
			[][]byte{m(1), m(3), m(4)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0)), file0 + ".bad": join(withLength(2, 31+32))},
			Damage{Records: 1, Bytes: 35},
		},
		"a message that quotes records before a damaged one": {
			files{meta: "3\n0,0\n1,0\n", file0: join(record(quoting), withLength(2, 0), r(3))},
			[][]byte{quoting, m(3)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0)), file0 + ".bad": join(withLength(2, 0))},
			Damage{Records: 1, Bytes: 35},
		},
		"a message that quotes a record inside before a damaged one": {
			files{meta: "3\n0,0\n1,0\n", file0: join(record(quotingInside), withLength(2, 0), r(3))},
			[][]byte{quotingInside, m(3)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0)), file0 + ".bad": join(withLength(2, 0))},
			Damage{Records: 1, Bytes: 35},
		},
		"nothing but garbage": {
			files{meta: "3\n0,0\n1,35\n", file0: strings.Repeat("garbage ", 9), file1: join(r(4))},
			[][]byte{m(4)},
			files{meta: "0\n1,70\n1,70\n", file1: join(r(4), r(0)), file0 + ".bad": strings.Repeat("garbage ", 9)},
			Damage{Records: 1, Bytes: 72},
		},
		"an older set-aside file is kept": {
			files{meta: "2\n0,0\n1,0\n", file0: join(withLength(1, 0), r(2)), file0 + ".bad": "old"},
			[][]byte{m(2)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0)), file0 + ".bad": "old" + join(withLength(1, 0))},
			Damage{Records: 1, Bytes: 35},
		},
		"torn end of a finished file": {
			files{meta: "4\n0,0\n1,35\n", file0: join(r(1), r(2), r(3)[:10]), file1: join(r(4))},
			[][]byte{m(1), m(2), m(4)},
			files{meta: "0\n1,70\n1,70\n", file1: join(r(4), r(0)), file0 + ".bad": join(r(3)[:10])},
			Damage{Records: 1, Bytes: 10},
		},
		"write file shorter than the metadata says": {
			files{meta: "3\n0,0\n0,105\n", file0: join(r(1), r(2))},
			[][]byte{m(1), m(2)},
			files{meta: "0\n0,105\n0,105\n", file0: join(r(1), r(2), r(0))}, Damage{Files: 1},
		},
		"write file cut inside a record": {
			files{meta: "3\n0,0\n0,105\n", file0: join(r(1), r(2), r(3)[:30])},
			[][]byte{m(1), m(2)},
			files{meta: "0\n0,105\n0,105\n", file0: join(r(1), r(2), r(0)), file0 + ".bad": join(r(3)[:30])},
			Damage{Records: 1, Bytes: 30, Files: 1},
		},
		"write file cut below the read position": {
			files{meta: "1\n0,70\n0,105\n", file0: join(r(1))},
			nil,
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0))}, Damage{Files: 1},
		},
		"write file missing": {
			files{meta: "3\n0,0\n1,35\n", file0: join(r(1), r(2))},
			[][]byte{m(1), m(2)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0))}, Damage{Files: 1},
		},
		"all data files missing": {
			files{meta: "3\n0,0\n1,35\n"},
			nil,
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0))}, Damage{Files: 1},
		},
		"first file missing": {
			files{meta: "4\n0,35\n1,70\n", file1: join(r(3), r(4))},
			[][]byte{m(3), m(4)},
			files{meta: "0\n1,105\n1,105\n", file1: join(r(3), r(4), r(0))}, Damage{Files: 1},
		},
		"middle file missing": {
			files{meta: "6\n0,0\n2,35\n", file0: join(r(1), r(2)), file2: join(r(5))},
			[][]byte{m(1), m(2), m(5)},
			files{meta: "0\n2,70\n2,70\n", file2: join(r(5), r(0))}, Damage{Files: 1},
		},
		"no metadata": {
			files{file0: join(r(1), r(2)), file1: join(r(3))},
			[][]byte{m(1), m(2), m(3)},
			files{meta: "0\n1,70\n1,70\n", file1: join(r(3), r(0))}, Damage{Files: 1},
		},
		"no metadata, first files gone, torn": {
			files{"000008.dat": join(r(1), r(2)), "000009.dat": join(r(3), r(4)[:7])},
			[][]byte{m(1), m(2), m(3)},
			files{meta: "0\n9,70\n9,70\n", "000009.dat": join(r(3), r(0))}, Damage{Files: 1},
		},
		"empty metadata": {
			files{meta: "", file0: join(r(1), r(2)), file1: join(r(3))},
			[][]byte{m(1), m(2), m(3)},
			files{meta: "0\n1,70\n1,70\n", file1: join(r(3), r(0))}, Damage{Files: 1},
		},
		"metadata of zeros": {
			files{meta: string(zeros(12)), file0: join(r(1))},
			[][]byte{m(1)},
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0))}, Damage{Files: 1},
		},
		"read position beyond write position": {
			files{meta: "1\n3,0\n0,35\n", file0: join(r(1))},
			[][]byte{m(1)},
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0))}, Damage{Files: 1},
		},
		"write file number far away": {
			files{meta: "1\n0,0\n999999999999,35\n", file0: join(r(1))},
			[][]byte{m(1)},
			files{meta: "0\n1,35\n1,35\n", file1: join(r(0))}, Damage{Files: 1},
		},
		"read position inside a record": {
			files{meta: "3\n0,20\n0,105\n", file0: join(r(1), r(2), r(3))},
			[][]byte{m(2), m(3)},
			files{meta: "0\n0,140\n0,140\n", file0: join(r(1), r(2), r(3), r(0)), file0 + ".bad": join(r(1)[20:])},
			Damage{Records: 1, Bytes: 15},
		},
		"depth too high": {
			files{meta: "9\n0,0\n0,70\n", file0: join(r(1), r(2))},
			[][]byte{m(1), m(2)},
			files{meta: "0\n0,105\n0,105\n", file0: join(r(1), r(2), r(0))}, Damage{},
		},
		"depth too low": {
			files{meta: "-3\n0,0\n0,70\n", file0: join(r(1), r(2))},
			[][]byte{m(1), m(2)},
			files{meta: "0\n0,105\n0,105\n", file0: join(r(1), r(2), r(0))}, Damage{},
		},
		"a record above the limit": {
			files{meta: "3\n0,0\n0,3100\n", file0: join(r(1), record(big), r(2))},
			[][]byte{m(1), big, m(2)},
			files{meta: "0\n0,3135\n0,3135\n", file0: join(r(1), record(big), r(2), r(0))}, Damage{},
		},
		"leftovers": {
			files{meta: "1\n0,0\n0,35\n", file0: join(r(1)), meta + ".5577006791947779410.tmp": "1\n", "000007.dat.bad": "x"},
			[][]byte{m(1)},
			files{meta: "0\n0,70\n0,70\n", file0: join(r(1), r(0)), "000007.dat.bad": "x"}, Damage{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range row.files {
				if err := os.WriteFile(filepath.Join(dir, "t.diskqueue."+file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o := testOptions(t, dir)
			o.MaxRecordSize = 1000
			q := open(t, o)
			equalDepth(t, q, int64(len(row.want)))
			equalRecords(t, takeAll(t, q), row.want)
			equalDepth(t, q, 0)
			put(t, q, m(0))
			equalDepth(t, q, 1)
			equalRecords(t, takeAll(t, q), [][]byte{m(0)})
			if d := q.Damage(); d != row.damage {
				t.Errorf("damage %+v, want %+v", d, row.damage)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			left := make(map[string]string)
			for file, content := range row.left {
				left["t.diskqueue."+file] = content
			}
			equalDirectory(t, dir, left)
		})
	}
}

// The depth of a backlog too long to be counted at Open is believed, and put
// right when the records contradict it.
func TestDepthOfLongBacklog(t *testing.T) {
	const records = 2000
	var data []byte
	for n := range records {
		data = append(data, record(message(n, strings.Repeat("b", 970)))...)
	}
	for name, row := range map[string]struct {
		stored     string
		atOpen     int64
		afterTen   int64
		everything int
	}{
		"right":                {"2000", 2000, 1990, records},
		"a little too high":    {"2001", 2001, 1991, records},
		"a little too low":     {"10", 10, 1990, records},
		"impossibly high":      {"1000000", 2000, 1990, records},
		"zero, with a backlog": {"0", 2000, 1990, records},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "t.diskqueue.")
			if err := os.WriteFile(path+"000000.dat", data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+"meta.dat", []byte(row.stored+"\n0,0\n0,2000000\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			q := open(t, testOptions(t, dir))
			equalDepth(t, q, row.atOpen)
			got, err := take(q, nil, 10)
			if err != nil || len(got) != 10 {
				t.Fatal(len(got), err)
			}
			equalDepth(t, q, row.afterTen)
			if n := 10 + len(takeAll(t, q)); n != row.everything {
				t.Fatalf("took %d", n)
			}
			equalDepth(t, q, 0)
		})
	}
}

// Damage that happens while the queue is open.
func TestDamageWhileOpen(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(t, dir)
	logged := new(corruptErrors)
	o.Logger, o.MaxBytesPerFile = slog.New(logged), 105
	q := open(t, o)
	put(t, q, m(1), m(2), m(3), m(4), m(5), m(6), m(7))
	path := filepath.Join(dir, "t.diskqueue.")
	f, err := os.OpenFile(path+"000000.dat", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(zeros(4), 35); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), os.Remove(path+"000001.dat"), os.Truncate(path+"000002.dat", 30)); err != nil {
		t.Fatal(err)
	}
	equalRecords(t, takeAll(t, q), [][]byte{m(1), m(3)})
	equalDepth(t, q, 0)
	if d, want := q.Damage(), (Damage{Records: 1, Bytes: 35, Files: 2}); d != want {
		t.Fatalf("damage %+v, want %+v", d, want)
	}
	for i, want := range []struct {
		file   string
		offset int64
		cause  error
	}{{"000000.dat", 35, errBadRecord}, {"000001.dat", 0, errMissing}, {"000002.dat", 0, errTorn}} {
		if e := (*logged)[i]; e.File != path+want.file || e.Offset != want.offset || !errors.Is(e, want.cause) {
			t.Errorf("logged %v, want %v", e, want)
		}
	}
	put(t, q, m(8), m(9))
	equalRecords(t, takeAll(t, q), [][]byte{m(8), m(9)})
	equalDepth(t, q, 0)
}

// corruptErrors is a log handler that keeps the typed errors.
type corruptErrors []*CorruptError

func (*corruptErrors) Enabled(context.Context, slog.Level) bool { return true }
func (c *corruptErrors) WithAttrs([]slog.Attr) slog.Handler     { return c }
func (c *corruptErrors) WithGroup(string) slog.Handler          { return c }
func (c *corruptErrors) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if e, ok := a.Value.Any().(*CorruptError); ok && strings.HasPrefix(r.Message, "DISKQUEUE(t): ") {
			*c = append(*c, e)
		}
		return true
	})
	return nil
}

func TestCorruptErrorSaysWhere(t *testing.T) {
	err := error(&CorruptError{File: "d/t.diskqueue.000000.dat", Offset: 35, Err: errBadRecord})
	if want := `corrupt queue file "d/t.diskqueue.000000.dat" at offset 35: record length does not fit`; err.Error() != want {
		t.Errorf("%s, want %s", err, want)
	}
	if !errors.Is(err, errBadRecord) {
		t.Error("cause is not wrapped")
	}
}
