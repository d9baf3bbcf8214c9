package nsq

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// defaultMaxRdy is nsqd's limit of RDY until IDENTIFY says otherwise.
const defaultMaxRdy = 2500

// defaultMsgTimeout is nsqd's message timeout until IDENTIFY says otherwise.
const defaultMsgTimeout = time.Minute

// answersQueued is how many answers to messages may wait for the write loop
// before Finish and Requeue block.
const answersQueued = 256

// Conn is a connection to an nsqd. Consumer and Producer make theirs; a Conn
// can be used alone with a ConnDelegate of one's own.
//
// Once connected it has two goroutines, the read loop and the write loop. The
// read loop never writes and never waits for a handler, so heartbeats and
// answers are read whatever else happens. The end is in conn_close.go.
type Conn struct {
	// Set once by NewConn.
	addr            string
	config          *Config
	delegate        ConnDelegate
	messageDelegate *connMessageDelegate
	cmdChan         chan *Command    // TOUCH
	msgResponseChan chan msgResponse // FIN, REQ
	noticeChan      chan struct{}    // capacity 1: a notice is set, see below
	exitChan        chan int         // closed when the connection is to end
	created         time.Time

	owner   []slog.Attr // whose connection it is, for log lines; set before Connect
	loggers levelLoggers

	// Set once by Connect before the loops start.
	in         *bufio.Reader
	msgTimeout time.Duration // negotiated

	loops sync.WaitGroup // read loop and write loop

	touches *touchList // nil without AutoTouch

	lifeMu     sync.Mutex         // guards the five below; held for no I/O but closing
	conn       *timedConn         // nil before the dial succeeded
	cancelDial context.CancelFunc // nil unless dialing
	running    bool               // the loops have started
	exiting    bool               // exitChan is closed
	abandon    *time.Timer        // gives up waiting for answers; nil unless draining

	writeMu sync.Mutex    // guards the three below; held for one write to the socket
	stream  stream        // what Connect negotiated
	out     *bufio.Writer // into stream
	rdySent int64         // the RDY value last written

	rdyMu           sync.Mutex // makes rdyCount and lastRdyTime change together
	rdyCount        atomic.Int64
	lastRdyTime     atomic.Int64 // nanoseconds since 1970
	maxRdyCount     atomic.Int64
	lastMessageTime atomic.Int64 // nanoseconds since 1970; 0 before the first
	lastTouchTime   atomic.Int64 // nanoseconds since 1970; 0 before the first
	inFlight        atomic.Int64 // messages received and not answered
	closing         atomic.Bool  // Close was called, or the connection failed
	leaving         atomic.Bool  // CLS is or will be sent, RDY no more; set under Consumer.rdyMtx
	idle            atomic.Bool  // no message for long; see Consumer.sharesLocked
	dead            atomic.Bool  // nothing can be sent or received any more
	reported        atomic.Bool  // OnIOError was called for a failed read or write

	// Notices of the read loop to the write loop, which clears them.
	heartbeat atomic.Bool // a heartbeat waits for its NOP
	tooSlow   atomic.Bool // nsqd has refused a FIN, which is a failure in backoff
}

// NewConn returns a connection to be made to addr with Connect. It keeps the
// pointer to config, without a copy, and has no logger. It panics for a Config
// that is not from NewConfig.
func NewConn(addr string, config *Config, delegate ConnDelegate) *Conn {
	if !config.initialized {
		panic("Config must be created with NewConfig()")
	}
	c := &Conn{
		addr:            addr,
		config:          config,
		delegate:        delegate,
		cmdChan:         make(chan *Command),
		msgResponseChan: make(chan msgResponse, answersQueued),
		noticeChan:      make(chan struct{}, 1),
		exitChan:        make(chan int),
		created:         time.Now(),
		owner:           []slog.Attr{addrAttr(addr)},
	}
	c.messageDelegate = &connMessageDelegate{c}
	if config.AutoTouch {
		c.touches = newTouchList()
	}
	c.maxRdyCount.Store(defaultMaxRdy)
	return c
}

// SetLogger sends the log lines of all levels from lvl up to l; nil silences
// them. format begins each line and has one %s, for the address; "" is "(%s)".
func (c *Conn) SetLogger(l logger, lvl LogLevel, format string) {
	c.loggers.setAll(l, lvl, format)
}

// SetLoggerForLevel is SetLogger for one level only. What is logged at all
// stays as set by SetLogger or SetLoggerLevel.
func (c *Conn) SetLoggerForLevel(l logger, lvl LogLevel, format string) {
	c.loggers.setOne(l, lvl, format)
}

// SetLoggerLevel makes lvl the least severe level to be logged.
func (c *Conn) SetLoggerLevel(lvl LogLevel) {
	c.loggers.setLevel(lvl)
}

// SetSlogger sends the log lines to l, as a message and attributes, addr among
// them; l decides what is logged at all. nil silences them.
func (c *Conn) SetSlogger(l *slog.Logger) {
	c.loggers.setStructured(l)
}

func (c *Conn) log(lvl LogLevel, msg string, facts ...slog.Attr) {
	c.loggers.emit(lvl, c.logHead, c.owner, msg, facts)
}

func (c *Conn) logHead(format string) string {
	if format == "" {
		format = "(%s)"
	}
	return fmt.Sprintf(format, c.addr)
}

