package nsqd

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// The weaknesses of the network and protocol path, and of auth, that the daemon
// whose protocol this is is known for, by their numbers in the protocol spec, and
// the tests that show them gone.
//
//	 1  every answer is a write of its own                TestWeakness1
//	 2  messages wait in the output buffer                TestOutputBuffering
//	 3  a stalled consumer stays                          TestWeakness3
//	 4  no deadline for the magic                         TestSilentBeforeMagic
//	 5  the error frame is lost with the connection       TestWeakness5, TestErrorReachesBusyClient
//	 6  an upgrade throws away what was read ahead        TestReadAheadSurvivesUpgrade
//	 7  a repeated IDENTIFY breaks the layers             TestRepeatedIdentifyKeepsLayers
//	 8  settings reach delivery late                      TestWeakness8
//	 9  an ID is in flight twice                          TestDuplicateInFlight
//	10  messages of a client that is gone wait            TestClientGone: kept, it shows
//	11  sample_rate is off by one                         TestWeakness11
//	12  numbers wrap around                               transcripts rdy, dpub, answer
//	13  a malformed MPUB creates its topic                TestWeakness13; its body_size is not compared
//	                                                      with what it holds: clients announce it wrongly
//	14  an MPUB is queued in part                         TestWeakness14
//	15  a code stands twice in a text                     transcript mpub: kept, the text is contract
//	16  timeouts of 0 panic                               TestOutcomes in cmd/nsqd
//	17  announced sizes reserve memory                    TestWeakness17
//	18  no limit on connections                           TestMaxConnections, TestAcceptSurvives
//	19  FINs wake every client                            TestWeakness19
//	20  per-client locality counters stay 0               TestZoneBeforeRegionBeforeTheRest
//	21  TLS ends without close_notify, stops drop output  TestCloseNotify, TestStopFlushesOutput
//	53  regexes are compiled for every check              TestAuthAllocatesNothingPerMessage
//	54  grants are renewed by each connection             TestOneQuestionForManyConnections, TestSlowRenewal
//	55  subscriptions outlive their grant                 kept: existing consumers rely on it
//	56  the HTTP API bypasses auth                        kept: existing scripts rely on it
//	57  TLS 1.0 is the default minimum                    kept: flag values are contract; TestTLSMinVersion

func pubCommand(topic, body string) string {
	return string(protocol.AppendSized(protocol.AppendCommand(nil, "PUB", topic), []byte(body)))
}

// A countedConn counts writes.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// A pipelined run of commands costs one write.
func TestWeakness1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		var writes atomic.Int64
		client, server := nsqtest.Pipe()
		b.conns.join(server, 0, func() { b.handle(countedConn{server, &writes}) })
		c := nsqtest.Wrap(t, client).Send(protocol.MagicV2)
		c.Send(strings.Repeat(pubCommand("t", "a"), 100))
		for range 100 {
			c.ExpectOK()
		}
		if n := writes.Load(); n > 2 { // the run may arrive in two pieces
			t.Errorf("100 answers took %d writes", n)
		}
	})
}

// A consumer that does not read is disconnected. It takes a real socket and a
// second: the fake clock stands still while one goroutine waits for another's
// lock.
func TestWeakness3(t *testing.T) {
	d := startDaemon(t)
	addr := d.TCPAddr().String()
	c := nsqtest.Dial(t, addr)
	c.Identify(`{"heartbeat_interval":1000}`)
	c.Sub("t", "ch").Rdy(100)
	p := nsqtest.Dial(t, addr)
	for range 20 {
		p.Pub("t", strings.Repeat("x", 1<<20)) // more than the kernel buffers
	}
	ch := d.existingTopic("t").existingChannel("ch")
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); len(ch.consumerList()) > 0; <-ticks.C {
		if time.Now().After(deadline) {
			t.Fatal("a consumer that has read nothing for 20 heartbeats is still there")
		}
	}
}

// The error frame arrives though the client goes on sending.
func TestWeakness5(t *testing.T) {
	d := startDaemon(t)
	for range 20 {
		c, err := net.Dial("tcp", d.TCPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.WriteString(c, protocol.MagicV2+"PUB t\n\x00\x20\x00\x00")
			_, _ = c.Write(make([]byte, 0x200000)) // the daemon may hang up before the end
		}()
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		got, err := protocol.ReadSized(c, 0)
		if err != nil || string(got[4:]) != "E_BAD_MESSAGE PUB message too big 2097152 > 1048576" {
			t.Fatalf("got %q, %v", got, err)
		}
		<-sent
	}
}

