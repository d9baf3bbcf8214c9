package nsqtofile

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// leave writes what a crash may leave of a file with the messages a, b and c, each
// synced, and returns that and how far it goes after each message.
func leave(t testing.TB, c Compression) (whole []byte, ends []int) {
	t.Helper()
	opts := NewOptions()
	opts.Compression = c
	path := filepath.Join(t.TempDir(), "f")
	f, _, err := openFile(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"a", "b", "c"} {
		if err := f.write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		if err := f.sync(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(f.size))
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if whole, err = os.ReadFile(path); err != nil || len(whole) != ends[2] {
		t.Fatal(len(whole), ends, err)
	}
	return whole, ends
}

// A file cut off anywhere is whole again after a start, with all messages that had
// been synced, and then goes where it belongs.
func TestTornFiles(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		whole, ends := leave(t, c)
		for length := range len(whole) + 1 {
			for _, separate := range []bool{true, false} {
				if c == None && !separate {
					continue // TestTornLine
				}
				if !separate && length%7 != 0 && length < ends[2]-1 {
					continue // the repair is the same
				}
				b := newBench(t, func(o *Options) {
					o.Compression = c
					if separate {
						o.WorkDir = filepath.Join(t.TempDir(), "w")
					}
				})
				name := "t.11-000007.log" + c.suffix()
				path := filepath.Join(b.opts.workDir(), name)
				b.must(os.MkdirAll(b.opts.workDir(), 0o700))
				b.must(os.WriteFile(path, whole[:length], 0o600))
				b.reopen()
				want := ""
				for i, end := range ends {
					if length >= end {
						want = "a,b,c,"[:2*i+2]
					}
				}
				switch {
				case want != "":
					b.expect(name, want)
				case separate:
					b.expect() // nothing in it was finished
				default:
					if info, err := os.Stat(path); err != nil || info.Size() > 0 {
						t.Errorf("%v, %v", info, err)
					}
				}
				if separate {
					expectDir(t, b.opts.WorkDir)
				}
			}
		}
	}
}

// Damage within a file cuts it off there.
func TestDamagedMember(t *testing.T) {
	for _, c := range []Compression{Gzip, Zstd} {
		whole, ends := leave(t, c)
		for at := ends[0]; at < ends[1]; at++ {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 0x40
			path := filepath.Join(t.TempDir(), "f"+c.suffix())
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = cutTornMember(f, c)
			_ = f.Close()
			if got := content(t, path); err != nil || got != "a\n" && got != "a\nb\nc\n" { // some bits say nothing of the content
				t.Errorf("%s: byte %d: %q, %v", c, at, got, err)
			}
		}
	}
}

// Half a message at the end of a file that is appended to is cut off, however long
// it is, and nothing else.
func TestTornLine(t *testing.T) {
	long := strings.Repeat("x", 3*bufferSize)
	for left, want := range map[string]string{
		"": "", "a\n": "a\n", "a\nb": "a\n", "a": "", "\n": "\n", long: "", "a\n" + long: "a\n", "a\n" + long + "\n": "a\n" + long + "\n", long + "\nb": long + "\n",
	} {
		b := newBench(t, func(*Options) {})
		b.must(os.MkdirAll(b.opts.OutputDir, 0o700))
		b.must(os.WriteFile(b.opts.OutputDir+"/t.12.log", []byte(left), 0o600))
		b.reopen()
		b.put("new")
		b.must(b.close())
		if got := content(t, b.opts.OutputDir+"/t.12.log"); got != want+"new\n" {
			t.Errorf("%.20q: %.20q, %d bytes", left, got, len(got))
		}
		if strings.Contains(b.log.String(), "cut off") != (want != left) {
			t.Errorf("%.20q: log:\n%s", left, &b.log)
		}
	}
}

