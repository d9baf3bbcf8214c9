package nsqd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// patient gives a client a heartbeat interval longer than the test.
func patient(c *nsqtest.Conn) *nsqtest.Conn {
	c.Identify(`{"heartbeat_interval":86400000}`)
	return c
}

func withPatience(o *Options) { o.MaxHeartbeatInterval = 24 * time.Hour }

// expectAt reads messages, finishes them and checks when each comes, counted from
// start; a stop in between takes some milliseconds.
func expectAt(t *testing.T, c *nsqtest.Conn, start time.Time, want ...string) {
	t.Helper()
	var got []string
	for range want {
		m := c.ReadMessage()
		c.Fin(m.ID)
		got = append(got, fmt.Sprintf("%s at %v, attempts %d", m.Body, time.Since(start).Round(100*time.Millisecond), m.Attempts))
	}
	slices.Sort(got)
	slices.Sort(want)
	nsqtest.Equal(t, strings.Join(got, "\n"), strings.Join(want, "\n"))
}

// Deferred messages wait in every place there is — a topic that is paused, one
// whose memory is full, a channel, by DPUB and by REQ — while the daemon stops
// and starts again, twice. Each comes exactly when it is due.
func TestDeferredOverRestart(t *testing.T) {
	for _, memory := range []int64{0, 2, 10000} {
		t.Run(fmt.Sprintf("mem-queue-size %d", memory), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				configure := func(o *Options) {
					withPatience(o)
					o.DataPath, o.MemQueueSize, o.MaxBytesPerFile = dir, memory, 300
				}
				b := startBubble(t, configure)
				start := time.Now()
				p := patient(b.connect())
				for i := range 10 { // no channel yet: most do not fit in memory
					p.Dpub("waiting", time.Duration(1+i)*time.Minute, fmt.Sprint("w", i)).Pub("waiting", fmt.Sprint("p", i))
				}
				c := patient(b.connect()).Sub("t", "ch").Rdy(1)
				b.connect().Sub("t", "idle")
				p.Pub("t", "requeued")
				c.Req(c.ReadMessage().ID, 30*time.Minute)
				p.Dpub("t", 20*time.Minute, "soon").Dpub("t", 50*time.Minute, "late").Dpub("t", 5*time.Minute, "overdue")
				synctest.Wait()
				nsqtest.Equal(t, b.channel("t", "ch").deferred.Len(), int64(4))
				p.Command("PUB", "t").Close() // gone
				for range 2 {
					if err := b.stop(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Minute) // the daemon is down
					b = startBubble(t, configure)
				}

				c = patient(b.connect()).Sub("t", "ch").Rdy(10)
				expectAt(t, c, start, "overdue at 10m0s, attempts 1", "soon at 20m0s, attempts 1",
					"requeued at 30m0s, attempts 2", "late at 50m0s, attempts 1")
				nsqtest.Equal(t, b.channel("t", "ch").deferred.Len(), int64(0))
				c = patient(b.connect()).Sub("t", "idle").Rdy(10)
				expectAt(t, c, start, "requeued at 50m0s, attempts 1", "soon at 50m0s, attempts 1",
					"late at 50m0s, attempts 1", "overdue at 50m0s, attempts 1")

				// Of those in the topic the delay begins only now.
				start = time.Now()
				want := []string{}
				for i := range 10 {
					want = append(want, fmt.Sprintf("w%d at %v, attempts 1", i, time.Duration(1+i)*time.Minute),
						fmt.Sprintf("p%d at 0s, attempts 1", i))
				}
				expectAt(t, patient(b.connect()).Sub("waiting", "ch").Rdy(50), start, want...)

				if err := b.stop(); err != nil {
					t.Fatal(err)
				}
				left, err := filepath.Glob(filepath.Join(dir, "*.deferred.dat*"))
				if err != nil || len(left) > 0 {
					t.Errorf("left behind: %s %v", left, err)
				}
			})
		})
	}
}

