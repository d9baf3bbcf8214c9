package nsq

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// heartbeat is the data of the response frame that asks whether we are alive.
const heartbeat = "_heartbeat_"

// readLoop reads frames and hands them to the delegate until the connection
// ends. While it is being closed and messages await their answers it goes on,
// to answer heartbeats, but takes no more messages.
func (c *Conn) readLoop() {
	for {
		f, err := readFrame(c.in, c.config.MaxMsgSize)
		if err != nil {
			c.readFailed(err)
			return
		}
		c.handleFrame(f)
	}
}

func (c *Conn) handleFrame(f frame) {
	switch f.frameType {
	case FrameTypeResponse:
		if string(f.data) == heartbeat {
			c.handleHeartbeat()
			return
		}
		c.delegate.OnResponse(c, f.data)
	case FrameTypeMessage:
		c.handleMessage(f.message)
	case FrameTypeError:
		c.log(LogLevelError, "protocol error", slog.String("err", string(f.data)))
		c.handleRefusal(f.data)
		c.delegate.OnError(c, f.data)
	default:
		err := fmt.Errorf("unknown frame type %d", f.frameType)
		c.log(LogLevelError, "IO error", errAttr(err))
		c.delegate.OnIOError(c, err)
	}
}

// handleHeartbeat leaves the NOP to the write loop: to write it here could
// wait for a writer that waits for nsqd, which waits for us to read.
func (c *Conn) handleHeartbeat() {
	c.log(LogLevelDebug, "heartbeat received")
	c.delegate.OnHeartbeat(c)
	c.notice(&c.heartbeat) // one NOP answers for several
}

// notice sets a notice to the write loop.
func (c *Conn) notice(notice *atomic.Bool) {
	notice.Store(true)
	select {
	case c.noticeChan <- struct{}{}:
	default:
	}
}

// handleNotices does what the notices say.
func (c *Conn) handleNotices() error {
	if c.tooSlow.Swap(false) {
		c.delegate.OnBackoff(c)
	}
	if c.heartbeat.Swap(false) {
		return c.WriteCommand(Nop())
	}
	return nil
}

// handleRefusal looks whether an error frame refuses an answer to a message. What
// follows in backoff is left to the write loop, as it sends RDY.
func (c *Conn) handleRefusal(data []byte) {
	failure, ok := answerFailed(c.addr, data)
	if !ok {
		return
	}
	c.touches.removeID(failure.ID)
	c.tellAnswerFailed(failure)
	if failure.Command == "FIN" && c.config.BackoffOnFailedFinish {
		c.notice(&c.tooSlow)
	}
}

// tellAnswerFailed tells the delegate if it wants to know.
func (c *Conn) tellAnswerFailed(failure AnswerFailure) {
	if d, ok := c.delegate.(interface{ onAnswerFailed(AnswerFailure) }); ok {
		d.onAnswerFailed(failure)
	}
}

func (c *Conn) handleMessage(m *Message) {
	if c.closing.Load() {
		return // nsqd sends it to someone else once we are gone
	}
	m.Delegate = c.messageDelegate
	m.NSQDAddress = c.addr
	c.inFlight.Add(1)
	c.lastMessageTime.Store(time.Now().UnixNano())
	c.touches.renew(m)
	c.delegate.OnMessage(c, m)
}

// readFailed ends the connection after a read error, unless reading was
// stopped and there are answers to be sent: then the write loop ends it.
func (c *Conn) readFailed(err error) {
	switch {
	case c.conn.readStopped.Load():
		if pending := c.inFlight.Load(); pending > 0 {
			c.log(LogLevelWarning, "delaying close, messages are outstanding", slog.Int64("in_flight", pending))
			c.abandonLater()
			return
		}
		c.close()
	case c.closing.Load() || errors.Is(err, net.ErrClosed):
		c.dead.Store(true)
		c.close()
	default:
		c.fail(err)
	}
}

// kind says what is to be written for an answered message.
type kind int

const (
	kindFinish   kind = iota
	kindRequeue       // a failure: backoff
	kindContinue      // requeue without backoff
)

// msgResponse is the answer to a message on its way to the write loop.
type msgResponse struct {
	msg   *Message
	kind  kind
	delay time.Duration // of a requeue
}

func (c *Conn) onMessageFinish(m *Message) {
	c.respond(msgResponse{msg: m, kind: kindFinish})
}

