package nsqd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A scriptedClient sends what a fuzzer's script says and remembers the messages
// it got.
type scriptedClient struct {
	socket net.Conn
	mu     sync.Mutex
	ids    []MessageID // received and not answered
}

func (b *bubble) scriptedClient() *scriptedClient {
	client, server := nsqtest.Pipe()
	b.conns.join(server, 0, func() { b.handle(server) })
	c := &scriptedClient{socket: client}
	c.send(protocol.MagicV2)
	go c.read()
	return c
}

func (c *scriptedClient) send(s string) {
	_, _ = io.WriteString(c.socket, s) // the daemon may have hung up
}

// read keeps reading until the daemon hangs up.
func (c *scriptedClient) read() {
	in := bufio.NewReader(c.socket)
	for {
		frame, err := protocol.ReadSized(in, 0)
		if err != nil {
			_ = c.socket.Close()
			return
		}
		if len(frame) > 4 && binary.BigEndian.Uint32(frame) == uint32(protocol.FrameMessage) {
			if m, err := protocol.DecodeMessage(frame[4:]); err == nil {
				c.mu.Lock()
				c.ids = append(c.ids, m.ID)
				c.mu.Unlock()
			}
		}
	}
}

// id returns a message ID to answer: mostly one that was received.
func (c *scriptedClient) id(n byte) MessageID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 0 || len(c.ids) == 0 {
		return MessageID([]byte("0123456789abcdef"))
	}
	i := int(n) % len(c.ids)
	id := c.ids[i]
	if n%7 != 0 { // now and then one is answered twice
		c.ids = append(c.ids[:i], c.ids[i+1:]...)
	}
	return id
}

// perform does one step of a script: two bytes say what, for whom, and how much.
func (b *bubble) perform(clients []*scriptedClient, what, n byte) {
	c := clients[int(what>>5)%len(clients)]
	topic := []string{"t", "u#ephemeral"}[n&1]
	channel := []string{"ch", "tmp#ephemeral"}[n>>1&1]
	sized := func(line, body string) string { return line + string(protocol.AppendSized(nil, []byte(body))) }
	switch what & 31 {
	case 0:
		c.send(sized("IDENTIFY\n", fmt.Sprintf(`{"feature_negotiation":true,"msg_timeout":%d,"sample_rate":%d,"output_buffer_timeout":%d,"output_buffer_size":%d}`,
			1000+int(n), int(n)%100, int(n>>2)*10-1, int(n>>1)*64-1)))
	case 1, 2:
		c.send("SUB " + topic + " " + channel + "\n")
	case 3, 4, 5:
		c.send(sized("PUB "+topic+"\n", strings.Repeat("x", int(n))))
	case 6:
		batch := binary.BigEndian.AppendUint32(nil, uint32(n))
		for range n {
			batch = protocol.AppendSized(batch, []byte("m"))
		}
		c.send(sized("MPUB "+topic+"\n", string(batch)))
	case 7:
		c.send(sized(fmt.Sprintf("DPUB %s %d\n", topic, int(n)*20), "later"))
	case 8, 9, 10:
		c.send(fmt.Sprintf("RDY %d\n", n>>2))
	case 11, 12, 13:
		var fins strings.Builder
		for range 1 + n%5 {
			fmt.Fprintf(&fins, "FIN %s\n", c.id(n))
		}
		c.send(fins.String())
	case 14, 15:
		c.send(fmt.Sprintf("REQ %s %d\n", c.id(n), int(n)*10))
	case 16:
		c.send(fmt.Sprintf("TOUCH %s\n", c.id(n)))
	case 17:
		c.send("CLS\n")
	case 18:
		c.send("NOP\n\n"[:4])
	case 19:
		_ = c.socket.Close()
	case 20, 21:
		time.Sleep(time.Duration(n) * 20 * time.Millisecond)
	case 22:
		synctest.Wait()
	default:
		b.administer(what, topic, channel)
	}
}

