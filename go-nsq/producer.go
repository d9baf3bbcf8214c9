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
	doneChans       sync.Pool // private ones of send, empty; not shared, for users' synctest bubbles
	exitChan        chan int  // closed when the router is to end for good

	loggers levelLoggers

	state    int32 // atomic; changes under guard
	stopFlag atomic.Bool

	guard     sync.Mutex   // guards the six below; held for no I/O
	conn      producerConn // being made or in use
	closeChan chan int     // closed when conn is closed
	dialing   *dialAttempt // nil unless a connection is being made
	gone      chan struct{}
	firstErr  error // of the connection being made or in use
	lastErr   error // of any connection

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
	return newProducer(addr, config), nil
}

// newProducer is NewProducer for a config that is checked.
func newProducer(addr string, config *Config) *Producer {
	w := &Producer{
		id:              instanceCount.Add(1),
		addr:            addr,
		config:          *config,
		transactionChan: newTransactionQueue(),
		deliveries:      newDeliveries(),
		exitChan:        make(chan int),
	}
	w.loggers.setDefault()
	return w
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

// State returns StateInit, StateDisconnected or StateConnected.
func (w *Producer) State() int {
	return int(atomic.LoadInt32(&w.state))
}

// LastError returns why the last connection was lost or could not be made: what
// is behind ErrNotConnected. nil means that neither has happened.
func (w *Producer) LastError() error {
	w.guard.Lock()
	defer w.guard.Unlock()
	return w.lastErr
}

// ProducerStats are the counters of a Producer.
type ProducerStats struct {
	Published  uint64 // publishes that nsqd accepted, an MPUB being one
	Refused    uint64 // publishes that nsqd refused
	Lost       uint64 // publishes that were accepted here and failed with ErrNotConnected
	Waiting    int    // publishes that wait to be written
	Unanswered int    // publishes that are written and wait for nsqd's answer
}

// Stats returns the current counters. What fails before it is queued, or is not
// sent because nsqd would refuse it, is in none of them.
func (w *Producer) Stats() *ProducerStats {
	stats := w.transactionChan.stats()
	return &stats
}

// String returns the address of nsqd as given to NewProducer.
func (w *Producer) String() string {
	return w.addr
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
		w.noteError(err)
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
	t, more := w.transactionChan.pop(frameType != FrameTypeError)
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
	left := w.transactionChan.close(w.LastError())
	if len(left) > 0 {
		w.log(LogLevelWarning, "failing publishes that were not answered", slog.Int("publishes", len(left)))
	}
	for _, t := range left {
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
	w.noteError(fmt.Errorf("unexpected response of type %d", frameType))
	w.closeCurrent(c)
}

func (w *Producer) onConnIOError(c *Conn, err error) {
	w.noteError(err)
	w.closeCurrent(c)
}

// noteError notes why there is no connection. The first reason counts: it
// brings others with it.
func (w *Producer) noteError(err error) {
	w.guard.Lock()
	defer w.guard.Unlock()
	if w.firstErr == nil {
		w.firstErr = err
	}
	w.lastErr = w.firstErr
}

func (w *Producer) onConnClose(c *Conn) {
	w.guard.Lock()
	defer w.guard.Unlock()
	if c == nil || w.conn == producerConn(c) {
		close(w.closeChan)
	}
}
