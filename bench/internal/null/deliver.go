package null

import (
	"sync/atomic"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// burst is the most messages taken at once, as in nsqd.
const burst = 256

// A consumer is a client that has subscribed to a channel.
type consumer struct {
	conn    *conn
	channel *channel
	frame   []byte // of a message of the last size

	rdy      atomic.Int64
	inFlight atomic.Int64
	starved  atomic.Bool   // pump waits for room
	room     chan struct{} // holds a token when there may be room again
	gone     chan struct{} // closed when the connection is
}

func newConsumer(c *conn, ch *channel) *consumer {
	return &consumer{conn: c, channel: ch, room: make(chan struct{}, 1), gone: make(chan struct{})}
}

// gainedRoom wakes the pump if it waits for room.
func (s *consumer) gainedRoom() {
	if s.starved.Load() {
		select {
		case s.room <- struct{}{}:
		default:
		}
	}
}

// hasRoom reports whether a message may be sent. If not, the pump is woken when one
// may.
func (s *consumer) hasRoom() bool {
	if s.rdy.Load() > s.inFlight.Load() {
		s.starved.Store(false)
		return true
	}
	s.starved.Store(true)
	return s.rdy.Load() > s.inFlight.Load() // which may have changed just before
}

// pump delivers until the client has gone: in bursts while there are messages and
// room, and it flushes before it waits.
func (s *consumer) pump() {
	for {
		ready := s.channel.ready
		if !s.hasRoom() {
			ready = nil
		}
		select {
		case <-s.gone:
			return
		case <-s.room:
		case <-ready:
			if s.deliver() != nil {
				_ = s.conn.socket.Close() // serve finds it closed, and cleans up
				s.channel.wake()          // another one may have room
				return
			}
		}
	}
}

// deliver sends what there is and room for.
func (s *consumer) deliver() error {
	for {
		n := s.channel.take(min(burst, s.rdy.Load()-s.inFlight.Load()))
		if n == 0 {
			break
		}
		s.inFlight.Add(n)
		if err := s.write(int(n)); err != nil {
			return err
		}
	}
	s.conn.outMu.Lock()
	defer s.conn.outMu.Unlock()
	return s.conn.out.Flush()
}

// write adds n message frames to the output.
func (s *consumer) write(n int) error {
	if size := int(s.channel.topic.size.Load()); len(s.frame) != protocol.FrameOverhead+protocol.MinMessageSize+size {
		id := protocol.MessageID([]byte("0000000000000000"))
		s.frame = protocol.AppendMessageFrame(s.frame[:0], 0, 1, id, make([]byte, size))
	}
	s.conn.outMu.Lock()
	defer s.conn.outMu.Unlock()
	for range n {
		if _, err := s.conn.out.Write(s.frame); err != nil {
			return err
		}
	}
	return nil
}