// administer does what the HTTP API would, to topics and channels that exist.
func (b *bubble) administer(what byte, topic, channel string) {
	t := b.existingTopic(topic)
	if t == nil {
		return
	}
	ch := t.existingChannel(channel)
	var err error
	switch {
	case what&31 == 23:
		t.pause(!t.isPaused())
	case what&31 == 24:
		err = t.empty()
	case what&31 == 25 && what>>5 == 7:
		err = b.deleteTopic(t)
	case ch == nil:
	case what&31 == 26:
		ch.pause(!ch.paused.Load())
	case what&31 == 27:
		err = ch.empty()
	case what&31 == 28 && what>>5 > 4:
		err = t.deleteChannel(ch)
	}
	if err != nil {
		b.t.Errorf("step %d: %v", what, err)
	}
}

// Sessions of several clients with commands in any order, while topics and
// channels are paused, emptied and deleted: nothing panics, nobody hangs, and the
// books of every channel that is left balance.
func FuzzSessions(f *testing.F) {
	f.Add([]byte("\x01\x00\x08\xff\x03\x05\x03\x05\x16\x00\x0b\x01\x0b\x01\x0e\x05\x14\xff"))
	f.Add([]byte("\x01\x00\x21\x00\x08\xff\x28\xff\x06\xc8\x16\x00\x0b\x05\x2b\x05\x1b\x00\x0b\x05\x14\x10\x13\x00"))
	f.Add([]byte("\x00\x32\x01\x02\x08\xff\x07\x10\x07\xff\x17\x00\x06\x20\x14\x20\x17\x00\x14\xff\x0e\x03\x10\x05\x11\x00\x13\x00"))
	f.Add([]byte("\x01\x03\x08\xff\x03\x07\x16\x00\x13\x00\x16\x00\x21\x03\x23\x07\xfc\x03\xf9\x01\x03\x01\x14\x05"))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			b := startBubble(t, func(o *Options) { o.MemQueueSize = 1 << 20 })
			clients := []*scriptedClient{b.scriptedClient(), b.scriptedClient(), b.scriptedClient()}
			synctest.Wait()
			served := b.conns.clients()
			for i := 0; i+1 < len(script); i += 2 {
				b.perform(clients, script[i], script[i+1])
			}
			synctest.Wait()
			finished := make(map[*Channel]uint64)
			for _, c := range served {
				if con := c.consumer.Load(); con != nil {
					finished[con.channel] += c.finished.Load()
				}
			}
			for _, topic := range b.topicList() {
				for _, ch := range topic.channelList() {
					b.balance(topic.name, ch.name, finished[ch])
				}
			}
		})
	})
}

// FuzzSessions with next to no memory: what a clean stop saves is what there was.
func FuzzSessionsOnDisk(f *testing.F) {
	f.Add(uint8(0), []byte("\x01\x00\x08\xff\x03\x05\x03\x05\x16\x00\x0b\x01\x0b\x01\x0e\x05\x14\xff"))
	f.Add(uint8(1), []byte("\x01\x00\x21\x00\x08\xff\x28\xff\x06\xc8\x16\x00\x0b\x05\x2b\x05\x1b\x00\x0b\x05\x14\x10\x13\x00"))
	f.Add(uint8(2), []byte("\x01\x03\x08\xff\x03\x07\x16\x00\x13\x00\x16\x00\x21\x03\x23\x07\xfc\x03\xf9\x01\x03\x01\x14\x05"))
	f.Fuzz(func(t *testing.T, memory uint8, script []byte) {
		if len(script) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			b := startBubble(t, func(o *Options) { o.DataPath, o.MemQueueSize = dir, int64(memory%4) })
			clients := []*scriptedClient{b.scriptedClient(), b.scriptedClient(), b.scriptedClient()}
			for i := 0; i+1 < len(script); i += 2 {
				b.perform(clients, script[i], script[i+1])
			}
			for _, c := range clients {
				c.socket.Close()
			}
			synctest.Wait()
			b.stopAndCompare(dir)
		})
	})
}
