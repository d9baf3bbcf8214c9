package nsq

import (
	"log/slog"
	"time"
)

// How a connection ends:
//
//   - Close with nothing in flight stops the read loop, which begins the end.
//   - Close with messages in flight lets both loops go on; the write loop
//     begins the end after the last answer. If a message timeout passes without
//     an answer, nsqd has given the messages to others and so do we.
//   - A failed read or write begins the end at once: no answer can be sent.
//
// The end (close) happens once: exitChan is closed, both loops leave, the
// socket is closed, OnClose is called.

// lingerTimeout is how long we wait for nsqd to close its side, so that it has
// read our last commands when we close the socket.
const lingerTimeout = 100 * time.Millisecond

// Close begins to close the connection: as soon as all messages received are
// answered. Its end is told by OnClose. It may be called at any time and more
// than once; a Connect in progress fails.
func (c *Conn) Close() error {
	c.lifeMu.Lock()
	defer c.lifeMu.Unlock()
	first := !c.closing.Swap(true)
	if c.cancelDial != nil {
		c.cancelDial()
	}
	switch {
	case c.conn == nil || c.exiting:
		return nil
	case !c.running:
		if !first {
			return nil
		}
		return c.conn.Close() // the handshake failed, or will now
	case c.inFlight.Load() == 0:
		return c.conn.stopReading()
	}
	c.abandonLaterLocked()
	return nil
}

// fail ends the connection because of a failed read or write and tells the
// delegate of the first such failure.
func (c *Conn) fail(err error) {
	c.dead.Store(true)
	if !c.reported.Swap(true) && !c.hasExited() {
		c.log(LogLevelError, "IO error", errAttr(err))
		c.delegate.OnIOError(c, err)
	}
	c.close()
}

// hasExited says whether close was called.
func (c *Conn) hasExited() bool {
	select {
	case <-c.exitChan:
		return true
	default:
		return false
	}
}

// abandonLater begins to wait for the answers that are missing.
func (c *Conn) abandonLater() {
	c.lifeMu.Lock()
	defer c.lifeMu.Unlock()
	c.abandonLaterLocked()
}

func (c *Conn) abandonLaterLocked() {
	if c.abandon == nil && !c.exiting {
		c.abandon = time.AfterFunc(c.untilAbandoned(), c.abandonMessages)
	}
}

// untilAbandoned is how long the newest message in flight may still take.
func (c *Conn) untilAbandoned() time.Duration {
	last := time.Unix(0, max(c.lastMessageTime.Load(), c.lastTouchTime.Load()))
	return time.Until(last.Add(c.msgTimeout))
}

// abandonMessages ends the connection though messages are unanswered, unless
// one has been touched meanwhile.
func (c *Conn) abandonMessages() {
	if left := c.untilAbandoned(); left > 0 {
		c.lifeMu.Lock()
		defer c.lifeMu.Unlock()
		if !c.exiting {
			c.abandon.Reset(left)
		}
		return
	}
	c.log(LogLevelWarning, "closing, messages were not answered in time", slog.Int64("in_flight", c.inFlight.Load()))
	c.close()
}

// close begins the end of the connection, once.
func (c *Conn) close() {
	c.lifeMu.Lock()
	if c.exiting || !c.running {
		c.lifeMu.Unlock()
		return
	}
	c.exiting = true
	c.closing.Store(true)
	close(c.exitChan)
	_ = c.conn.stopReading() // fails only if the socket is closed already
	if c.abandon != nil {
		c.abandon.Stop()
	}
	c.lifeMu.Unlock()

	c.log(LogLevelInfo, "beginning close")
	go c.waitForCleanup() // ends with OnClose, which the connection's owner waits for
}

// waitForCleanup waits for the loops, closes the socket and calls OnClose.
func (c *Conn) waitForCleanup() {
	if c.dead.Load() {
		_ = c.conn.Close() // frees a loop that is stuck in it
	}
	c.loops.Wait()
	c.dropAnswers()
	if !c.dead.Load() {
		c.endStream()
	}
	_ = c.conn.Close() // nothing is left to be lost
	c.log(LogLevelInfo, "clean close complete")
	c.delegate.OnClose(c)
}

// endStream sends what is left and waits until nsqd has read it.
func (c *Conn) endStream() {
	c.writeMu.Lock()
	_ = c.flushLocked() // the connection ends in any case
	c.stream.closeWrite(c.conn.Conn)
	c.writeMu.Unlock()
	c.conn.drain(lingerTimeout)
}
