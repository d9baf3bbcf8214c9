package nsqtofile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/nsq-suite/nsq/internal/logging"
)

// A bench is a writer of the topic "t" with directories of its own.
type bench struct {
	*writer
	t    *testing.T
	opts *Options
	log  bytes.Buffer
	now  time.Time
}

func newBench(t *testing.T, configure func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, opts: NewOptions(), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.Local)}
	b.opts.OutputDir = filepath.Join(t.TempDir(), "out")
	b.opts.FilenameFormat, b.opts.DatetimeFormat = "<TOPIC>.<DATETIME><REV>.log", "%H"
	configure(b.opts)
	b.reopen()
	return b
}

// reopen starts over with a new writer, as a new process does.
func (b *bench) reopen() {
	b.t.Helper()
	var err error
	if b.writer, err = newWriter(b.opts, logging.New(&b.log, "", logging.LevelInfo), "t"); err != nil {
		b.t.Fatal(err)
	}
	b.must(b.recover())
	b.t.Cleanup(func() { _ = b.abandon() })
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// put writes messages, one for each word.
func (b *bench) put(words string) {
	b.t.Helper()
	for _, word := range strings.Fields(words) {
		_, err := b.write(b.now, []byte(word))
		b.must(err)
	}
}

// expect compares the output directory with file names and contents by turns; a
// newline is a comma.
func (b *bench) expect(want ...string) {
	b.t.Helper()
	expectDir(b.t, b.opts.OutputDir, want...)
}

func expectDir(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		got = append(got, relative, strings.ReplaceAll(content(t, path), "\n", ","))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// content returns what a file holds, decompressed as its name says.
func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = bytes.NewReader(data)
	switch filepath.Ext(path) {
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".zst":
		r, err = zstd.NewReader(r)
	}
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		return "!" + err.Error()
	}
	return string(data)
}

func TestOneFilePerName(t *testing.T) {
	b := newBench(t, func(*Options) {})
	b.put("a b")
	b.now = b.now.Add(time.Hour)
	b.put("c")
	b.must(b.close())
	b.expect("t.12.log", "a,b,", "t.13.log", "c,")
	// A new process, and a name that comes back, append.
	b.now = b.now.Add(-time.Hour)
	b.reopen()
	b.put("d")
	b.must(b.close())
	b.expect("t.12.log", "a,b,d,", "t.13.log", "c,")
	if !strings.Contains(b.log.String(), "[t/nsq_to_file] new filename t.13.log, rotating...\n") ||
		!strings.Contains(b.log.String(), "[t/nsq_to_file] opening "+b.opts.OutputDir+"/t.12.log\n") {
		t.Errorf("log:\n%s", &b.log)
	}
}

func TestRotation(t *testing.T) {
	b := newBench(t, func(o *Options) { o.RotateSize = 4 })
	b.put("a b c d") // 2 bytes each: beyond 4 with the third
	b.must(b.close())
	b.expect("t.12-000000.log", "a,b,c,", "t.12-000001.log", "d,")
	if !strings.Contains(b.log.String(), "t.12-000000.log currently 6 bytes (> 4), rotating...\n") {
		t.Errorf("log:\n%s", &b.log)
	}
	// The next process looks for a file with room.
	b.reopen()
	b.put("e")
	b.must(b.close())
	b.expect("t.12-000000.log", "a,b,c,", "t.12-000001.log", "d,e,")

	b = newBench(t, func(o *Options) { o.RotateInterval = time.Minute })
	b.put("a")
	b.now = b.now.Add(time.Minute)
	b.put("b")
	b.now = b.now.Add(time.Nanosecond)
	b.put("c")
	b.must(b.close())
	b.expect("t.12-000000.log", "a,b,", "t.12-000001.log", "c,")
	b.reopen()
	b.put("d") // files are not appended to
	b.must(b.close())
	b.expect("t.12-000000.log", "a,b,", "t.12-000001.log", "c,", "t.12-000002.log", "d,")
	for _, text := range []string{"1m0.000000001s since last open, rotating...\n", "working file already exists: " + b.opts.OutputDir + "/t.12-000001.log\n"} {
		if !strings.Contains(b.log.String(), text) {
			t.Errorf("log lacks %q:\n%s", text, &b.log)
		}
	}
}

// A topic without messages gets a file per period, unless empty files are skipped.
func TestTicks(t *testing.T) {
	b := newBench(t, func(*Options) {})
	b.must(b.tick(b.now))
	b.must(b.tick(b.now))
	b.now = b.now.Add(time.Hour)
	b.must(b.tick(b.now))
	b.expect("t.12.log", "", "t.13.log", "")

	b = newBench(t, func(o *Options) { o.SkipEmptyFiles = true })
	b.must(b.tick(b.now))
	b.expect()
	b.put("a")
	b.now = b.now.Add(time.Hour)
	b.must(b.tick(b.now))
	if b.file != nil {
		t.Error("the file of the last period is still open")
	}
	b.expect("t.12.log", "a,")
}