// What IDENTIFY sets holds for a SUB and RDY right behind it.
func TestWeakness8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		b.connect().Sub("t", "ch")
		b.connect().Mpub("t", numbered(3)...)
		c := b.connect()
		body := `{"msg_timeout":2000,"output_buffer_timeout":5000}`
		c.Send(string(protocol.AppendSized([]byte("IDENTIFY\n"), []byte(body))) + "SUB t ch\nRDY 5\n")
		c.ExpectOK().ExpectOK()
		start := time.Now()
		c.ReadMessage()
		took(t, start, 5*time.Second) // batched as asked, while 2 s have timed out twice
		nsqtest.Equal(t, b.channel("t", "ch").timeouts.Load(), uint64(6))
	})
}

// A sample rate of 99 drops something, one of 0 nothing.
func TestWeakness11(t *testing.T) {
	entries := make([]entry, 100_000)
	if n := len(sample(entries, 99, new(tickets))); n < 98_800 || n > 99_200 {
		t.Errorf("%d of 100000 pass at a rate of 99 %%", n)
	}
	if n := len(sample(entries, 1, new(tickets))); n < 800 || n > 1200 {
		t.Errorf("%d of 100000 pass at a rate of 1 %%", n)
	}
}

// An MPUB that is refused does not create its topic, nor does a PUB.
func TestWeakness13(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		b.connect().Send("MPUB t\n\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x00x").
			ExpectError("E_BAD_MESSAGE MPUB invalid message(0) body size 0").ExpectClosed()
		b.connect().Send("PUB u\n\x00\x00\x00\x00").ExpectError("E_BAD_MESSAGE PUB invalid message body size 0").ExpectClosed()
		nsqtest.Equal(t, len(b.topicList()), 0)
	})
}

// An MPUB of which a part cannot be stored queues nothing.
func TestWeakness14(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 5 })
		disk := useFailing(b.NSQD)
		full := errors.New("no space left")
		disk.fail(full)
		b.connect().Mpub("t", numbered(3)...)
		batch := []byte{0, 0, 0, 4}
		for _, body := range numbered(4) {
			batch = protocol.AppendSized(batch, []byte(body))
		}
		b.connect().CommandBody(string(batch), "MPUB", "t").ExpectError("E_MPUB_FAILED MPUB failed no space left").ExpectClosed()
		nsqtest.Equal(t, b.topic("t").queue.depth(), int64(3))
		nsqtest.Equal(t, b.topic("t").messages.Load(), uint64(3))
		disk.fail(nil)
		b.connect().CommandBody(string(batch), "MPUB", "t").ExpectOK()
		nsqtest.Equal(t, b.topic("t").queue.depth(), int64(7))
	})
}

// An announced size reserves little beyond what there is for all clients together; see
// TestCredit for that.
func TestWeakness17(t *testing.T) {
	opts := NewOptions()
	svc := &service{opts: func() *Options { return opts }, log: opts.logger()}
	svc.credit.borrow(creditLimit)
	for _, announced := range []string{"PUB t\n\x00\x0f\xff\xff", "MPUB t\n\x00\x4f\xff\xff\x00\x0f\xff\xff", "IDENTIFY\n\x00\x4f\xff\xff"} {
		client, server := nsqtest.Pipe()
		if _, err := io.WriteString(client, announced); err != nil {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := newConn(svc, server).IOLoop()
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "failed to read") {
			t.Errorf("%.4s: %v", announced, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 512<<10 { // the input buffer may be among it
			t.Errorf("%.4s reserves %d bytes", announced, n)
		}
	}
}

// An idle subscribed client costs a bounded, small number of goroutines and is
// not woken by the FINs of others.
func TestWeakness19(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		var writes atomic.Int64
		idle, server := nsqtest.Pipe()
		b.conns.join(server, 0, func() { b.handle(countedConn{server, &writes}) })
		nsqtest.Wrap(t, idle).Send(protocol.MagicV2).Sub("t", "idle").Rdy(1)
		busy := b.connect().Sub("t", "ch").Rdy(1)
		synctest.Wait()
		before := writes.Load()
		p := b.connect()
		b.channel("t", "idle").pause(true)
		for range 50 {
			p.Pub("t", "a")
			busy.Fin(busy.ReadMessage().ID)
		}
		nsqtest.Equal(t, writes.Load(), before)
	})
}
