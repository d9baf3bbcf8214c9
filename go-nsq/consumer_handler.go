package nsq

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Handler handles the messages of a Consumer.
type Handler interface {
	// HandleMessage handles a message. Returning nil finishes it, an error
	// requeues it, unless the message's DisableAutoResponse was called. It runs
	// on several goroutines if the handler was added with a concurrency.
	HandleMessage(message *Message) error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(message *Message) error

// HandleMessage calls h.
func (h HandlerFunc) HandleMessage(m *Message) error {
	return h(m)
}

// BatchHandler handles several messages of a Consumer at a time.
type BatchHandler interface {
	// HandleBatch handles messages, at least one. Returning nil finishes those
	// that it has not answered itself, an error requeues them, except those whose
	// DisableAutoResponse was called. The slice is the handler's to keep.
	HandleBatch(messages []*Message) error
}

// BatchHandlerFunc is a function as a BatchHandler.
type BatchHandlerFunc func(messages []*Message) error

// HandleBatch calls h.
func (h BatchHandlerFunc) HandleBatch(messages []*Message) error {
	return h(messages)
}

// FailedMessageLogger is a Handler, or a BatchHandler, that wants to see the
// messages that are given up because of MaxAttempts.
type FailedMessageLogger interface {
	// LogFailedMessage is called before the message is finished. It may answer
	// the message itself.
	LogFailedMessage(message *Message)
}

// AddHandler adds a handler for one message at a time. Handlers compete for
// messages. It panics once the Consumer has been told to connect.
func (r *Consumer) AddHandler(handler Handler) {
	r.AddConcurrentHandlers(handler, 1)
}

// AddConcurrentHandlers adds a handler for up to concurrency messages at a
// time, each on a goroutine of its own. MaxInFlight limits how many there are.
// It panics once the Consumer has been told to connect.
func (r *Consumer) AddConcurrentHandlers(handler Handler, concurrency int) {
	r.startHandlers(concurrency, func() { r.handlerLoop(handler) })
}

// AddBatchHandler adds a handler for up to size messages at a time. It gets
// fewer when no more have come within wait after the first; MaxInFlight below
// size makes that the rule. wait must be far below the message timeout. It
// panics once the Consumer has been told to connect.
func (r *Consumer) AddBatchHandler(handler BatchHandler, size int, wait time.Duration) {
	r.AddConcurrentBatchHandlers(handler, size, wait, 1)
}

// AddConcurrentBatchHandlers is AddBatchHandler for up to concurrency batches
// at a time, each on a goroutine of its own.
func (r *Consumer) AddConcurrentBatchHandlers(handler BatchHandler, size int, wait time.Duration, concurrency int) {
	r.startHandlers(concurrency, func() { r.batchLoop(handler, max(1, size), wait) })
}

func (r *Consumer) startHandlers(concurrency int, loop func()) {
	r.mtx.RLock()
	connected := r.connected
	r.mtx.RUnlock()
	if connected {
		panic("already connected")
	}
	concurrency = max(0, concurrency)
	r.runningHandlers.Add(int32(concurrency))
	for range concurrency {
		go r.runHandler(loop) // ends when incomingMessages is closed; exit is called after the last
	}
}

// runHandler runs loop and ends the Consumer after the last one, if it is to
// end. That is deferred because a handler can end its goroutine by itself, as
// testing.T.FailNow does.
func (r *Consumer) runHandler(loop func()) {
	defer func() {
		if r.runningHandlers.Add(-1) == 0 && r.incomingMessages.isClosed() {
			r.exit()
		}
	}()
	r.log(LogLevelDebug, "starting handler")
	loop()
	r.log(LogLevelDebug, "stopping handler")
}

func (r *Consumer) handlerLoop(handler Handler) {
	for {
		m, ok := r.incomingMessages.pop()
		if !ok {
			return
		}
		if connectionLost(m) || r.giveUp(handler, m) {
			continue
		}
		if r.hooks.Handled == nil && !r.config.RecoverPanics {
			r.settle(m, 0, handler.HandleMessage(m)) // the usual case
			continue
		}
		took, err := r.timed(func() error { return handler.HandleMessage(m) })
		r.settle(m, took, err)
	}
}

func (r *Consumer) batchLoop(handler BatchHandler, size int, wait time.Duration) {
	for {
		popped, ok := r.incomingMessages.popBatch(size, wait)
		if !ok {
			return
		}
		batch := make([]*Message, 0, len(popped))
		for _, m := range popped {
			if !connectionLost(m) && !r.giveUp(handler, m) {
				batch = append(batch, m)
			}
		}
		if len(batch) == 0 {
			continue
		}
		handed := append([]*Message(nil), batch...) // the handler may reorder or keep it
		took, err := r.timed(func() error { return handler.HandleBatch(handed) })
		for _, m := range batch {
			r.settle(m, took, err)
		}
	}
}

// connectionLost says whether the connection a message came from is gone. nsqd
// will deliver the message again, and nobody would see our answer.
func connectionLost(m *Message) bool {
	d, ok := m.Delegate.(*connMessageDelegate)
	return ok && d.c.hasExited()
}

// timed calls handle, and says how long it took if anybody wants to know.
func (r *Consumer) timed(handle func() error) (time.Duration, error) {
	if r.hooks.Handled == nil {
		return 0, r.guarded(handle)
	}
	start := time.Now()
	err := r.guarded(handle)
	return time.Since(start), err
}

// guarded calls handle, and takes a panic for an error if so configured.
func (r *Consumer) guarded(handle func() error) (err error) {
	if r.config.RecoverPanics {
		defer func() {
			if cause := recover(); cause != nil {
				err = fmt.Errorf("handler panicked: %v", cause)
				r.log(LogLevelError, "handler panicked", slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
			}
		}()
	}
	return handle()
}

// settle answers m as err, the handler's result, says.
func (r *Consumer) settle(m *Message, took time.Duration, err error) {
	if err != nil {
		r.log(LogLevelError, "handler returned an error", idAttr(m), errAttr(err))
	}
	if r.hooks.Handled != nil {
		r.hooks.Handled(m, took, err)
	}
	switch {
	case m.IsAutoResponseDisabled():
	case err != nil:
		m.Requeue(defaultRequeueDelay)
	default:
		m.Finish()
	}
}

// giveUp finishes m if it has been attempted too often, after telling the
// handler, and says whether it did. In backoff that is neither a success nor a
// failure: nothing was handled.
func (r *Consumer) giveUp(handler interface{}, m *Message) bool {
	if r.config.MaxAttempts == 0 || m.Attempts <= r.config.MaxAttempts {
		return false
	}
	r.log(LogLevelWarning, "message attempted too often, giving up", idAttr(m), slog.Int("attempts", int(m.Attempts)))
	m.discarded = true
	r.messagesGivenUp.Add(1)
	if r.hooks.GaveUp != nil {
		r.hooks.GaveUp(m)
	}
	if failed, ok := handler.(FailedMessageLogger); ok {
		failed.LogFailedMessage(m)
	}
	m.Finish()
	return true
}