func TestCompression(t *testing.T) {
	for _, c := range []Compression{Gzip, Zstd} {
		b := newBench(t, func(o *Options) { o.Compression = c })
		name := b.opts.OutputDir + "/t.12-000000.log" + c.suffix()
		b.put("a b")
		b.must(b.sync())
		b.must(b.sync())
		if got := content(t, name); got != "a\nb\n" {
			t.Errorf("%s: after a sync the file holds %q", c, got)
		}
		b.put("c " + strings.Repeat("x", 200_000))
		b.must(b.close())
		if got := content(t, name); got != "a\nb\nc\n"+strings.Repeat("x", 200_000)+"\n" {
			t.Errorf("%s: at the end the file holds %d bytes", c, len(got))
		}
		b.must(b.tick(b.now))
		b.must(b.close())
		if info, err := os.Stat(b.opts.OutputDir + "/t.12-000001.log" + c.suffix()); err != nil || c == Gzip && info.Size() != 23 || content(t, b.workPath) != "" {
			t.Errorf("%s: an empty file: %v, %v", c, info, err)
		}
	}
}

func TestWorkDir(t *testing.T) {
	for name, dir := range map[string]func() string{
		"same file system": t.TempDir,
		"another one":      func() string { return otherFileSystem(t) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.WorkDir, o.FilenameFormat = dir()+"/./w/", "<DATETIME>/<TOPIC><REV>" })
			b.put("a b")
			b.must(b.sync())
			b.expect()
			expectDir(t, b.opts.WorkDir, "12/t-000000", "a,b,")
			if name == "another one" { // a copy that a crash has interrupted
				b.must(os.WriteFile(b.opts.OutputDir+"/12/t-000000.1.tmp", nil, 0o600))
			}
			b.must(b.close()) // as SIGHUP does
			b.put("c")
			b.must(b.close())
			b.expect("12/t-000000", "a,b,", "12/t-000001", "c,")
			expectDir(t, b.opts.WorkDir)

			// A name that is taken is not overwritten, whenever that comes about.
			b.reopen()
			b.put("d")
			for _, taken := range []string{"2", "3"} {
				b.must(os.WriteFile(b.opts.OutputDir+"/12/t-00000"+taken, []byte("taken"), 0o600))
			}
			b.must(b.close())
			b.expect("12/t-000000", "a,b,", "12/t-000001", "c,", "12/t-000002", "taken", "12/t-000003", "taken", "12/t-000004", "d,")
			out := b.opts.OutputDir + "/12/t-00000"
			for _, text := range []string{
				"output file already exists: " + out + "1\n", "destination file already exists: " + out + "2\n",
				"moving finished file " + b.opts.workDir() + "/12/t-000002 to " + out + "2\n",
				"renamed finished file " + b.opts.workDir() + "/12/t-000002 to " + out + "4 to avoid overwrite\n",
			} {
				if !strings.Contains(b.log.String(), text) {
					t.Errorf("log lacks %q:\n%s", text, &b.log)
				}
			}
		})
	}
}

// otherFileSystem returns a directory that files of t.TempDir cannot be linked to.
func otherFileSystem(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nsqtofile")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(probe, filepath.Join(t.TempDir(), "probe")); !errors.Is(err, syscall.EXDEV) {
		t.Skipf("/dev/shm is no other file system: %v", err)
	}
	if err := os.Remove(probe); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A file found too large is closed again.
func TestSkippedFilesAreClosed(t *testing.T) {
	b := newBench(t, func(o *Options) { o.RotateSize = 1 })
	b.must(os.MkdirAll(b.opts.OutputDir, 0o700))
	for rev := range 50 {
		b.must(os.WriteFile(filepath.Join(b.opts.OutputDir, revision("t.12<REV>.log", rev)), []byte("xx\n"), 0o600))
	}
	before := openFiles(t)
	b.put("a")
	if after := openFiles(t); after > before+1 {
		t.Errorf("%d more files are open", after-before)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}

// A failing is a handle whose disk has room for so many bytes more.
type failing struct {
	handle
	room int
	sync error
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) <= f.room {
		f.room -= len(p)
		return f.handle.Write(p)
	}
	n, err := f.handle.Write(p[:f.room])
	f.room = 0
	return n, errors.Join(err, &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
}

func (f *failing) Sync() error { return errors.Join(f.sync, f.handle.Sync()) }

// A full disk leaves what was synced, whole, and half a message nowhere.
func TestDiskFull(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		b := newBench(t, func(o *Options) { o.Compression = c })
		b.put("a b")
		b.must(b.sync())
		b.file.f = &failing{handle: b.file.f, room: 3}
		b.put("c d e")
		if err := b.sync(); !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "failed syncing messages: ") {
			t.Errorf("%q: %v", c, err)
		}
		b.must(b.abandon())
		name := "t.12.log"
		if c != None {
			name = "t.12-000000.log" + c.suffix()
		}
		b.expect(name, "a,b,")
	}
	b := newBench(t, func(*Options) {})
	b.put("a")
	b.file.f = &failing{handle: b.file.f, room: 100, sync: errors.New("bad disk")}
	if err := b.sync(); err == nil || err.Error() != "failed syncing messages: failed to fsync output file: bad disk" {
		t.Error(err)
	}
}

// Processes that append to one file do not cut each other's messages off.
func TestSharedFileIsNotCut(t *testing.T) {
	b := newBench(t, func(*Options) {})
	b.put("a")
	b.must(b.sync())
	other := newBench(t, func(o *Options) { o.OutputDir = b.opts.OutputDir })
	other.put("b")
	other.must(other.sync())
	b.file.f = &failing{handle: b.file.f, room: 1}
	b.put("cc")
	if b.sync() == nil {
		t.Error("no error")
	}
	b.must(b.abandon())
	other.put("d")
	other.must(other.close())
	b.expect("t.12.log", "a,b,cd,")
}