// A paused topic and one whose memory is full keep delays while the daemon runs,
// too, and spilled messages do not stay in memory.
func TestDeferredInFullTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 3; withPatience(o) })
		c := patient(b.connect()).Sub("t", "ch").Rdy(100)
		topic := b.topic("t")
		topic.pause(true)
		p := patient(b.connect())
		for i := range 20 {
			p.Dpub("t", time.Duration(1+i)*time.Second, fmt.Sprint(i))
		}
		nsqtest.Equal(t, topic.queue.memory.Len(), 3)
		nsqtest.Equal(t, topic.queue.diskDepth(), int64(17))
		time.Sleep(time.Minute)
		start := time.Now()
		topic.pause(false)
		for i := range 20 {
			expectAt(t, c, start, fmt.Sprintf("%d at %v, attempts 1", i, time.Duration(1+i)*time.Second))
		}
		nsqtest.Equal(t, topic.queue.delays.length.Load(), int64(0))
		synctest.Wait()
		b.balance("t", "ch", 20)
	})
}

// stopWithDeferred leaves a data directory with three deferred messages in channel
// t:ch and three in topic "waiting".
func stopWithDeferred(t *testing.T, configure func(*Options)) {
	t.Helper()
	b := startBubble(t, configure)
	b.connect().Sub("t", "ch")
	for _, body := range []string{"a", "b", "c"} {
		b.connect().Dpub("t", time.Hour, body).Dpub("waiting", time.Hour, body)
	}
	synctest.Wait()
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to the files of delays costs the delays only: no message, none
// twice, and no start.
func TestDamagedDelays(t *testing.T) {
	change := func(f func([]byte) []byte) func(string) error {
		return func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, f(b), 0o600)
		}
	}
	for name, harm := range map[string]func(path string) error{
		"missing":         os.Remove,
		"empty":           change(func([]byte) []byte { return nil }),
		"cut":             change(func(b []byte) []byte { return b[:len(b)-24] }),
		"flipped bit":     change(func(b []byte) []byte { b[40] ^= 1; return b }),
		"another version": change(func(b []byte) []byte { b[6]++; return b }),
		"another kind":    change(func(b []byte) []byte { return reseal(b, func(f *delayFile) { f.kind ^= topicKind ^ channelKind }) }),
		"other messages": change(func(b []byte) []byte {
			return reseal(b, func(f *delayFile) {
				for i := range f.list {
					f.list[i].id[0] = 'x'
				}
			})
		}),
		"absurd values": change(func(b []byte) []byte {
			return reseal(b, func(f *delayFile) {
				for i := range f.list {
					f.list[i].value = -1 << 60
				}
			})
		}),
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				configure := func(o *Options) { o.DataPath = dir }
				stopWithDeferred(t, configure)
				for _, queue := range []string{"t:ch", "waiting"} {
					if err := harm(filepath.Join(dir, diskqueue.FileName(queue)+".deferred.dat")); err != nil {
						t.Fatal(err)
					}
				}
				b := startBubble(t, configure)
				start := time.Now()
				for _, topic := range []string{"t", "waiting"} {
					nsqtest.Equal(t, strings.Join(drain(b.connect().Sub(topic, "ch").Rdy(10), 3), ""), "abc")
					synctest.Wait()
					b.balance(topic, "ch", b.channel(topic, "ch").messages.Load())
				}
				took(t, start, 0)
				nsqtest.Equal(t, b.channel("t", "ch").deferred.Len()+b.channel("t", "ch").queue.depth(), int64(0))
			})
		})
	}
}

// reseal changes a file of delays and gives it the checksum that fits.
func reseal(b []byte, edit func(*delayFile)) []byte {
	f, err := parseDelays(b)
	if err != nil {
		panic(err)
	}
	edit(&f)
	return f.append(nil)
}

// Files of delays that are out of date: another program has emptied the queue and
// left other messages.
func TestStaleDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		configure := func(o *Options) { o.DataPath = dir }
		stopWithDeferred(t, configure)
		kept := filepath.Join(dir, "kept")
		path := filepath.Join(dir, diskqueue.FileName("t:ch")+".deferred.dat")
		if err := os.Rename(path, kept); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // or IDs come twice: a new daemon counts from the time on
		b := startBubble(t, configure)
		drain(b.connect().Sub("t", "ch").Rdy(10), 3)
		b.connect().Pub("t", "new")
		synctest.Wait()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(kept, path); err != nil {
			t.Fatal(err)
		}
		b = startBubble(t, configure)
		start := time.Now()
		nsqtest.Equal(t, strings.Join(drain(b.connect().Sub("t", "ch").Rdy(10), 1), ""), "new")
		took(t, start, 0)
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	})
}

