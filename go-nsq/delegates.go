package nsq

import (
	"log"
	"os"
	"sync"
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
	r *Consumer
}

func (d *consumerConnDelegate) OnResponse(c *Conn, data []byte) { d.r.onConnResponse(c, data) }
func (d *consumerConnDelegate) OnError(c *Conn, data []byte)    {}
func (d *consumerConnDelegate) OnMessage(c *Conn, m *Message)   { d.r.onConnMessage(c, m) }
func (d *consumerConnDelegate) OnMessageFinished(c *Conn, m *Message) {
	d.r.onConnMessageFinished(c, m)
}
func (d *consumerConnDelegate) OnMessageRequeued(c *Conn, m *Message) {
	d.r.onConnMessageRequeued(c, m)
}
func (d *consumerConnDelegate) OnBackoff(c *Conn)            { d.r.onConnBackoff(c) }
func (d *consumerConnDelegate) OnContinue(c *Conn)           { d.r.onConnContinue(c) }
func (d *consumerConnDelegate) OnResume(c *Conn)             { d.r.onConnResume(c) }
func (d *consumerConnDelegate) OnIOError(c *Conn, err error) { d.r.onConnIOError(c, err) }
func (d *consumerConnDelegate) OnHeartbeat(c *Conn)          {}
func (d *consumerConnDelegate) OnClose(c *Conn)              { d.r.onConnClose(c) }

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

// logger takes finished log lines; *log.Logger is one.
type logger interface {
	Output(calldepth int, s string) error
}

// LogLevel is the severity of a log line.
type LogLevel int

// Log levels, least severe first. A line is logged when its level is at least
// the level set with SetLogger or SetLoggerLevel.
const (
	LogLevelDebug LogLevel = iota
	LogLevelInfo
	LogLevelWarning
	LogLevelError
	LogLevelMax = iota - 1 // the most severe level
)

// String returns the three letters that head a log line of this level: INF,
// WRN or ERR, and DBG for everything else.
func (lvl LogLevel) String() string {
	switch lvl {
	case LogLevelInfo:
		return "INF"
	case LogLevelWarning:
		return "WRN"
	case LogLevelError:
		return "ERR"
	}
	return "DBG"
}

// levelLoggers holds one logger per level and the threshold. A nil logger
// silences its level. The zero value logs nothing. Calls may overlap.
type levelLoggers struct {
	level atomic.Int64 // a LogLevel

	mu      sync.RWMutex // guards all below
	loggers [LogLevelMax + 1]logger
	formats [LogLevelMax + 1]string // of connections; see Conn.SetLogger
}

// setDefault logs everything from INFO up to standard error.
func (l *levelLoggers) setDefault() {
	l.setAll(log.New(os.Stderr, "", log.Flags()), LogLevelInfo, "")
}

func (l *levelLoggers) setAll(to logger, level LogLevel, format string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.loggers {
		l.loggers[i], l.formats[i] = to, format
	}
	l.level.Store(int64(level))
}

// setOne sets the logger of one level; levels that do not exist are ignored.
func (l *levelLoggers) setOne(to logger, level LogLevel, format string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if level >= 0 && level <= LogLevelMax {
		l.loggers[level], l.formats[level] = to, format
	}
}

func (l *levelLoggers) setLevel(level LogLevel) {
	l.level.Store(int64(level))
}

// enabled says whether lines of the given level may be wanted. It is cheap.
func (l *levelLoggers) enabled(level LogLevel) bool {
	return level >= LogLevel(l.level.Load())
}

// get returns the logger for a line of the given level and its format, or nil
// when the line is not wanted.
func (l *levelLoggers) get(level LogLevel) (logger, string) {
	if !l.enabled(level) {
		return nil, ""
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.loggers[level], l.formats[level]
}

// copyTo gives a connection these loggers with a format for its lines.
func (l *levelLoggers) copyTo(c producerConn, format string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for level, to := range l.loggers {
		c.SetLoggerForLevel(to, LogLevel(level), format)
	}
	c.SetLoggerLevel(LogLevel(l.level.Load()))
}