func (c *Conn) onMessageRequeue(m *Message, delay time.Duration, backoff bool) {
	if delay == defaultRequeueDelay {
		delay = min(c.config.DefaultRequeueDelay*time.Duration(m.Attempts), c.config.MaxRequeueDelay)
	}
	resp := msgResponse{msg: m, kind: kindContinue, delay: delay}
	if backoff {
		resp.kind = kindRequeue
	}
	c.respond(resp)
}

// respond hands an answer to the write loop; after the end of the connection
// there is nobody to send it to.
func (c *Conn) respond(resp msgResponse) {
	c.touches.remove(resp.msg)
	select {
	case c.msgResponseChan <- resp:
		if c.hasExited() {
			c.dropAnswers() // the write loop may have gone before it came
		}
	case <-c.exitChan:
		c.dropAnswer(resp.msg, commandName(resp.kind))
	}
}

// dropAnswers drops the answers that are queued: nobody writes them any more.
func (c *Conn) dropAnswers() {
	for {
		select {
		case resp := <-c.msgResponseChan:
			c.dropAnswer(resp.msg, commandName(resp.kind))
		default:
			return
		}
	}
}

func (c *Conn) dropAnswer(m *Message, command string) {
	c.log(LogLevelWarning, "dropping an answer, the connection is closed", idAttr(m), slog.String("command", command))
	c.tellAnswerFailed(AnswerFailure{Address: c.addr, Command: command, ID: m.ID, Err: ErrNotConnected})
}

func (c *Conn) onMessageTouch(m *Message) {
	c.lastTouchTime.Store(time.Now().UnixNano())
	c.touches.renew(m)
	select {
	case c.cmdChan <- Touch(m.ID):
	case <-c.exitChan:
		c.dropAnswer(m, "TOUCH")
	}
}

// writeLoop writes what handlers answer until the connection ends.
func (c *Conn) writeLoop() {
	var touch <-chan time.Time // never without AutoTouch
	if c.touches != nil {
		ticker := time.NewTicker(max(c.msgTimeout/touchesPerTimeout, time.Millisecond))
		defer ticker.Stop()
		touch = ticker.C
	}
	for {
		var err error
		select {
		case <-c.exitChan:
			c.log(LogLevelDebug, "writeLoop exiting")
			return
		case <-c.noticeChan:
			err = c.handleNotices()
		case <-touch:
			err = c.touchDue()
		case cmd := <-c.cmdChan:
			err = c.WriteCommand(cmd)
		case resp := <-c.msgResponseChan:
			err = c.writeResponses(resp)
		}
		if err != nil {
			return
		}
		if c.closing.Load() && c.inFlight.Load() == 0 {
			c.close()
		}
	}
}

// writeResponses writes resp and all answers that wait behind it, and flushes
// when there are no more.
func (c *Conn) writeResponses(resp msgResponse) error {
	for {
		c.inFlight.Add(-1)
		c.announce(resp)
		err := c.write(func(out *bufio.Writer) error {
			_, err := out.Write(appendResponse(out.AvailableBuffer(), resp))
			return err
		}, false)
		if err != nil {
			return err
		}
		select {
		case resp = <-c.msgResponseChan:
		default:
			return c.flush()
		}
	}
}

// announce tells the delegate before the answer is written, so that a RDY it
// sends comes first: after a failure nsqd must not send the next message in
// the room this one leaves.
func (c *Conn) announce(resp msgResponse) {
	if c.loggers.enabled(LogLevelDebug) {
		c.log(LogLevelDebug, "answering", idAttr(resp.msg), slog.String("command", commandName(resp.kind)), slog.Duration("delay", resp.delay))
	}
	switch resp.kind {
	case kindFinish:
		c.delegate.OnMessageFinished(c, resp.msg)
		if resp.msg.discarded {
			c.delegate.OnContinue(c)
			return
		}
		c.delegate.OnResume(c)
	case kindRequeue:
		c.delegate.OnMessageRequeued(c, resp.msg)
		c.delegate.OnBackoff(c)
	case kindContinue:
		c.delegate.OnMessageRequeued(c, resp.msg)
		c.delegate.OnContinue(c)
	}
}

func commandName(k kind) string {
	if k == kindFinish {
		return "FIN"
	}
	return "REQ"
}

// appendResponse appends the FIN or REQ for resp.
func appendResponse(dst []byte, resp msgResponse) []byte {
	if resp.kind == kindFinish {
		dst = append(dst, "FIN "...)
		dst = append(dst, resp.msg.ID[:]...)
		return append(dst, '\n')
	}
	dst = append(dst, "REQ "...)
	dst = append(dst, resp.msg.ID[:]...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(resp.delay/time.Millisecond), 10)
	return append(dst, '\n')
}