// A wall clock that was set back while the daemon was down does not prolong a
// delay by that.
func TestRemainingDelay(t *testing.T) {
	f := delayFile{saved: 1000}
	for _, c := range [][3]int64{ // due, now, remaining
		{1500, 1000, 500}, {1500, 1400, 100}, {1500, 1500, 0}, {1500, 9000, 0},
		{1500, 10, 500}, {900, 10, 0}, {-1, 10, 0}, {1<<63 - 1, 0, int64(maxDelay)},
	} {
		if got := f.remaining(c[0], c[1]); got != c[2] {
			t.Errorf("due at %d, at %d: %d remain, want %d", c[0], c[1], got, c[2])
		}
	}
}

// After a clean stop a program that knows only the queue files finds every message
// there is, in files that obey the format.
func TestDowngradeFindsEveryMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := startBubble(t, func(o *Options) { o.DataPath, o.MemQueueSize, o.MaxBytesPerFile = dir, 5, 1000 })
		c := b.connect().Sub("t", "ch").Rdy(3)
		p := b.connect().Mpub("t", numbered(20)...).Mpub("waiting", numbered(20)...)
		p.Dpub("t", time.Minute, "deferred").Dpub("waiting", time.Minute, "deferred")
		c.Req(c.ReadMessage().ID, time.Minute)
		synctest.Wait()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		want := append(numbered(20), "deferred")
		for _, name := range []string{"t:ch", "waiting"} {
			q, err := diskqueue.Open(diskqueue.Options{Dir: dir, Name: name, MinRecordSize: protocol.MinMessageSize, MaxBytesPerFile: 1000})
			if err != nil {
				t.Fatal(err)
			}
			nsqtest.Equal(t, q.Depth(), int64(21))
			var bodies []string
			for range 21 {
				records, _, err := q.Take(nil, 1)
				if err != nil || len(records) != 1 {
					t.Fatal(records, err)
				}
				e, err := decodeEntry(new(batch), records[0])
				if err != nil {
					t.Fatal(err)
				}
				bodies = append(bodies, e.body())
			}
			slices.Sort(bodies)
			nsqtest.Equal(t, strings.Join(bodies, ","), strings.Join(want, ","))
			nsqtest.Equal(t, q.Damage(), diskqueue.Damage{})
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// What upstream's queue metadata says of a directory must be its files.
		for _, pattern := range []string{"*.bad", "*.tmp"} {
			if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
				t.Errorf("left behind: %s", left)
			}
		}
	})
}

// Killed, the daemon loses no deferred message that it has read from disk, nor its
// delay: the delay file of the stop before still holds. It must not bring anything
// back otherwise.
func TestKillWithDelayFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		configure := func(o *Options) { o.DataPath = dir }
		stopWithDeferred(t, configure)
		start := time.Now()

		// A daemon reads the deferred messages; the directory as it is then, or
		// as it was at its start, is what a kill leaves.
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		b := startBubble(t, configure)
		b.connect().Sub("t", "ch").Rdy(10)
		time.Sleep(10 * time.Second) // the position is saved
		nsqtest.Equal(t, b.channel("t", "ch").deferred.Len(), int64(3))
		later := t.TempDir()
		if err := os.CopyFS(later, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}

		var consumers []*nsqtest.Conn
		for _, left := range []string{killed, later} {
			b = startBubble(t, func(o *Options) { o.DataPath = left; withPatience(o) })
			consumers = append(consumers, patient(b.connect()).Sub("t", "ch").Rdy(10))
		}
		for _, c := range consumers {
			expectAt(t, c, start, "a at 1h0m0s, attempts 1", "b at 1h0m0s, attempts 1", "c at 1h0m0s, attempts 1")
		}
	})
}

func FuzzDelayFile(f *testing.F) {
	id := MessageID([]byte("0123456789abcdef"))
	for _, file := range []delayFile{
		{kind: topicKind, saved: 1, list: []delay{{id, 5}}},
		{kind: channelKind, list: []delay{}},
	} {
		b := file.append(nil)
		f.Add(b[:len(b)-delayTail])
	}
	f.Add([]byte(delayMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
		file, err := parseDelays(b)
		if err != nil {
			return
		}
		if again := file.append(nil); string(again) != string(b) {
			t.Errorf("%x is read as %+v, which is written as %x", b, file, again)
		}
		for _, d := range file.list {
			if left := file.remaining(d.value, file.saved); left < 0 || left > int64(maxDelay) {
				t.Errorf("%d remain", left)
			}
		}
	})
}
