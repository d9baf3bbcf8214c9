package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
	"golang.org/x/sync/errgroup"
)

// Messages says what to publish.
type Messages struct {
	Topic string
	Size  int           // bytes of a body
	Batch int           // messages per MPUB; 0 or 1 for PUB
	Defer time.Duration // for DPUB, in whole milliseconds; 0 for none
}

// command returns the bytes of the command that publishes n messages.
func (m Messages) command(n int) []byte {
	body := bytes.Repeat([]byte{'x'}, m.Size)
	switch {
	case m.Batch > 1:
		b := protocol.AppendCommand(nil, "MPUB", m.Topic)
		b = binary.BigEndian.AppendUint32(b, uint32(4+n*(4+m.Size)))
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		for range n {
			b = protocol.AppendSized(b, body)
		}
		return b
	case m.Defer > 0:
		delay := strconv.FormatInt(m.Defer.Milliseconds(), 10)
		return protocol.AppendSized(protocol.AppendCommand(nil, "DPUB", m.Topic, delay), body)
	default:
		return protocol.AppendSized(protocol.AppendCommand(nil, "PUB", m.Topic), body)
	}
}

// Publish publishes n messages, with at most window commands that nsqd has not
// answered, and returns when it has answered all.
func (c *Conn) Publish(m Messages, n, window int) error {
	return c.PublishInTurn([]string{m.Topic}, m, n, window)
}

// PublishInTurn does what Publish does with one topic for several: each command is for
// the next of topics, m.Topic is not used.
func (c *Conn) PublishInTurn(topics []string, m Messages, n, window int) error {
	c.speedUp()
	perCommand := max(m.Batch, 1)
	commands := make([][]byte, len(topics))
	for i, topic := range topics {
		m.Topic = topic
		commands[i] = m.command(perCommand)
	}
	if rest := n % perCommand; rest > 0 {
		if err := c.send(m.command(rest)); err != nil {
			return err
		}
		if err := c.roundTrip(); err != nil {
			return err
		}
	}
	return c.pipeline(n/perCommand, window, func(i int) []byte { return commands[i%len(commands)] })
}

// pipeline sends n commands and reads their answers, of which at most window are
// missing at a time.
func (c *Conn) pipeline(n, window int, command func(i int) []byte) error {
	for sent, answered := 0, 0; answered < n; {
		for ; sent < n && sent-answered < window; sent++ {
			if err := c.send(command(sent)); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
		for first := true; first || c.in.Buffered() > 0; first = false {
			if _, _, err := c.ReadFrame(); err != nil {
				return err
			}
			answered++
		}
	}
	return nil
}

// send gathers small commands and sends large ones as they are.
func (c *Conn) send(command []byte) error {
	if len(c.out)+len(command) > loadBuffer {
		if err := c.flush(); err != nil {
			return err
		}
	}
	if len(command) > loadBuffer/4 {
		if err := c.flush(); err != nil {
			return err
		}
		_, err := c.socket.Write(command)
		return c.cause(err)
	}
	c.out = append(c.out, command...)
	return nil
}

// stampSize is how many bytes of a body say when it was sent.
const stampSize = 8

// epoch is what stamps count from, on the monotonic clock.
var epoch = time.Now()

// Age returns how long ago a message was sent by [Conn.PublishPaced] of this process.
// data is that of its frame, as [Conn.Consume] passes it on.
func Age(data []byte) time.Duration {
	return time.Since(epoch) - time.Duration(binary.BigEndian.Uint64(data[protocol.MinMessageSize:]))
}

// pace is how often PublishPaced looks what is due.
const pace = 200 * time.Microsecond

// PublishPaced publishes n messages by PUB, perSecond of them per second, whether
// nsqd answers or not, and returns when it has answered all. Each body, of 8 bytes at
// least, says when it was sent, see [Age]. Messages that fall due at the same moment
// are sent together. If nsqd does not take them as fast, the rate is lower.
func (c *Conn) PublishPaced(m Messages, n int, perSecond float64) error {
	c.speedUp()
	m.Batch, m.Size = 0, max(m.Size, stampSize)
	var answers errgroup.Group
	answers.Go(func() error { return c.readAnswers(n) })
	err := c.writePaced(m.command(1), m.Size, n, perSecond)
	if err != nil {
		c.Close() // or the answers would be waited for in vain
	}
	// A refusal says more than that the connection was closed after it.
	readErr := answers.Wait()
	if err == nil || readErr != nil && !errors.Is(readErr, net.ErrClosed) {
		return readErr
	}
	return err
}

// writePaced sends n commands, which end with a body of size bytes.
func (c *Conn) writePaced(command []byte, size, n int, perSecond float64) error {
	stamp := command[len(command)-size:]
	start := time.Now()
	for sent := 0; ; time.Sleep(pace) { // the pause is the pace that is asked for
		due := min(n, 1+int(time.Since(start).Seconds()*perSecond))
		for ; sent < due; sent++ {
			binary.BigEndian.PutUint64(stamp, uint64(time.Since(epoch)))
			if err := c.send(command); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil || sent == n {
			return err
		}
	}
}

// readAnswers reads n responses. If that fails it closes the connection, so that who
// writes to it stops.
func (c *Conn) readAnswers(n int) error {
	for range n {
		if _, _, err := c.ReadFrame(); err != nil {
			c.Close()
			return err
		}
	}
	return nil
}
