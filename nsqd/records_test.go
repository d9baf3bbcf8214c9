package nsqd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// storedMessages leaves a directory with messages 000000 to 000009 on disk, in
// channel t:ch or, without a channel, in topic t, two of them deferred for an hour.
func storedMessages(t *testing.T, inChannel bool) (dir string) {
	dir = t.TempDir()
	b := startBubble(t, func(o *Options) { o.DataPath = dir })
	p := b.connect()
	if inChannel {
		p.Sub("t", "ch")
		synctest.Wait()
	}
	p = b.connect().Mpub("t", numbered(8)...)
	for _, body := range numbered(10)[8:] {
		p.Dpub("t", time.Hour, body)
	}
	synctest.Wait()
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// savedDepth is how many messages a queue's metadata speaks of; none without a
// file.
func savedDepth(t *testing.T, dir, name string) (depth int64) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, diskqueue.FileName(name)+".diskqueue.meta.dat"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if _, scanErr := fmt.Sscanf(string(b), "%d\n", &depth); err != nil || scanErr != nil {
		t.Fatalf("metadata of %s: %q, %v", name, b, errors.Join(err, scanErr))
	}
	return depth
}

// settled is long enough for all queues to have saved their positions.
const settled = 5 * time.Second

// A kill comes when messages that were on disk have been where messages can be, for
// so long that all positions are saved. They all come again.
func TestKillLosesNothingStored(t *testing.T) {
	for name, row := range map[string]struct {
		inTopic bool
		do      func(*bubble, *failingStorage)
	}{
		"in flight": {do: func(b *bubble, _ *failingStorage) {
			c := b.connect().Sub("t", "ch").Rdy(10)
			for range 8 {
				c.ReadMessage()
			}
		}},
		"in flight to a client that is gone": {do: func(b *bubble, _ *failingStorage) {
			c := b.connect().Sub("t", "ch").Rdy(10)
			for range 8 {
				c.ReadMessage()
			}
			c.Close()
		}},
		"requeued": {do: func(b *bubble, _ *failingStorage) {
			c := b.connect().Sub("t", "ch").Rdy(8)
			var ids []MessageID
			for range 8 {
				ids = append(ids, c.ReadMessage().ID)
			}
			c.Rdy(0)
			for _, id := range ids {
				c.Req(id, 0)
			}
		}},
		"requeued for later": {do: func(b *bubble, _ *failingStorage) {
			c := b.connect().Sub("t", "ch").Rdy(8)
			for range 8 {
				c.Req(c.ReadMessage().ID, time.Minute)
			}
		}},
		"timed out": {do: func(b *bubble, _ *failingStorage) {
			c := patient(b.connect()).Sub("t", "ch").Rdy(8)
			for range 8 {
				c.ReadMessage()
			}
			c.Rdy(0)
			time.Sleep(2 * time.Minute)
		}},
		"handed over": {inTopic: true, do: func(b *bubble, _ *failingStorage) {
			b.connect().Sub("t", "ch")
		}},
		"handed over and in flight": {inTopic: true, do: func(b *bubble, _ *failingStorage) {
			c := b.connect().Sub("t", "ch").Rdy(10)
			for range 8 {
				c.ReadMessage()
			}
		}},
		"handed over to a channel that cannot store it": {inTopic: true, do: func(b *bubble, disk *failingStorage) {
			disk.failOnly("t:ch", fullDisk("t:ch"))
			c := b.connect().Sub("t", "ch").Rdy(3)
			for range 3 {
				c.ReadMessage()
			}
		}},
	} {
		for _, memory := range []int64{0, 4, 100} {
			t.Run(fmt.Sprintf("%s, mem-queue-size %d", name, memory), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir := storedMessages(t, !row.inTopic)
					configure := func(o *Options) { o.DataPath, o.MemQueueSize = dir, memory; withPatience(o) }
					b := startBubble(t, configure)
					disk := useFailing(b.NSQD)
					row.do(b, disk)
					time.Sleep(settled)
					killed := t.TempDir()
					if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
						t.Fatal(err)
					}
					disk.failOnly("t:ch", nil)
					dir = killed
					b = startBubble(t, configure)
					got := drain(patient(b.connect()).Timeout(2*time.Hour).Sub("t", "ch").Rdy(10), 10)
					nsqtest.Equal(t, strings.Join(got, " "), strings.Join(numbered(10), " "))
					synctest.Wait()
					b.stopAndCompare(killed)
				})
			})
		}
	}
}