// String returns the address exactly as given to NewConn.
func (c *Conn) String() string {
	return c.addr
}

// RemoteAddr returns the address of nsqd's side of the socket. It panics
// before Connect.
func (c *Conn) RemoteAddr() net.Addr {
	c.lifeMu.Lock()
	defer c.lifeMu.Unlock()
	return c.conn.RemoteAddr()
}

// RDY returns the RDY value last recorded with SetRDY.
func (c *Conn) RDY() int64 {
	return c.rdyCount.Load()
}

// LastRDY returns the same as RDY.
func (c *Conn) LastRDY() int64 {
	return c.rdyCount.Load()
}

// SetRDY records a RDY value and, unless it is 0, the time. It sends nothing.
func (c *Conn) SetRDY(rdy int64) {
	c.rdyMu.Lock()
	defer c.rdyMu.Unlock()
	c.rdyCount.Store(rdy)
	if rdy > 0 {
		c.lastRdyTime.Store(time.Now().UnixNano())
	}
}

// MaxRDY returns the largest RDY value nsqd accepts: 2500 until IDENTIFY says
// otherwise.
func (c *Conn) MaxRDY() int64 {
	return c.maxRdyCount.Load()
}

// LastRdyTime returns when a RDY other than 0 was last recorded: the Unix
// epoch before the first.
func (c *Conn) LastRdyTime() time.Time {
	return time.Unix(0, c.lastRdyTime.Load())
}

// LastMessageTime returns when the last message arrived, or when the Conn was
// made if none has.
func (c *Conn) LastMessageTime() time.Time {
	if nanos := c.lastMessageTime.Load(); nanos != 0 {
		return time.Unix(0, nanos)
	}
	return c.created
}

// IsClosing says whether Close was called or the connection has failed.
func (c *Conn) IsClosing() bool {
	return c.closing.Load()
}

// takesNoRDY says whether the connection gets no messages any more: it is
// closing, or nsqd is being asked to send no more.
func (c *Conn) takesNoRDY() bool {
	return c.closing.Load() || c.leaving.Load()
}

// Read reads into p, at most once from the socket, within ReadTimeout. Beside a
// running read loop it steals its bytes.
func (c *Conn) Read(p []byte) (int, error) {
	if c.in != nil {
		return c.in.Read(p)
	}
	c.writeMu.Lock()
	r := c.stream.Reader
	c.writeMu.Unlock()
	if r == nil {
		return 0, ErrNotConnected
	}
	return r.Read(p)
}

// Write adds p to what Flush sends, or sends it if the buffer is full, within
// WriteTimeout.
func (c *Conn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.out == nil {
		return 0, ErrNotConnected
	}
	return c.out.Write(p)
}

// Flush sends what was written.
func (c *Conn) Flush() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.flushLocked()
}

// WriteCommand writes cmd and flushes. Calls may overlap. An error ends the
// connection.
func (c *Conn) WriteCommand(cmd *Command) error {
	return c.write(func(out *bufio.Writer) error {
		_, err := cmd.WriteTo(out)
		return err
	}, true)
}

// WriteCommandWithContext is WriteCommand unless ctx has ended. A command that
// is being written is limited by WriteTimeout alone: half of one would spoil the
// connection.
func (c *Conn) WriteCommandWithContext(ctx context.Context, cmd *Command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.WriteCommand(cmd)
}

// writeCommands writes a batch of commands in order without flushing.
func (c *Conn) writeCommands(cmds []*Command) error {
	return c.write(func(out *bufio.Writer) error {
		for _, cmd := range cmds {
			if _, err := cmd.WriteTo(out); err != nil {
				return err
			}
		}
		return nil
	}, false)
}

// flush is Flush for the running connection: an error ends it.
func (c *Conn) flush() error {
	return c.write(func(*bufio.Writer) error { return nil }, true)
}

// write lets f write under the write lock and ends the connection on an error.
func (c *Conn) write(f func(*bufio.Writer) error, flush bool) error {
	c.writeMu.Lock()
	err := c.writeLocked(f, flush)
	c.writeMu.Unlock()
	if err != nil {
		c.fail(err)
	}
	return err
}

func (c *Conn) writeLocked(f func(*bufio.Writer) error, flush bool) error {
	if c.out == nil {
		return ErrNotConnected
	}
	if err := f(c.out); err != nil || !flush {
		return err
	}
	return c.flushLocked()
}

func (c *Conn) flushLocked() error {
	if c.out == nil {
		return ErrNotConnected
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	return c.stream.Flush()
}

// toldRDY returns the RDY value that nsqd knows.
func (c *Conn) toldRDY() int64 {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.rdySent
}

// writeRDY tells nsqd the RDY value last recorded unless it knows it. Whoever
// comes last writes the newest value, so updates that overlap need no order.
func (c *Conn) writeRDY() error {
	return c.write(func(out *bufio.Writer) error {
		rdy := c.rdyCount.Load()
		if rdy == c.rdySent || c.leaving.Load() {
			return nil
		}
		c.rdySent = rdy
		c.log(LogLevelDebug, "sending RDY", slog.Int64("rdy", rdy))
		_, err := Ready(int(rdy)).WriteTo(out)
		return err
	}, true)
}
