package nsq

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

func (c *fakeConn) flush() {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	_ = c.out.Flush()
	for _, f := range c.flushers {
		_ = f.Flush()
	}
}

// frame queues a frame; it is flushed when the next read would block.
func (c *fakeConn) frame(t protocol.FrameType, data string) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	_, _ = c.out.Write(protocol.AppendFrame(c.out.AvailableBuffer(), t, []byte(data)))
}

func (c *fakeConn) serve() {
	defer c.leave()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(c.in, magic); err != nil || string(magic) != "  V2" {
		return
	}
	for {
		if c.in.Buffered() == 0 {
			c.pump()
			c.flush()
		}
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.readErr = err
			return
		}
		params := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if errText := c.command(params); errText != "" {
			c.frame(protocol.FrameError, errText)
			if !strings.Contains(errText, "_FAILED") {
				c.flush()
				return
			}
		}
	}
}

// pump delivers in the room that FINs have made, all at once.
func (c *fakeConn) pump() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.channel != nil {
		c.channel.pumpLocked()
	}
}

func (c *fakeConn) leave() {
	_ = c.socket.Close()
	close(c.gone)
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.channel == nil {
		return
	}
	for i, other := range c.channel.consumers {
		if other == c {
			c.channel.consumers = append(c.channel.consumers[:i:i], c.channel.consumers[i+1:]...)
			break
		}
	}
	for _, m := range c.pending { // a real nsqd waits for the message timeout
		c.channel.queue = append(c.channel.queue, m)
	}
	c.channel.pumpLocked()
}

// command executes a command and returns the data of an error frame, or "".
func (c *fakeConn) command(params []string) string {
	c.server.mu.Lock()
	intercept := c.server.intercept
	c.server.mu.Unlock()
	if intercept != nil {
		if handled, errText := intercept(c, params); handled {
			return errText
		}
	}
	switch params[0] {
	case "IDENTIFY":
		return c.identify()
	case "AUTH":
		return c.auth()
	case "PUB", "DPUB", "MPUB":
		return c.pub(params)
	case "NOP":
		c.outMu.Lock()
		c.nops++
		c.outMu.Unlock()
		return ""
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	switch params[0] {
	case "SUB":
		c.subLocked(params[1], params[2])
	case "RDY":
		c.rdy, _ = strconv.Atoi(params[1])
		c.channel.pumpLocked()
	case "FIN", "REQ", "TOUCH":
		return c.answerLocked(params)
	case "CLS":
		c.waiting = true
		c.frame(protocol.FrameResponse, "CLOSE_WAIT")
	default:
		return "E_INVALID invalid command " + params[0]
	}
	return ""
}

func (c *fakeConn) subLocked(topic, channel string) {
	t := c.server.topicLocked(topic)
	ch := t.channels[channel]
	if ch == nil {
		ch = &fakeChannel{queue: t.backlog}
		if strings.HasPrefix(topic, "endless") {
			ch.endless = c.server
		}
		t.channels[channel] = ch
		t.backlog = nil
	}
	c.channel = ch
	ch.consumers = append(ch.consumers, c)
	c.frame(protocol.FrameResponse, "OK")
}

func (c *fakeConn) answerLocked(params []string) string {
	id := protocol.MessageID([]byte(params[1]))
	m, ok := c.pending[id]
	if !ok {
		return fmt.Sprintf("E_%s_FAILED %s %s failed ID not in flight", params[0], params[0], id)
	}
	switch params[0] {
	case "FIN":
		delete(c.pending, id)
	case "REQ":
		delete(c.pending, id)
		ms, _ := strconv.Atoi(params[2])
		c.server.requeueLocked(c.channel, m, time.Duration(ms)*time.Millisecond)
	}
	return ""
}

func (s *fakeNSQD) requeueLocked(ch *fakeChannel, m fakeMessage, delay time.Duration) {
	if delay == 0 {
		ch.queue = append(ch.queue, m)
		return
	}
	time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		ch.queue = append(ch.queue, m)
		ch.pumpLocked()
	})
}

func (c *fakeConn) body() ([]byte, error) {
	return protocol.ReadSized(c.in, 6<<20)
}

