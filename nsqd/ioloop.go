package nsqd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// IOLoop reads commands, executes them and answers, until the client goes or
// makes a fatal error. It returns why the connection must be closed from our
// side, or nil where the client has left or gone silent.
//
// All commands that have arrived are executed before their answers are written:
// see beforeRead. Consecutive PUBs to one topic, and consecutive FINs, are
// executed together: see endRuns.
//
// For a calm client the IOLoop waits with next to nothing on its stack, which is
// 2 KiB as long as nothing deeper runs on it, and without what commands need: they
// are executed aside.
func (c *conn) IOLoop() error {
	for {
		var calm bool
		var err error
		aside(func() { calm, err = c.work() })
		if !calm {
			return err
		}
		if err := c.in.await(); err != nil {
			return c.goodbye(err)
		}
	}
}

// calmReads is for how many reads a client is calm at first, and again after a NOP,
// the answer to a heartbeat. For one that says little between heartbeats that is
// always; for one that is busy, a few reads in each interval take a goroutine each.
const calmReads = 16

// work executes what has arrived, and while the client is not calm what comes after
// it. It returns calm when all that is left is to wait, otherwise why the IOLoop ends.
func (c *conn) work() (calm bool, err error) {
	c.ioScratch = ioScratches.Get().(*ioScratch)
	for {
		var line []byte
		if c.calm > 0 && c.in.buffered() == 0 {
			if err = c.in.beforeRead(); err == nil {
				c.calm--
				c.ioScratch.reset()
				ioScratches.Put(c.ioScratch)
				c.ioScratch = nil
				return true, nil
			}
		} else if line, err = c.in.line(); err == nil {
			c.params = protocol.SplitParams(line, c.params[:0])
			if err = c.execute(c.params); err == nil {
				continue
			}
		}
		// What was gathered before the command that failed comes first, and so
		// does its error.
		if e := c.endRuns(); e != nil {
			err = e
		}
		var refused *protocol.Error
		if !errors.As(err, &refused) || c.stopped(err) {
			return false, c.goodbye(err)
		}
		c.log.Log(context.Background(), refusalLevel(err), fmt.Sprintf("[%s] - %s", c.addr, refused))
		if err := c.out.answer(protocol.FrameError, refused.Error()); err != nil {
			return false, c.goodbye(err)
		}
		if refused.Fatal {
			// The frame is on its way or lost with the connection.
			_ = c.out.flush()
			return false, refused
		}
	}
}

// execute runs one command. Errors of type [protocol.Error] are for the client.
// Source: TCP protocol spec, "Client states" (dispatch order).
func (c *conn) execute(params [][]byte) error {
	if c.mustTLS && string(params[0]) != "IDENTIFY" {
		return fatalError(protocol.CodeInvalid, fmt.Sprintf("cannot %s in current state (TLS required)", params[0]), nil)
	}
	switch string(params[0]) {
	case "FIN":
		return c.fin(params)
	case "PUB":
		return c.pub(params)
	case "DPUB":
		return c.dpub(params)
	}
	if err := c.endRuns(); err != nil {
		return err
	}
	switch string(params[0]) {
	case "RDY":
		return c.rdy(params)
	case "REQ":
		return c.req(params)
	case "TOUCH":
		return c.touch(params)
	case "MPUB":
		return c.mpub(params)
	case "NOP":
		c.calm = calmReads
		return nil
	case "SUB":
		return c.subscribe(params)
	case "CLS":
		return c.cls()
	case "IDENTIFY":
		return c.identify()
	case "AUTH":
		return c.authenticate(params)
	}
	return fatalError(protocol.CodeInvalid, "invalid command "+string(params[0]), nil)
}

// beforeRead is called when everything that has arrived is used up: it finishes
// runs, sends the answers, and grants the client its time to say more.
func (c *conn) beforeRead() error {
	if err := c.endRuns(); err != nil {
		return err
	}
	return c.beforeWait()
}

// beforeWait is the part of beforeRead that is for the socket: with layers over it
// there are reads that do not get so far.
func (c *conn) beforeWait() error {
	if err := c.out.flushAnswers(); err != nil {
		return err
	}
	return c.extendReadDeadline()
}

// endRuns executes the gathered PUBs or FINs, of which there is one kind at a
// time.
func (c *conn) endRuns() error {
	if len(c.run.bodies) > 0 {
		return c.endPublishRun()
	}
	if len(c.fins) > 0 {
		return c.endFinRun()
	}
	return nil
}

// extendReadDeadline drops a client that is silent for two heartbeat intervals.
// Setting a deadline costs as much as a small read, so one that is a sixteenth of
// an interval later serves all reads of that time.
func (c *conn) extendReadDeadline() error {
	interval := c.settings.Load().heartbeat
	if interval == 0 {
		if c.readDeadline.IsZero() {
			return nil
		}
		c.readDeadline = time.Time{}
		return c.setReadDeadline(time.Time{})
	}
	now := time.Now()
	if left := c.readDeadline.Sub(now); left >= 2*interval && left <= 3*interval {
		return nil
	}
	c.readDeadline = now.Add(2*interval + interval/16)
	return c.setReadDeadline(c.readDeadline)
}

// stopped reports whether a read failed because of stop.
func (c *conn) stopped(err error) bool {
	return c.stopping.Load() && errors.Is(err, os.ErrDeadlineExceeded)
}

// goodbye sends the answers that are left, and tells the end of a connection that
// anybody would expect, which is nil, from an error worth a log line.
func (c *conn) goodbye(err error) error {
	// The client may have closed its side only, and still want the answers. If
	// it is gone, they are lost with it.
	_ = c.out.flushAnswers()
	switch {
	case c.stopped(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// A client that closed its side after its last command still wants what
		// is on its way. There is nothing else to do with an error.
		_ = c.out.flush()
		return nil
	case errors.Is(err, net.ErrClosed):
		return nil
	case hungUp(err):
		c.log.Info(fmt.Sprintf("client(%s) - %s", c.addr, err))
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.log.Info(fmt.Sprintf("client(%s) is silent, disconnecting", c.addr))
		return nil
	}
	return err
}

// hungUp reports whether err is what is left of a client that has gone without
// reading all that it was sent, or that was killed.
func hungUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// aside runs f, which calls deep, on a goroutine of its own and waits for it: the
// caller's stack would grow for it, and stay so for as long as the client is
// connected.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}
