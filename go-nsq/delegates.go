package nsq

import (
	"sync/atomic"
	"time"
)

// MessageDelegate takes the answers given to a Message. Messages from a
// Connection have one that sends FIN, REQ and TOUCH; tests of handlers install
// their own. Its methods may be called from any goroutine.
type MessageDelegate interface {
	// OnFinish is called when the message is finished.
	OnFinish(*Message)

	// OnRequeue is called when the message is requeued. delay -1 means the
	// default requeue delay times attempts; backoff says whether the requeue
	// counts as a failure in backoff.
	OnRequeue(m *Message, delay time.Duration, backoff bool)

	// OnTouch is called to restart nsqd's timeout of the message.
	OnTouch(*Message)
}

// connMessageDelegate hands the answers of a message to its connection.
type connMessageDelegate struct {
	c *Conn
}

func (d *connMessageDelegate) OnFinish(m *Message) { d.c.onMessageFinish(m) }
func (d *connMessageDelegate) OnRequeue(m *Message, delay time.Duration, backoff bool) {
	d.c.onMessageRequeue(m, delay, backoff)
}
func (d *connMessageDelegate) OnTouch(m *Message) { d.c.onMessageTouch(m) }

// ConnDelegate is told what happens on a Conn. The comment of each method names
// the goroutine it is called on: the connection's read loop or write loop.
// A method that blocks holds that loop up, heartbeats included.
type ConnDelegate interface {
	// OnResponse: a response frame other than a heartbeat arrived. Read loop.
	OnResponse(*Conn, []byte)

	// OnError: an error frame arrived. Read loop.
	OnError(*Conn, []byte)

	// OnMessage: a message arrived. Read loop.
	OnMessage(*Conn, *Message)

	// OnMessageFinished: FIN is about to be written. Write loop.
	OnMessageFinished(*Conn, *Message)

	// OnMessageRequeued: REQ is about to be written. Write loop.
	OnMessageRequeued(*Conn, *Message)

	// OnBackoff: follows OnMessageRequeued when the requeue is a failure.
	OnBackoff(*Conn)

	// OnContinue: follows OnMessageRequeued when it is not a failure.
	OnContinue(*Conn)

	// OnResume: follows OnMessageFinished, a success.
	OnResume(*Conn)

	// OnIOError: a read or write failed, once per connection, or a frame of
	// unknown type arrived. Called by whoever met the error.
	OnIOError(*Conn, error)

	// OnHeartbeat: a heartbeat arrived and is about to be answered. Read loop.
	OnHeartbeat(*Conn)

	// OnClose: the connection is closed. Called exactly once, last.
	OnClose(*Conn)
}

// consumerConnDelegate passes the events of a connection on to its Consumer.
type consumerConnDelegate struct {
	r          *Consumer
	subscribed chan error            // capacity 1: the answer to SUB
	reason     atomic.Pointer[error] // why the connection ends, if not by our wish
}

func newConsumerConnDelegate(r *Consumer) *consumerConnDelegate {
	return &consumerConnDelegate{r: r, subscribed: make(chan error, 1)}
}

// answered takes the first thing that happens for the answer to SUB: nsqd says
// nothing else before it.
func (d *consumerConnDelegate) answered(err error) {
	select {
	case d.subscribed <- err:
	default:
	}
}

func (d *consumerConnDelegate) OnResponse(c *Conn, data []byte) {
	d.answered(nil)
	d.r.onConnResponse(c, data)
}

func (d *consumerConnDelegate) OnError(c *Conn, data []byte) {
	if _, ok := answerFailed(c.addr, data); ok {
		return // nsqd goes on
	}
	var err error = ErrProtocol{string(data)}
	d.reason.CompareAndSwap(nil, &err)
	d.answered(err)
}

func (d *consumerConnDelegate) OnMessage(c *Conn, m *Message) { d.r.onConnMessage(c, m) }
func (d *consumerConnDelegate) OnMessageFinished(c *Conn, m *Message) {
	d.r.onConnMessageFinished(c, m)
}
func (d *consumerConnDelegate) OnMessageRequeued(c *Conn, m *Message) {
	d.r.onConnMessageRequeued(c, m)
}
func (d *consumerConnDelegate) OnBackoff(c *Conn)  { d.r.onConnBackoff(c) }
func (d *consumerConnDelegate) OnContinue(c *Conn) { d.r.onConnContinue(c) }
func (d *consumerConnDelegate) OnResume(c *Conn)   { d.r.onConnResume(c) }

func (d *consumerConnDelegate) OnIOError(c *Conn, err error) {
	d.reason.CompareAndSwap(nil, &err)
	d.answered(err)
	d.r.onConnIOError(c, err)
}

func (d *consumerConnDelegate) OnHeartbeat(c *Conn) {}

func (d *consumerConnDelegate) OnClose(c *Conn) {
	d.answered(errConnectionClosed)
	var reason error
	if err := d.reason.Load(); err != nil {
		reason = *err
	}
	d.r.onConnClose(c, reason)
}

func (d *consumerConnDelegate) onAnswerFailed(failure AnswerFailure) { d.r.onAnswerFailed(failure) }

// producerConnDelegate passes the events of a connection on to its Producer.
type producerConnDelegate struct {
	w *Producer
}

func (d *producerConnDelegate) OnResponse(c *Conn, data []byte)       { d.w.onConnResponse(c, data) }
func (d *producerConnDelegate) OnError(c *Conn, data []byte)          { d.w.onConnError(c, data) }
func (d *producerConnDelegate) OnMessage(c *Conn, m *Message)         {}
func (d *producerConnDelegate) OnMessageFinished(c *Conn, m *Message) {}
func (d *producerConnDelegate) OnMessageRequeued(c *Conn, m *Message) {}
func (d *producerConnDelegate) OnBackoff(c *Conn)                     {}
func (d *producerConnDelegate) OnContinue(c *Conn)                    {}
func (d *producerConnDelegate) OnResume(c *Conn)                      {}
func (d *producerConnDelegate) OnIOError(c *Conn, err error)          { d.w.onConnIOError(c, err) }
func (d *producerConnDelegate) OnHeartbeat(c *Conn)                   {}
func (d *producerConnDelegate) OnClose(c *Conn)                       { d.w.onConnClose(c) }
