package nsq

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// instanceCount numbers the Consumers and Producers of the process, from 1.
var instanceCount atomic.Int64

// producerConn is what a Producer needs of a connection. Conn does more, which
// is found by type assertion: see batchConn.
type producerConn interface {
	String() string
	SetLogger(logger, LogLevel, string)
	SetLoggerLevel(LogLevel)
	SetLoggerForLevel(logger, LogLevel, string)
	Connect() (*IdentifyResponse, error)
	Close() error
	WriteCommand(*Command) error
}

// batchConn is a producerConn that writes several commands with one flush.
type batchConn interface {
	writeCommands([]*Command) error
	flush() error
}

// maxConnectAttempts is how often one publish connects when the connection is
// lost again before the publish is queued.
const maxConnectAttempts = 3

// stopTimeout is how long Stop waits for the answers to what was published, as
// long as answers keep coming within WriteTimeout.
const stopTimeout = 10 * time.Second

// Producer publishes messages to one nsqd. It connects when it is first used
// and again after a connection was lost. All methods may be called from any
// goroutine.
type Producer struct {
	// Set once by NewProducer.
	id              int64
	addr            string
	config          Config
	transactionChan *transactionQueue // not a Go channel: it knows what is answered, too
	deliveries      *deliveries
	exitChan        chan int // closed when the router is to end for good

	loggers levelLoggers

	state    int32 // atomic; changes under guard
	stopFlag atomic.Bool

	guard     sync.Mutex   // guards the four below; held for no I/O
	conn      producerConn // being made or in use
	closeChan chan int     // closed when conn is closed
	dialing   *dialAttempt // nil unless a connection is being made
	gone      chan struct{}

	finishing sync.Mutex // makes finding and delivering an outcome one step, to keep their order

	wg sync.WaitGroup // the router
}

// A dialAttempt is a connect in progress. All callers who need it share it.
type dialAttempt struct {
	done chan struct{} // closed at its end
	err  error         // its result, set before
}

// NewProducer returns a Producer for the nsqd at addr, "host:port" of its TCP
// port. It checks and copies config but does not connect. It panics for a
// Config that is not from NewConfig.
func NewProducer(addr string, config *Config) (*Producer, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	w := &Producer{
		id:              instanceCount.Add(1),
		addr:            addr,
		config:          *config,
		transactionChan: newTransactionQueue(),
		deliveries:      newDeliveries(),
		exitChan:        make(chan int),
	}
	w.loggers.setDefault()
	return w, nil
}

// SetLogger sends the log lines of all levels from lvl up to l; nil silences
// them. It affects connections made afterwards.
func (w *Producer) SetLogger(l logger, lvl LogLevel) {
	w.loggers.setAll(l, lvl, "")
}

// SetLoggerForLevel is SetLogger for one level only. What is logged at all
// stays as set by SetLogger or SetLoggerLevel.
func (w *Producer) SetLoggerForLevel(l logger, lvl LogLevel) {
	w.loggers.setOne(l, lvl, "")
}

// SetLoggerLevel makes lvl the least severe level to be logged.
func (w *Producer) SetLoggerLevel(lvl LogLevel) {
	w.loggers.setLevel(lvl)
}

// SetSlogger sends the log lines to l, as a message and attributes (client,
// addr, err and others); l decides what is logged at all. nil silences them. It
// affects connections made afterwards.
func (w *Producer) SetSlogger(l *slog.Logger) {
	w.loggers.setStructured(l)
}

func (w *Producer) log(lvl LogLevel, msg string, facts ...slog.Attr) {
	w.loggers.emit(lvl, w.logHead, []slog.Attr{slog.Int64("client", w.id), addrAttr(w.addr)}, msg, facts)
}

func (w *Producer) logHead(string) string {
	return fmt.Sprintf("%3d (%s)", w.id, w.addr)
}

// String returns the address of nsqd as given to NewProducer.
func (w *Producer) String() string {
	return w.addr
}

// Ping connects if need be and sends nsqd a NOP, to which there is no answer:
// nil means that we are connected and the bytes were accepted.
func (w *Producer) Ping() error {
	if w.stopFlag.Load() {
		return ErrStopped
	}
	if atomic.LoadInt32(&w.state) != StateConnected {
		if err := w.connect(); err != nil {
			return err
		}
	}
	w.guard.Lock()
	conn := w.conn
	w.guard.Unlock()
	return conn.WriteCommand(Nop())
}

