package nsq

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// fakeNSQD is as much of an nsqd as the tests of a client need: topics and
// channels in memory, a RDY window per consumer, TLS, compression, AUTH and
// heartbeats. It keeps what is published to a topic without channels for the
// first one. Topics named discard* keep nothing, topics named endless* always
// have a message.
type fakeNSQD struct {
	tlsConfig  *tls.Config // nil: TLS is not offered
	authSecret string      // "": AUTH is not required

	tcp, http net.Listener
	wg        sync.WaitGroup

	mu     sync.Mutex // guards all below and the topics
	conns  map[*fakeConn]bool
	topics map[string]*fakeTopic
	nextID uint64
	silent bool // publishes are not answered
	closed bool
}

type fakeTopic struct {
	backlog  []fakeMessage // until there is a channel
	channels map[string]*fakeChannel
}

type fakeChannel struct {
	queue     []fakeMessage
	endless   *fakeNSQD // not nil: the queue is never empty
	consumers []*fakeConn
}

type fakeMessage struct {
	id       protocol.MessageID
	nanos    int64
	attempts uint16
	body     []byte
}

type fakeConn struct {
	server  *fakeNSQD
	socket  net.Conn
	gone    chan struct{} // closed when serve has ended
	in      *bufio.Reader
	channel *fakeChannel // guarded by server.mu, as are the three below
	rdy     int
	waiting bool // sent CLS
	pending map[protocol.MessageID]fakeMessage

	outMu    sync.Mutex // guards all below
	out      *bufio.Writer
	flushers []flusher
	nops     int
}

// startFakeNSQD starts a server on free ports, or on tcpAddr if not "".
func startFakeNSQD(tcpAddr string, configure func(*fakeNSQD)) (*fakeNSQD, error) {
	s := &fakeNSQD{conns: make(map[*fakeConn]bool), topics: make(map[string]*fakeTopic)}
	if configure != nil {
		configure(s)
	}
	if tcpAddr == "" {
		tcpAddr = "127.0.0.1:0"
	}
	var err error
	if s.tcp, err = net.Listen("tcp", tcpAddr); err != nil {
		return nil, err
	}
	if s.http, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.wg.Go(s.accept)
	s.wg.Go(func() { _ = http.Serve(s.http, http.HandlerFunc(s.serveHTTP)) })
	return s, nil
}

func (s *fakeNSQD) tcpAddr() string  { return s.tcp.Addr().String() }
func (s *fakeNSQD) httpAddr() string { return s.http.Addr().String() }

// close closes everything and waits.
func (s *fakeNSQD) close() {
	_ = s.tcp.Close()
	_ = s.http.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.socket.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// dropConnections closes the connections of all clients.
func (s *fakeNSQD) dropConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.socket.Close()
	}
}

func (s *fakeNSQD) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *fakeNSQD) setSilent(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

// backlog returns how many messages wait in topic.
func (s *fakeNSQD) backlog(topic string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topicLocked(topic)
	n := len(t.backlog)
	for _, c := range t.channels {
		n += len(c.queue)
	}
	return n
}

// nops returns how many NOPs have arrived on the connections there are.
func (s *fakeNSQD) nops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.conns {
		c.outMu.Lock()
		n += c.nops
		c.outMu.Unlock()
	}
	return n
}

func (s *fakeNSQD) accept() {
	for {
		socket, err := s.tcp.Accept()
		if err != nil {
			return
		}
		c := &fakeConn{
			server:  s,
			socket:  socket,
			gone:    make(chan struct{}),
			in:      bufio.NewReaderSize(socket, 64<<10),
			out:     bufio.NewWriterSize(socket, 64<<10),
			pending: make(map[protocol.MessageID]fakeMessage),
		}
		s.mu.Lock()
		s.conns[c] = true
		if s.closed {
			_ = socket.Close()
		}
		s.mu.Unlock()
		s.wg.Go(c.serve)
	}
}

func (s *fakeNSQD) serveHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	bodies := [][]byte{body}
	if req.URL.Path == "/mpub" {
		bodies = bytes.Split(body, []byte("\n"))
	}
	s.publish(req.URL.Query().Get("topic"), bodies...)
	_, _ = io.WriteString(w, "OK")
}

func (s *fakeNSQD) topicLocked(name string) *fakeTopic {
	t := s.topics[name]
	if t == nil {
		t = &fakeTopic{channels: make(map[string]*fakeChannel)}
		s.topics[name] = t
	}
	return t
}

func (s *fakeNSQD) publish(topic string, bodies ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topicLocked(topic)
	for _, body := range bodies {
		m := s.newMessageLocked(body)
		if len(t.channels) == 0 {
			t.backlog = append(t.backlog, m)
		}
		for _, c := range t.channels {
			c.queue = append(c.queue, m)
		}
	}
	for _, c := range t.channels {
		c.pumpLocked()
	}
}

func (s *fakeNSQD) newMessageLocked(body []byte) fakeMessage {
	m := fakeMessage{nanos: time.Now().UnixNano(), body: body}
	s.nextID++
	copy(m.id[:], fmt.Sprintf("%016x", s.nextID))
	return m
}

// pumpLocked delivers what RDY allows.
func (c *fakeChannel) pumpLocked() {
	for _, consumer := range c.consumers {
		sent := false
		for len(consumer.pending) < consumer.rdy && !consumer.waiting {
			if len(c.queue) == 0 && c.endless != nil {
				c.queue = append(c.queue, c.endless.newMessageLocked(make([]byte, 100)))
			}
			if len(c.queue) == 0 {
				break
			}
			m := c.queue[0]
			c.queue = c.queue[1:]
			m.attempts++
			consumer.pending[m.id] = m
			consumer.outMu.Lock()
			frame := protocol.AppendMessageFrame(consumer.out.AvailableBuffer(), m.nanos, m.attempts, m.id, m.body)
			_, _ = consumer.out.Write(frame)
			consumer.outMu.Unlock()
			sent = true
		}
		if sent {
			consumer.flush()
		}
	}
}

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