// However a message goes that was read from disk, its record goes with it: what is
// saved then speaks of no message that is not there.
func TestRecordsAreLetGo(t *testing.T) {
	finish := func(c *nsqtest.Conn, n int) {
		for range n {
			c.Fin(c.ReadMessage().ID)
		}
	}
	twoChannels := func(b *bubble) { // both get what waits in the topic
		b.topic("t").pause(true)
		b.connect().Sub("t", "ch")
		b.connect().Sub("t", "other")
		b.topic("t").pause(false)
	}
	inFlight := func(b *bubble) *nsqtest.Conn {
		c := patient(b.connect()).Sub("t", "ch").Rdy(10)
		for range 8 {
			c.ReadMessage()
		}
		return c
	}
	for name, row := range map[string]struct {
		inTopic bool
		do      func(*bubble, *failingStorage) error
	}{
		"finished": {do: func(b *bubble, _ *failingStorage) error {
			finish(patient(b.connect()).Timeout(2*time.Hour).Sub("t", "ch").Rdy(10), 10)
			return nil
		}},
		"requeued, timed out, finished": {do: func(b *bubble, _ *failingStorage) error {
			c := patient(b.connect()).Sub("t", "ch").Rdy(10)
			for i := 0; i < 26; {
				switch m := c.ReadMessage(); m.Attempts {
				case 1:
					c.Req(m.ID, time.Duration(i%2)*time.Second)
					i++
				case 2: // times out
					i++
				default:
					c.Fin(m.ID)
					i++
				}
			}
			time.Sleep(2 * time.Hour)
			for b.channel("t", "ch").inFlightCount()+b.channel("t", "ch").queue.depth() > 0 {
				finish(c, 1)
				synctest.Wait()
			}
			return nil
		}},
		"its client is gone": {do: func(b *bubble, _ *failingStorage) error {
			inFlight(b).Close()
			finish(patient(b.connect()).Timeout(2*time.Hour).Sub("t", "ch").Rdy(10), 10)
			return nil
		}},
		"sampled out": {do: func(b *bubble, _ *failingStorage) error {
			c := b.connect()
			c.Identify(`{"heartbeat_interval":86400000,"sample_rate":50}`)
			c.Sub("t", "ch").Rdy(10)
			ch := b.channel("t", "ch")
			time.Sleep(2 * time.Hour)
			finish(c, 10-int(ch.sampledOut.Load()))
			return nil
		}},
		"there twice": {do: func(b *bubble, _ *failingStorage) error {
			e := newEntry(b.svc.ids, []byte("twice"), 0)
			for range 2 {
				if _, err := b.topic("t").PutMessages([]entry{e}); err != nil {
					return err
				}
			}
			c := patient(b.connect()).Sub("t", "ch").Rdy(11)
			var got []MessageID
			for range 9 {
				got = append(got, c.ReadMessage().ID)
			}
			synctest.Wait()
			nsqtest.Equal(b.t, b.channel("t", "ch").duplicates.Load(), uint64(1))
			for _, id := range got {
				c.Fin(id)
			}
			return nil
		}},
		"channel emptied": {do: func(b *bubble, _ *failingStorage) error {
			inFlight(b)
			return b.channel("t", "ch").empty()
		}},
		"channel deleted": {do: func(b *bubble, _ *failingStorage) error {
			inFlight(b)
			return b.topic("t").deleteChannel(b.channel("t", "ch"))
		}},
		"topic emptied": {inTopic: true, do: func(b *bubble, _ *failingStorage) error {
			return b.topic("t").empty()
		}},
		"topic deleted": {do: func(b *bubble, _ *failingStorage) error {
			inFlight(b)
			return b.deleteTopic(b.topic("t"))
		}},
		"handed over": {inTopic: true, do: func(b *bubble, _ *failingStorage) error {
			twoChannels(b)
			finish(patient(b.connect()).Timeout(2*time.Hour).Sub("t", "ch").Rdy(10), 10)
			return nil
		}},
		"handed over to an ephemeral channel": {inTopic: true, do: func(b *bubble, _ *failingStorage) error {
			b.connect().Sub("t", "ch#ephemeral")
			return nil
		}},
		"lent, finished": {inTopic: true, do: func(b *bubble, disk *failingStorage) error {
			disk.failOnly("t:ch", fullDisk("t:ch"))
			twoChannels(b)
			finish(patient(b.connect()).Timeout(2*time.Hour).Sub("t", "ch").Rdy(10), 10)
			return nil
		}},
		"lent, in flight": {inTopic: true, do: func(b *bubble, disk *failingStorage) error {
			disk.failOnly("t:ch", fullDisk("t:ch"))
			inFlight(b)
			nsqtest.Equal(b.t, len(b.topic("t").loans.byTicket), 10)
			return nil
		}},
		"lent, channel emptied": {inTopic: true, do: func(b *bubble, disk *failingStorage) error {
			disk.failOnly("t:ch", fullDisk("t:ch"))
			b.connect().Sub("t", "ch").Rdy(1).ReadMessage()
			return b.channel("t", "ch").empty()
		}},
		"lent, channel deleted": {inTopic: true, do: func(b *bubble, disk *failingStorage) error {
			disk.failOnly("t:ch", fullDisk("t:ch"))
			b.connect().Sub("t", "ch").Rdy(1).ReadMessage()
			return b.topic("t").deleteChannel(b.channel("t", "ch"))
		}},
		"in flight": {do: func(b *bubble, _ *failingStorage) error {
			inFlight(b)
			return nil
		}},
	} {
		for _, memory := range []int64{0, 4, 100} {
			t.Run(fmt.Sprintf("%s, mem-queue-size %d", name, memory), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir := storedMessages(t, !row.inTopic)
					b := startBubble(t, func(o *Options) { o.DataPath, o.MemQueueSize = dir, memory; withPatience(o) })
					disk := useFailing(b.NSQD)
					if err := row.do(b, disk); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					disk.failOnly("t:ch", nil)
					b.stopAndCompare(dir)
				})
			})
		}
	}
}

// stopAndCompare stops the daemon, and compares what it has saved with what its
// queues held: a record that was not let go of would count there.
func (b *bubble) stopAndCompare(dir string) {
	b.t.Helper()
	held := make(map[string]int64)
	for _, topic := range b.topicList() {
		if topic.ephemeral {
			continue
		}
		held[topic.name] = topic.queue.depth()
		for _, c := range topic.channelList() {
			if !c.ephemeral {
				held[c.topicName+":"+c.name] = c.queue.depth() + c.inFlightCount() + c.deferred.Len()
			}
		}
	}
	if err := b.stop(); err != nil {
		b.t.Fatal(err)
	}
	for _, topic := range b.topicList() {
		nsqtest.Equal(b.t, len(topic.loans.byTicket), 0)
	}
	for name, want := range held {
		nsqtest.Equal(b.t, fmt.Sprint(name, " ", savedDepth(b.t, dir, name)), fmt.Sprint(name, " ", want))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.unfinished.dat*")); len(left) > 0 {
		b.t.Errorf("left: %s", left)
	}
}
