package nsqd

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// drain reads n messages, finishes them and returns their bodies, sorted.
func drain(c *nsqtest.Conn, n int) []string {
	var bodies []string
	for range n {
		m := c.ReadMessage()
		c.Fin(m.ID)
		bodies = append(bodies, m.Body)
	}
	slices.Sort(bodies)
	return bodies
}

// numbered returns n different bodies.
func numbered(n int) []string {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("%06d", i)
	}
	return bodies
}

// What is published while there is no channel goes to the first one, with its
// order where nothing has gone to disk, and only there.
func TestFirstChannelGetsTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		p := b.connect().Mpub("t", numbered(1000)...)
		nsqtest.Equal(t, b.topic("t").queue.depth(), int64(1000))
		first := b.connect().Sub("t", "first")
		synctest.Wait()
		second := b.connect().Sub("t", "second")
		synctest.Wait()
		p.Pub("t", "both")
		first.Rdy(2500)
		for _, want := range numbered(1000) {
			m := first.ReadMessage()
			first.Fin(m.ID)
			nsqtest.Equal(t, m.Body, want)
		}
		nsqtest.Equal(t, first.ReadMessage().Body, "both")
		nsqtest.Equal(t, second.Rdy(2500).ReadMessage().Body, "both")
		synctest.Wait()
		nsqtest.Equal(t, b.topic("t").queue.depth(), int64(0))
		nsqtest.Equal(t, b.channel("t", "second").messages.Load(), uint64(1))
		b.balance("t", "first", 1000)
	})
}

func TestPauseTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch").Rdy(2500)
		topic := b.topic("t")
		topic.pause(true)
		p := b.connect().Pub("t", "a")
		time.Sleep(time.Minute)
		nsqtest.Equal(t, topic.queue.depth(), int64(1))
		nsqtest.Equal(t, b.channel("t", "ch").messages.Load(), uint64(0))
		start := time.Now()
		topic.pause(false)
		nsqtest.Equal(t, c.ReadMessage().Body, "a")
		p.Pub("t", "b")
		nsqtest.Equal(t, c.ReadMessage().Body, "b")
		took(t, start, 0)
	})
}

func TestLastChannelDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch")
		p := b.connect().Pub("t", "gone with the channel")
		synctest.Wait()
		if err := b.topic("t").deleteChannel(b.channel("t", "ch")); err != nil {
			t.Fatal(err)
		}
		c.ExpectClosed()
		p.Pub("t", "stays")
		nsqtest.Equal(t, b.topic("t").queue.depth(), int64(1))
		nsqtest.Equal(t, b.connect().Sub("t", "ch").Rdy(1).ReadMessage().Body, "stays")
	})
}

func TestDeletedTopicComesBackEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 10 })
		c := b.connect().Sub("t", "ch")
		p := b.connect().Mpub("t", numbered(100)...)
		if err := b.deleteTopic(b.topic("t")); err != nil {
			t.Fatal(err)
		}
		c.ExpectClosed()
		files, _ := filepath.Glob(filepath.Join(b.dir, "*.diskqueue.*"))
		nsqtest.Equal(t, len(files), 0)
		p.Pub("t", "new")
		nsqtest.Equal(t, b.topic("t").messages.Load(), uint64(1))
		nsqtest.Equal(t, b.connect().Sub("t", "ch").Rdy(1).ReadMessage().Body, "new")
	})
}

func TestEphemeral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 10 })
		p := b.connect().Mpub("t#ephemeral", numbered(15)...)
		nsqtest.Equal(t, b.topic("t#ephemeral").queue.depth(), int64(10)) // the rest is discarded
		c := b.connect().Sub("t#ephemeral", "ch#ephemeral")
		synctest.Wait()
		nsqtest.Equal(t, b.channel("t#ephemeral", "ch#ephemeral").queue.depth(), int64(10))
		p.Mpub("t#ephemeral", numbered(3)...)
		b.balance("t#ephemeral", "ch#ephemeral", 0)
		other := b.connect().Sub("t#ephemeral", "ch#ephemeral")
		c.Close()
		synctest.Wait()
		b.channel("t#ephemeral", "ch#ephemeral")
		other.Close()
		synctest.Wait() // the last consumer has gone, and with it the channel and the topic
		if b.existingTopic("t#ephemeral") != nil {
			t.Error("an ephemeral topic without channels is still there")
		}
		p.Pub("t#ephemeral", "again")
	})
}

