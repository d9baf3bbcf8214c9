package nsq

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
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

	// intercept, unless nil, sees each command first; once the server runs it is
	// guarded by mu, which is not held while it is called. With handled the command
	// is not executed; errText, unless "", is sent as an error frame.
	intercept func(c *fakeConn, params []string) (handled bool, errText string)

	tcp net.Listener
	wg  sync.WaitGroup

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
	readErr error         // why; set before
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

// startFakeNSQD starts a server on a free port, on tcpAddr if that is not "", or on
// the listener that configure sets.
func startFakeNSQD(tcpAddr string, configure func(*fakeNSQD)) (*fakeNSQD, error) {
	s := &fakeNSQD{conns: make(map[*fakeConn]bool), topics: make(map[string]*fakeTopic)}
	if configure != nil {
		configure(s)
	}
	if tcpAddr == "" {
		tcpAddr = "127.0.0.1:0"
	}
	var err error
	if s.tcp == nil {
		if s.tcp, err = net.Listen("tcp", tcpAddr); err != nil {
			return nil, err
		}
	}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *fakeNSQD) tcpAddr() string { return s.tcp.Addr().String() }

// close closes everything and waits.
func (s *fakeNSQD) close() {
	_ = s.tcp.Close()
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
