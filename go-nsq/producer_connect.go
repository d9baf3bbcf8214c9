package nsq

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// connect makes sure that there is a connection: it makes one, waits for the
// one being made, or waits for the remains of the last one to be cleared first.
// The end of ctx ends the waiting, with its error.
func (w *Producer) connect(ctx context.Context) error {
	for {
		w.guard.Lock()
		switch {
		case w.stopFlag.Load():
			w.guard.Unlock()
			return ErrStopped
		case w.dialing != nil:
			attempt := w.dialing
			w.guard.Unlock()
			return attempt.wait(ctx)
		case atomic.LoadInt32(&w.state) == StateConnected:
			w.guard.Unlock()
			return nil
		case atomic.LoadInt32(&w.state) == StateDisconnected:
			gone := w.gone
			w.guard.Unlock()
			select {
			case <-gone:
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			attempt := &dialAttempt{done: make(chan struct{})}
			w.dialing = attempt
			w.guard.Unlock()
			go w.runAttempt(attempt) // Stop waits for attempt.done
			return attempt.wait(ctx)
		}
	}
}

// wait returns the result of the attempt. The attempt outlives ctx: others may
// wait for it, and the next publish can use what it makes.
func (a *dialAttempt) wait(ctx context.Context) error {
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Producer) runAttempt(attempt *dialAttempt) {
	attempt.err = w.dial()
	w.guard.Lock()
	w.dialing = nil
	w.guard.Unlock()
	close(attempt.done)
}

// dial makes a connection and starts its router. After an error the state is
// still StateInit.
func (w *Producer) dial() error {
	w.log(LogLevelInfo, "connecting to nsqd")
	conn := NewConn(w.addr, &w.config, &producerConnDelegate{w})
	w.loggers.copyTo(conn, fmt.Sprintf("%3d (%%s)", w.id), []slog.Attr{slog.Int64("client", w.id)})

	w.guard.Lock()
	if w.stopFlag.Load() {
		w.guard.Unlock()
		return ErrStopped
	}
	closeChan := make(chan int)
	w.conn, w.closeChan, w.firstErr = conn, closeChan, nil
	w.guard.Unlock()

	if _, err := conn.Connect(); err != nil {
		_ = conn.Close() // the connect error says it all
		if w.stopFlag.Load() {
			return ErrStopped
		}
		w.noteError(err)
		w.log(LogLevelError, "error connecting to nsqd", errAttr(err))
		return err
	}
	if !w.startRouter() {
		_ = conn.Close()
		<-closeChan
		return ErrStopped
	}
	if conn.IsClosing() {
		// It failed before it was in use, when there was nothing to close.
		w.close(conn)
	}
	return nil
}

// startRouter puts the connection to use unless Stop was called.
func (w *Producer) startRouter() bool {
	w.guard.Lock()
	defer w.guard.Unlock()
	if w.stopFlag.Load() {
		return false
	}
	w.transactionChan.open()
	atomic.StoreInt32(&w.state, StateConnected)
	w.wg.Go(w.router)
	return true
}

// closeCurrent closes c; nil is the connection in use, whatever it is. c is
// marked as closing first, so that dial sees it if the state is not yet
// StateConnected.
func (w *Producer) closeCurrent(c *Conn) {
	if c != nil {
		_ = c.Close() // the connection is given up
		w.close(c)
		return
	}
	w.guard.Lock()
	conn := w.conn
	w.guard.Unlock()
	w.close(conn)
}

// close gives up conn if it is the connection in use: publishes wait until its
// remains are cleared, then connect anew.
func (w *Producer) close(conn producerConn) {
	w.guard.Lock()
	if conn == nil || w.conn != conn || atomic.LoadInt32(&w.state) != StateConnected {
		w.guard.Unlock()
		return
	}
	atomic.StoreInt32(&w.state, StateDisconnected)
	gone, closeChan := make(chan struct{}), w.closeChan
	w.gone = gone
	w.guard.Unlock()

	_ = conn.Close()                       // the connection is given up
	go w.waitForEnd(conn, closeChan, gone) // Stop and connect wait for gone
}

// waitForEnd waits for the connection and its router to end.
func (w *Producer) waitForEnd(conn producerConn, closeChan chan int, gone chan struct{}) {
	if _, ok := conn.(*Conn); ok {
		<-closeChan
	}
	w.wg.Wait()
	w.guard.Lock()
	defer w.guard.Unlock()
	atomic.StoreInt32(&w.state, StateInit)
	close(gone)
}

// Stop ends the Producer for good. Publishes accepted before are sent and their
// answers awaited, up to 10 s as long as answers keep coming within
// WriteTimeout; what is left fails with ErrNotConnected. A second call returns
// at once.
func (w *Producer) Stop() {
	w.guard.Lock()
	if w.stopFlag.Swap(true) {
		w.guard.Unlock()
		return
	}
	attempt, conn := w.dialing, w.conn
	w.guard.Unlock()

	w.log(LogLevelInfo, "stopping")
	w.deliveries.stopWaiting()
	if attempt != nil {
		if conn != nil {
			_ = conn.Close() // cancels the dial
		}
		<-attempt.done
	}
	w.drain()
	close(w.exitChan)
	w.closeCurrent(nil)
	w.waitForGone()
}

// drain waits for the answers to what was published.
func (w *Producer) drain() {
	if atomic.LoadInt32(&w.state) != StateConnected {
		return
	}
	idle := w.transactionChan.whenIdle()
	limit := time.NewTimer(stopTimeout)
	defer limit.Stop()
	stall := time.NewTicker(w.config.WriteTimeout)
	defer stall.Stop()

	answered := w.transactionChan.answers()
	for {
		select {
		case <-idle:
			return
		case <-limit.C:
			return
		case <-stall.C:
			before := answered
			if answered = w.transactionChan.answers(); answered == before {
				return
			}
		}
	}
}

// waitForGone waits for the end of the connection in use, if there is one.
func (w *Producer) waitForGone() {
	w.guard.Lock()
	gone := w.gone
	w.guard.Unlock()
	if gone != nil {
		<-gone
	}
	w.wg.Wait()
}