// The files of processes that run, of other topics and of others are left alone.
func TestRecoverTakesOnlyWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	configure := func(o *Options) { o.WorkDir, o.Compression = dir, Gzip }
	running := newBench(t, configure)
	running.put("a")
	running.must(running.sync())
	for _, name := range []string{"u.12-000000.log.gz", "t.12-000000.log", "notes", "t.12-000000.log.gz.bak", "sub/t.12-000000.log.gz"} {
		running.must(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		running.must(os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	second := newBench(t, configure)
	second.put("b")
	second.must(second.close())
	second.expect("t.12-000001.log.gz", "b,")
	running.put("c")
	running.must(running.close())
	running.expect("t.12-000000.log.gz", "a,c,")
	expectLeft := 5
	entries, err := filepath.Glob(dir + "/*")
	if err != nil || len(entries) != expectLeft {
		t.Errorf("%v, %v", entries, err)
	}
}

// A crash between the two steps of a move does not make two files of one.
func TestCrashWithinMove(t *testing.T) {
	for name, half := range map[string]func(src, dst string) error{
		"linked": os.Link,
		"copied": func(src, dst string) error {
			data, err := os.ReadFile(src)
			return errors.Join(err, os.WriteFile(dst, data, 0o600))
		},
	} {
		b := newBench(t, func(o *Options) { o.WorkDir = filepath.Join(t.TempDir(), "w") })
		path := filepath.Join(b.opts.WorkDir, "t.11-000000.log")
		b.must(os.MkdirAll(b.opts.WorkDir, 0o700))
		b.must(os.MkdirAll(b.opts.OutputDir, 0o700))
		b.must(os.WriteFile(path, []byte(strings.Repeat("a\n", bufferSize)), 0o600))
		b.must(half(path, filepath.Join(b.opts.OutputDir, "t.11-000000.log")))
		b.must(os.WriteFile(filepath.Join(b.opts.WorkDir, "t.11-000001.log"), []byte("b\n"), 0o600))
		b.must(os.WriteFile(filepath.Join(b.opts.OutputDir, "t.11-000001.log"), []byte("c\n"), 0o600))
		b.reopen()
		t.Log(name)
		b.expect("t.11-000000.log", strings.Repeat("a,", bufferSize), "t.11-000001.log", "c,", "t.11-000002.log", "b,")
		expectDir(t, b.opts.WorkDir)
	}
}

// Without a work directory only the newest file can be torn.
func TestRecoverNewest(t *testing.T) {
	whole, _ := leave(t, Gzip)
	b := newBench(t, func(o *Options) { o.Gzip = true })
	for i, name := range []string{"t.10-000000.log.gz", "t.11-000000.log.gz"} {
		path := filepath.Join(b.opts.OutputDir, name)
		b.must(os.MkdirAll(b.opts.OutputDir, 0o700))
		b.must(os.WriteFile(path, whole[:len(whole)-1], 0o600))
		b.must(os.Chtimes(path, b.now, b.now.AddDate(0, 0, i)))
	}
	b.reopen()
	b.expect("t.10-000000.log.gz", "!unexpected EOF", "t.11-000000.log.gz", "a,b,")
}

// Whatever a file holds, what is left is the whole part of it, and can be read.
func FuzzCutTornMember(f *testing.F) {
	for _, c := range []Compression{Gzip, Zstd} {
		whole, ends := leave(f, c)
		f.Add(whole, string(c))
		f.Add(whole[:ends[1]+3], string(c))
		damaged := bytes.Clone(whole)
		damaged[ends[0]+rand.IntN(ends[1]-ends[0])]++
		f.Add(damaged, string(c))
	}
	f.Add([]byte(emptyMember), "gzip")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, kind string) {
		c := Compression(kind)
		if c.suffix() == "" {
			t.Skip("no such compression")
		}
		path := filepath.Join(dir, "f"+c.suffix())
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cut, err := cutTornMember(file, c)
		if err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadFile(path)
		if err != nil || int64(len(left)) != int64(len(data))-cut || !bytes.HasPrefix(data, left) {
			t.Fatalf("%d of %d bytes are left, %d cut off: %v", len(left), len(data), cut, err)
		}
		if len(left) == 0 {
			return
		}
		if got := content(t, path); strings.HasPrefix(got, "!") {
			t.Errorf("what is left cannot be read: %s", got)
		}
		if again, err := cutTornMember(file, c); again != 0 || err != nil {
			t.Errorf("again %d bytes are cut off: %v", again, err)
		}
	})
}
