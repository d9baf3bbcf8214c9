package nsqtofile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
)

// A journal notes what is done to files and messages, in order.
type journal struct {
	events []string
	handle
}

func (j *journal) Write(p []byte) (int, error) {
	j.events = append(j.events, fmt.Sprintf("write %d", strings.Count(string(p), "\n")))
	return j.handle.Write(p)
}

func (j *journal) Sync() error {
	j.events = append(j.events, "sync")
	return j.handle.Sync()
}

func (j *journal) OnFinish(m *nsq.Message)                     { j.events = append(j.events, "FIN "+string(m.Body)) }
func (j *journal) OnRequeue(*nsq.Message, time.Duration, bool) {}
func (j *journal) OnTouch(*nsq.Message)                        {}

// Messages are written together, synced, and then finished, the last one first.
func TestSyncThenFinish(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		b := newBench(t, func(o *Options) { o.Compression = c })
		b.must(b.tick(b.now))
		j := &journal{handle: b.file.f}
		b.file.f = j
		top := &topic{opts: b.opts, writer: b.writer}
		for _, body := range []string{"a", "b", "c"} {
			b.put(body)
			m := nsq.NewMessage(nsq.MessageID{}, []byte(body))
			m.Delegate = j
			top.pending = append(top.pending, m)
		}
		b.must(top.sync())
		if c != None {
			j.events[0] = "write 3" // what it holds cannot be seen
		}
		if want := []string{"write 3", "sync", "FIN c", "FIN b", "FIN a"}; !slices.Equal(j.events, want) {
			t.Errorf("%q: %q", c, j.events)
		}
		// After an error nothing is finished.
		j.events = nil
		b.file.f = &failing{handle: j, room: 0}
		b.put("d")
		m := nsq.NewMessage(nsq.MessageID{}, []byte("d"))
		m.Delegate = j
		top.pending = append(top.pending, m)
		if top.sync() == nil || slices.Contains(j.events, "FIN d") {
			t.Errorf("%q: %q", c, j.events)
		}
	}
}

// A thousand messages are a write of 64 KiB now and then, whole messages each.
func TestWritesAreLarge(t *testing.T) {
	b := newBench(t, func(*Options) {})
	b.must(b.tick(b.now))
	j := &journal{handle: b.file.f}
	b.file.f = j
	for range 1000 {
		b.put(strings.Repeat("x", 199))
	}
	b.must(b.close())
	if want := []string{"write 328", "write 328", "write 328", "write 16", "sync"}; !slices.Equal(j.events, want) {
		t.Errorf("%q", j.events)
	}
}

// Directories are synced when a file is created in one and when it is moved to
// another, before it leaves the first.
func TestDirectoriesAreSynced(t *testing.T) {
	var synced []string
	real := syncDir
	syncDir = func(dir string) error {
		synced = append(synced, filepath.Base(dir))
		return real(dir)
	}
	t.Cleanup(func() { syncDir = real })
	b := newBench(t, func(o *Options) { o.WorkDir = filepath.Join(t.TempDir(), "work") })
	b.put("a")
	if !slices.Equal(synced, []string{"work"}) {
		t.Errorf("after the creation: %q", synced)
	}
	synced = nil
	b.must(b.close())
	if !slices.Equal(synced, []string{"out", "work"}) {
		t.Errorf("after the move: %q", synced)
	}
}