// Publish publishes body to topic and waits for nsqd's answer. An error is
// that of the dial, ErrIdentify, ErrProtocol, ErrNotConnected or ErrStopped.
// What nsqd is certain to refuse (an invalid topic, an empty body) is not sent:
// it would cost the connection. nil is an empty body.
func (w *Producer) Publish(topic string, body []byte) error {
	if err := checkPublish(topic, body); err != nil {
		return w.refuse(err)
	}
	return w.sendCommand(Publish(topic, body))
}

// MultiPublish publishes several messages to topic at once, all or none, and
// waits for nsqd's answer. Errors are those of Publish.
func (w *Producer) MultiPublish(topic string, body [][]byte) error {
	if err := checkMultiPublish(topic, body); err != nil {
		return w.refuse(err)
	}
	cmd, err := MultiPublish(topic, body)
	if err != nil {
		return err
	}
	return w.sendCommand(cmd)
}

// DeferredPublish publishes body to topic, to be delivered after delay (whole
// milliseconds, at most nsqd's --max-req-timeout), and waits for nsqd's answer.
// Errors are those of Publish.
func (w *Producer) DeferredPublish(topic string, delay time.Duration, body []byte) error {
	if err := checkDeferredPublish(topic, delay, body); err != nil {
		return w.refuse(err)
	}
	return w.sendCommand(DeferredPublish(topic, delay, body))
}

// PublishAsync publishes body to topic without waiting for nsqd's answer. If it
// returns nil, exactly one transaction with the outcome and args is sent on
// doneChan, in the order of publishing; nil discards it. body must not be
// changed before.
//
// doneChan need not be drained at once, but it must be drained: with 10,000
// outcomes outstanding on it publishing with it blocks.
func (w *Producer) PublishAsync(topic string, body []byte, doneChan chan *ProducerTransaction,
	args ...interface{}) error {
	if err := checkPublish(topic, body); err != nil {
		return w.sendRejectedAsync(err, doneChan, args)
	}
	return w.sendCommandAsync(Publish(topic, body), doneChan, args)
}

// MultiPublishAsync is MultiPublish in the manner of PublishAsync: one
// transaction for all messages.
func (w *Producer) MultiPublishAsync(topic string, body [][]byte, doneChan chan *ProducerTransaction,
	args ...interface{}) error {
	if err := checkMultiPublish(topic, body); err != nil {
		return w.sendRejectedAsync(err, doneChan, args)
	}
	cmd, err := MultiPublish(topic, body)
	if err != nil {
		return err
	}
	return w.sendCommandAsync(cmd, doneChan, args)
}

// DeferredPublishAsync is DeferredPublish in the manner of PublishAsync.
func (w *Producer) DeferredPublishAsync(topic string, delay time.Duration, body []byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	if err := checkDeferredPublish(topic, delay, body); err != nil {
		return w.sendRejectedAsync(err, doneChan, args)
	}
	return w.sendCommandAsync(DeferredPublish(topic, delay, body), doneChan, args)
}

// refuse returns err, what nsqd would say, unless nobody would ask it.
func (w *Producer) refuse(err error) error {
	if w.stopFlag.Load() {
		return ErrStopped
	}
	return err
}

// doneChans are the private doneChans of sendCommand, empty.
var doneChans = sync.Pool{New: func() any { return make(chan *ProducerTransaction, 1) }}

func (w *Producer) sendCommand(cmd *Command) error {
	doneChan := doneChans.Get().(chan *ProducerTransaction)
	defer doneChans.Put(doneChan)
	if err := w.sendCommandAsync(cmd, doneChan, nil); err != nil {
		return err
	}
	t := <-doneChan
	return t.Error
}

func (w *Producer) sendCommandAsync(cmd *Command, doneChan chan *ProducerTransaction, args []interface{}) error {
	return w.sendTransaction(&ProducerTransaction{cmd: cmd, doneChan: doneChan, Args: args})
}

// sendRejectedAsync gives doneChan the error in its turn, as if nsqd had sent it.
func (w *Producer) sendRejectedAsync(err error, doneChan chan *ProducerTransaction, args []interface{}) error {
	return w.sendTransaction(&ProducerTransaction{Error: err, doneChan: doneChan, Args: args})
}

// sendTransaction queues t for the router of a connection, made if need be.
func (w *Producer) sendTransaction(t *ProducerTransaction) error {
	w.deliveries.waitForRoom(t.doneChan)
	for range maxConnectAttempts {
		if w.stopFlag.Load() {
			return ErrStopped
		}
		if atomic.LoadInt32(&w.state) != StateConnected {
			if err := w.connect(); err != nil {
				return err
			}
		}
		if w.transactionChan.put(t) {
			return nil
		}
	}
	return ErrNotConnected
}