// With no memory at all, an ephemeral channel passes a message on only to
// somebody who waits for it.
func TestEphemeralWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 0 })
		c := b.connect().Sub("t", "ch#ephemeral")
		p := b.connect().Pub("t", "nobody is ready")
		c.Rdy(1)
		synctest.Wait()
		p.Pub("t", "a")
		nsqtest.Equal(t, c.ReadMessage().Body, "a")
	})
}

// Whatever a clean stop finds — in memory, on disk, in flight, deferred, in the
// topic — is delivered after the restart, with its attempts.
func TestCleanRestartKeepsEverything(t *testing.T) {
	for _, memory := range []int64{0, 7, 10000} {
		t.Run(fmt.Sprintf("mem-queue-size %d", memory), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				configure := func(o *Options) { o.DataPath, o.MemQueueSize, o.MaxBytesPerFile = dir, memory, 10240 }
				b := startBubble(t, configure)
				c := b.connect().Sub("t", "ch").Rdy(3)
				b.connect().Sub("t", "paused")
				b.channel("t", "paused").pause(true)
				p := b.connect().Mpub("t", numbered(300)...).Dpub("t", time.Hour, "deferred")
				p.Mpub("waiting", numbered(20)...)
				c.Fin(c.ReadMessage().ID)
				requeued := c.ReadMessage()
				c.Req(requeued.ID, time.Minute)
				synctest.Wait()
				b.balance("t", "ch", 1)
				if err := b.stop(); err != nil {
					t.Fatal(err)
				}

				b = startBubble(t, configure)
				nsqtest.Equal(t, b.topic("t").queue.depth(), int64(0))
				nsqtest.Equal(t, b.channel("t", "ch").queue.depth(), int64(300))
				nsqtest.Equal(t, b.channel("t", "paused").paused.Load(), true)
				c = b.connect().Sub("t", "ch").Rdy(10)
				bodies, attempts := make(map[string]int), make(map[uint16]int)
				for range 300 {
					m := c.ReadMessage()
					c.Fin(m.ID)
					bodies[m.Body]++
					attempts[m.Attempts]++
				}
				nsqtest.Equal(t, len(bodies), 300)
				nsqtest.Equal(t, bodies["deferred"], 1)
				nsqtest.Equal(t, attempts[2], 4) // the requeued one and the three in flight
				b.channel("t", "paused").pause(false)
				nsqtest.Equal(t, len(drain(b.connect().Sub("t", "paused").Rdy(10), 301)), 301)
				nsqtest.Equal(t, strings.Join(drain(b.connect().Sub("waiting", "ch").Rdy(10), 20), ","), strings.Join(numbered(20), ","))
			})
		})
	}
}

func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize, o.MaxHeartbeatInterval = 10, time.Hour })
		disk := useFailing(b.NSQD)
		full := &os.PathError{Op: "write", Path: "t.diskqueue.000000.dat", Err: syscall.ENOSPC}

		// A topic without channels: the publisher is told, nothing is lost.
		disk.fail(full)
		b.connect().Mpub("t", numbered(10)...)
		b.connect().CommandBody("x", "PUB", "t").ExpectError("E_PUB_FAILED PUB failed " + full.Error()).ExpectClosed()
		nsqtest.Equal(t, b.health.String(), "NOK - "+full.Error())
		nsqtest.Equal(t, b.topic("t").messages.Load(), uint64(10))
		disk.fail(nil)
		b.connect().Pub("t", "000010")
		nsqtest.Equal(t, b.health.String(), "OK")

		// Between topic and channel, in a requeue and a timeout: kept in memory.
		disk.fail(full)
		c := b.connect()
		c.Identify(`{"heartbeat_interval":3600000}`) // it is silent for a while below
		c.Sub("t", "ch").Rdy(11)
		nsqtest.Equal(t, strings.Join(drain(c, 11), ","), strings.Join(numbered(11), ","))
		ch := b.channel("t", "ch")
		c.Rdy(12)
		b.connect().Mpub("t", numbered(10)...)
		for range 11 {
			if m := c.ReadMessage(); m.Body == "000003" && m.Attempts == 1 {
				c.Req(m.ID, 0)
			}
		}
		c.Rdy(0)
		synctest.Wait()
		time.Sleep(2 * time.Minute)
		b.balance("t", "ch", 11)
		nsqtest.Equal(t, ch.queue.depth(), int64(10))
		nsqtest.Equal(t, strings.Join(drain(c.Rdy(12), 10), ","), strings.Join(numbered(10), ","))
		disk.fail(nil)
	})
}

