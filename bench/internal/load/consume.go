package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// A Countdown is how many messages consumers still have to get, all together. Its
// methods may be called by anybody at any time.
type Countdown struct {
	left atomic.Int64
	ctx  context.Context // ends when there is nothing left
	end  context.CancelFunc
}

// NewCountdown counts from n. It must come to its end, or be stopped.
func NewCountdown(n int) *Countdown {
	d := &Countdown{}
	d.left.Store(int64(n))
	d.ctx, d.end = context.WithCancel(context.Background())
	return d
}

// Left returns how many messages have not come; never below 0.
func (d *Countdown) Left() int { return int(max(d.left.Load(), 0)) }

// Done is closed when all have come, or after Stop.
func (d *Countdown) Done() <-chan struct{} { return d.ctx.Done() }

// Stop ends the countdown early.
func (d *Countdown) Stop() { d.end() }

func (d *Countdown) count() {
	if d.left.Add(-1) == 0 {
		d.end()
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// Consume gets messages with this RDY and finishes each, until the countdown of all
// consumers has come to its end. Then it sends CLS and waits for the answer, which
// comes behind all that nsqd does about the FINs; the connection is of no use
// afterwards. What is delivered for a second time is finished and not counted.
//
// onMessage, which may be nil, is called with the data of each message's frame (see
// [protocol.DecodeMessage]), which holds until it returns.
func (c *Conn) Consume(rdy int, left *Countdown, onMessage func(data []byte)) error {
	c.speedUp()
	// Who waits for a message that another consumer gets must learn that all have come.
	stop := context.AfterFunc(left.ctx, func() { _ = c.socket.SetReadDeadline(past) })
	defer stop()
	if err := c.Ready(rdy); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	for left.ctx.Err() == nil {
		if c.in.Buffered() == 0 || len(c.out) > loadBuffer/2 {
			if err := c.flush(); err != nil {
				return fmt.Errorf("consume: %w", err)
			}
		}
		kind, data, err := c.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		if kind != protocol.FrameMessage {
			continue
		}
		if len(data) < protocol.MinMessageSize {
			return fmt.Errorf("consume: %w", protocol.ErrShortMessage)
		}
		if onMessage != nil {
			onMessage(data)
		}
		c.out = append(c.out, "FIN "...)
		c.out = append(c.out, data[10:protocol.MinMessageSize]...)
		c.out = append(c.out, '\n')
		if attempts := binary.BigEndian.Uint16(data[8:]); attempts <= 1 {
			left.count()
		}
	}
	return c.finish()
}

// finish sends what waits and CLS, and reads until that is answered.
func (c *Conn) finish() error {
	c.out = protocol.AppendCommand(c.out, "CLS")
	if err := c.flush(); err != nil {
		return fmt.Errorf("close consumer: %w", err)
	}
	for {
		kind, _, err := c.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // set by the end of the countdown
			if err := c.socket.SetReadDeadline(time.Time{}); err != nil {
				return fmt.Errorf("close consumer: %w", err)
			}
		case err != nil:
			return fmt.Errorf("close consumer: %w", err)
		case kind == protocol.FrameResponse:
			return nil
		}
	}
}