// router writes what is queued to the connection and flushes when nothing
// waits: a lone publish is one write, a crowd of them is one as well. It never
// reads; answers are the read loop's.
func (w *Producer) router() {
	w.guard.Lock()
	conn, closeChan := w.conn, w.closeChan
	w.guard.Unlock()

	if err := w.route(conn, closeChan); err != nil {
		w.log(LogLevelError, "failed to write", errAttr(err))
		w.close(conn)
	}
	w.transactionCleanup()
	w.log(LogLevelInfo, "exiting router")
}

func (w *Producer) route(conn producerConn, closeChan chan int) error {
	var cmds []*Command
	var unanswered int
	unflushed, yielded := false, false
	for {
		cmds, unanswered = w.transactionChan.take(cmds[:0])
		w.finishRejected()
		switch {
		case len(cmds) > 0:
			if err := writeBatch(conn, cmds); err != nil {
				return err
			}
			clear(cmds) // their bodies are not needed any more
			unflushed, yielded = true, false
			continue
		case unflushed && !yielded && unanswered > 1:
			// There are other publishers: those that are ready run now. That
			// costs a fraction of the writes it saves (32 goroutines in
			// Publish: 3.3 us of CPU each without, 1.5 us with it).
			runtime.Gosched()
			yielded = true
			continue
		case unflushed:
			if err := flushBatch(conn); err != nil {
				return err
			}
			unflushed = false
		}
		select {
		case <-w.transactionChan.ready:
		case <-closeChan:
			return nil
		case <-w.exitChan:
			return nil
		}
	}
}

func writeBatch(conn producerConn, cmds []*Command) error {
	if batch, ok := conn.(batchConn); ok {
		return batch.writeCommands(cmds)
	}
	for _, cmd := range cmds {
		if err := conn.WriteCommand(cmd); err != nil {
			return err
		}
	}
	return nil
}

func flushBatch(conn producerConn) error {
	if batch, ok := conn.(batchConn); ok {
		return batch.flush()
	}
	return nil // WriteCommand has flushed
}

// popTransaction gives an answer to the publish it belongs to: nsqd answers in
// order.
func (w *Producer) popTransaction(frameType int32, data []byte) bool {
	w.finishing.Lock()
	defer w.finishing.Unlock()
	t, more := w.transactionChan.pop()
	if t == nil {
		return false
	}
	if frameType == FrameTypeError {
		t.Error = ErrProtocol{string(data)}
	}
	w.deliveries.deliver(t)
	if more {
		w.finishRejectedLocked()
	}
	return true
}

// finishRejected delivers what needs no answer and whose turn it is.
func (w *Producer) finishRejected() {
	w.finishing.Lock()
	defer w.finishing.Unlock()
	w.finishRejectedLocked()
}

func (w *Producer) finishRejectedLocked() {
	for t := w.transactionChan.popRejected(); t != nil; t = w.transactionChan.popRejected() {
		w.deliveries.deliver(t)
	}
}

// transactionCleanup closes the queue and fails what is in it.
func (w *Producer) transactionCleanup() {
	w.finishing.Lock()
	defer w.finishing.Unlock()
	left := w.transactionChan.close()
	if len(left) > 0 {
		w.log(LogLevelWarning, "failing publishes that were not answered", slog.Int("publishes", len(left)))
	}
	for _, t := range left {
		if t.Error == nil {
			t.Error = ErrNotConnected
		}
		w.deliveries.deliver(t)
	}
}

func (w *Producer) onConnResponse(c *Conn, data []byte) { w.onAnswer(c, FrameTypeResponse, data) }
func (w *Producer) onConnError(c *Conn, data []byte)    { w.onAnswer(c, FrameTypeError, data) }

func (w *Producer) onAnswer(c *Conn, frameType int32, data []byte) {
	if w.popTransaction(frameType, data) || atomic.LoadInt32(&w.state) != StateConnected {
		return
	}
	w.log(LogLevelError, "unexpected response", slog.Int("type", int(frameType)), slog.Int("bytes", len(data)),
		slog.String("hex", hex.EncodeToString(data[:min(len(data), 32)])))
	w.closeCurrent(c)
}

func (w *Producer) onConnIOError(c *Conn, _ error) {
	w.closeCurrent(c)
}

func (w *Producer) onConnClose(c *Conn) {
	w.guard.Lock()
	defer w.guard.Unlock()
	if c == nil || w.conn == producerConn(c) {
		close(w.closeChan)
	}
}