func (c *fakeConn) pub(params []string) string {
	topic := params[1]
	body, err := c.body()
	if err != nil {
		return "E_BAD_MESSAGE failed to read body"
	}
	if !protocol.IsValidTopicName(topic) {
		return fmt.Sprintf("E_BAD_TOPIC %s topic name %q is not valid", params[0], topic)
	}
	if len(body) > 1<<20 && params[0] == "PUB" {
		return fmt.Sprintf("E_BAD_MESSAGE PUB message too big %d > %d", len(body), 1<<20)
	}
	switch params[0] {
	case "MPUB":
		if !strings.HasPrefix(topic, "discard") {
			c.server.publish(topic, splitMPUB(body)...)
		}
	case "DPUB":
		ms, _ := strconv.Atoi(params[2])
		if ms > 3600000 {
			return fmt.Sprintf("E_INVALID DPUB timeout %d out of range 0-3600000", ms)
		}
		time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { c.server.publish(topic, body) })
	default:
		if !strings.HasPrefix(topic, "discard") {
			c.server.publish(topic, body)
		}
	}
	c.server.mu.Lock()
	silent := c.server.silent
	c.server.mu.Unlock()
	if !silent {
		c.frame(protocol.FrameResponse, "OK")
	}
	return ""
}

func splitMPUB(body []byte) [][]byte {
	bodies := make([][]byte, binary.BigEndian.Uint32(body))
	body = body[4:]
	for i := range bodies {
		n := binary.BigEndian.Uint32(body)
		bodies[i] = body[4 : 4+n]
		body = body[4+n:]
	}
	return bodies
}

func (c *fakeConn) auth() string {
	secret, err := c.body()
	if err != nil || string(secret) != c.server.authSecret {
		return "E_UNAUTHORIZED AUTH no authorizations found"
	}
	c.frame(protocol.FrameResponse, `{"identity":"johndoe","identity_url":"","permission_count":1}`)
	return ""
}

type fakeIdentify struct {
	HeartbeatInterval int  `json:"heartbeat_interval"`
	MsgTimeout        int  `json:"msg_timeout"`
	TLSv1             bool `json:"tls_v1"`
	Deflate           bool `json:"deflate"`
	Snappy            bool `json:"snappy"`
	Negotiate         bool `json:"feature_negotiation"`
}

func (c *fakeConn) identify() string {
	body, err := c.body()
	if err != nil {
		return "E_BAD_BODY IDENTIFY failed to read body"
	}
	var asked fakeIdentify
	if err := json.Unmarshal(body, &asked); err != nil || !asked.Negotiate {
		return "E_BAD_BODY IDENTIFY failed to decode JSON body"
	}
	interval := time.Duration(asked.HeartbeatInterval) * time.Millisecond
	if asked.HeartbeatInterval != -1 && (interval < time.Second || interval > time.Minute) {
		return fmt.Sprintf("E_BAD_BODY IDENTIFY heartbeat interval (%d) is invalid", asked.HeartbeatInterval)
	}
	if asked.Deflate && asked.Snappy {
		return "E_IDENTIFY_FAILED cannot enable both deflate and snappy compression"
	}
	asked.TLSv1 = asked.TLSv1 && c.server.tlsConfig != nil
	if asked.MsgTimeout == 0 {
		asked.MsgTimeout = 60000
	}
	c.frame(protocol.FrameResponse, fmt.Sprintf(
		`{"max_rdy_count":2500,"version":"1.3.0","msg_timeout":%d,"tls_v1":%t,"deflate":%t,"snappy":%t,"auth_required":%t}`,
		asked.MsgTimeout, asked.TLSv1, asked.Deflate, asked.Snappy, c.server.authSecret != ""))
	c.flush()
	if err := c.upgrade(asked); err != nil {
		return "E_IDENTIFY_FAILED IDENTIFY failed " + err.Error()
	}
	if asked.HeartbeatInterval > 0 {
		c.server.wg.Go(func() { c.heartbeats(interval) })
	}
	return ""
}

func (c *fakeConn) upgrade(asked fakeIdentify) error {
	var layers stream
	layers.Reader, layers.Writer = c.in, c.socket
	if asked.TLSv1 {
		conn := tls.Server(&prefixedConn{Conn: c.socket, r: c.in}, c.server.tlsConfig)
		if err := conn.Handshake(); err != nil {
			return err
		}
		layers.addTLS(conn)
		c.useStream(layers)
		c.frame(protocol.FrameResponse, "OK")
		c.flush()
	}
	switch {
	case asked.Deflate:
		if err := layers.addDeflate(6); err != nil {
			return err
		}
	case asked.Snappy:
		layers.addSnappy()
	default:
		return nil
	}
	c.useStream(layers)
	c.frame(protocol.FrameResponse, "OK")
	c.flush()
	return nil
}

func (c *fakeConn) useStream(layers stream) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	c.in = bufio.NewReader(layers.Reader)
	c.out = bufio.NewWriter(layers.Writer)
	c.flushers = layers.flushers
}

func (c *fakeConn) heartbeats(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.frame(protocol.FrameResponse, "_heartbeat_")
			c.flush()
		case <-c.gone:
			return
		}
	}
}

// prefixedConn is a socket part of whose input is in a buffer already.
type prefixedConn struct {
	net.Conn
	r io.Reader
}

func (c *prefixedConn) Read(p []byte) (int, error) { return c.r.Read(p) }