// Producers, consumers that finish, requeue and leave, while the channel is
// paused and emptied: no panic, no race, and the books balance.
func TestBooksUnderRandomLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 1 << 20 })
		topic, err := b.GetTopic("t")
		if err != nil {
			t.Fatal(err)
		}
		ch, err := topic.GetChannel("ch")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for range 300 {
					bodies := slices.Repeat([][]byte{[]byte("body")}, 1+r.IntN(20))
					if _, err := topic.PutMessages(entriesOf(b.svc.ids, bodies)); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
				}
			})
		}
		var clients []*conn
		for i := range 4 {
			client, server := nsqtest.Pipe()
			b.conns.join(server, 0, func() { b.handle(server) })
			if _, err := io.WriteString(client, protocol.MagicV2+"SUB t ch\nRDY 50\n"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			clients = b.conns.clients()
			wg.Go(func() { answerAtRandom(client, rand.New(rand.NewPCG(seed, uint64(10+i))), 700) })
		}
		wg.Go(func() {
			for range 20 {
				time.Sleep(100 * time.Millisecond)
				ch.pause(true)
				if err := ch.empty(); err != nil {
					t.Error(err)
				}
				ch.pause(false)
			}
		})
		wg.Wait()
		synctest.Wait()
		finished := uint64(0)
		for _, c := range clients {
			finished += c.finished.Load()
		}
		b.balance("t", "ch", finished)
		time.Sleep(2 * time.Minute)
		nsqtest.Equal(t, len(ch.inFlightTables()), 0)
		b.balance("t", "ch", finished)
	})
}

// answerAtRandom finishes, requeues or touches the next n messages and leaves.
func answerAtRandom(client net.Conn, r *rand.Rand, n int) {
	defer client.Close()
	in := bufio.NewReader(client)
	for n > 0 {
		frame, err := protocol.ReadSized(in, 0)
		if err != nil {
			return
		}
		m, err := protocol.DecodeMessage(frame[4:])
		if err != nil || frame[3] != byte(protocol.FrameMessage) {
			continue // an answer, or the error of a message that was emptied
		}
		n--
		command := protocol.AppendCommand(nil, "FIN", m.ID.String())
		switch r.IntN(4) {
		case 0:
			command = protocol.AppendCommand(nil, "REQ", m.ID.String(), strconv.Itoa(r.IntN(2000)))
		case 1:
			command = append(protocol.AppendCommand(nil, "TOUCH", m.ID.String()), command...)
		}
		if _, err := client.Write(command); err != nil {
			return
		}
	}
}

func TestMessageIDs(t *testing.T) {
	s := newIDSource(617, wallClock)
	first := s.reserve(5000, s.now())
	next := s.reserve(1, s.now())
	if next < first+5000 {
		t.Fatalf("IDs are given out twice: %d after 5000 from %d", next, first)
	}
	// The example of the protocol spec: tick 423343912463, node 617, sequence 0.
	id := renderID(423343912463<<idSequenceBits, 617)
	nsqtest.Equal(t, id.String(), "18a450dd83e69000")
	var mu sync.Mutex
	seen := make(map[MessageID]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				at := s.reserve(7, s.now())
				mu.Lock()
				for i := range uint64(7) {
					id := renderID(at+i, 617)
					if seen[id] {
						t.Errorf("ID %s comes twice", id)
					}
					seen[id] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
