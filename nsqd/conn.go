package nsqd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/auth"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// service is what the daemon offers to its connections.
type service struct {
	opts   func() *Options
	log    *slog.Logger
	ids    *idSource
	keeper *timekeeper
	crew   crew
	credit credit      // for bodies that arrive
	tls    *tls.Config // nil: TLS is not offered

	// topic returns the topic of that name, which it creates if need be.
	topic func(name string) (*Topic, error)

	// refusing is whether publishes are refused, since the daemon drains.
	refusing *atomic.Bool

	auth *auth.Client    // nil where no client needs AUTH
	life context.Context // of the daemon: with it end questions that a client waits for
}

// The states of a client, numbered as in /stats. Source: TCP protocol spec,
// "Client states".
const (
	stateInit       int32 = 0
	stateSubscribed int32 = 3
	stateClosing    int32 = 4
)

// A conn is one client: a socket, what was agreed on in IDENTIFY, and counters.
// Its IOLoop reads and executes commands; its messagePump sends heartbeats and,
// after SUB, messages.
type conn struct {
	net.Conn
	svc     *service
	log     *slog.Logger
	out     *output
	addr    string
	started time.Time
	pump    pump

	state      atomic.Int32
	settings   atomic.Pointer[settings]
	layers     atomic.Pointer[layers]
	consumer   atomic.Pointer[consumer] // set by SUB
	messages   atomic.Uint64            // delivered
	finished   atomic.Uint64
	requeued   atomic.Uint64
	identified atomic.Bool
	grant      atomic.Pointer[auth.Grant] // nil before AUTH
	stopping   atomic.Bool                // set by stop

	mu        sync.Mutex
	pubCounts map[string]uint64 // messages published, by topic

	// Used only by the IOLoop.
	in           *input
	wire         *wire        // below the layers, nil without any
	decompressor decompressor // nil for none
	mustTLS      bool         // every command but IDENTIFY is refused
	calm         int          // so many reads more the client is calm
	readDeadline time.Time
	authority    authority
	*ioScratch   // nil while a calm client is waited for
}

// An ioScratch is what an IOLoop needs for commands only.
type ioScratch struct {
	params       [][]byte
	run          publishRun
	fins         []MessageID // a run of FINs, executed together
	missing      []MessageID
	answered     tickets
	publishTimes []int64      // of the messages of such a run, for their latencies
	batch        *batchParser // nil before the first MPUB
	entries      []entry
}

var ioScratches = sync.Pool{New: func() any { return new(ioScratch) }}

// reset makes s ready for another client. No run is under way.
func (s *ioScratch) reset() {
	clear(s.params[:cap(s.params)])
	s.run = publishRun{bodies: s.run.bodies}
}

// settings are what a client and the daemon agreed on in IDENTIFY; a new one
// replaces the old one whole.
type settings struct {
	clientID, hostname, userAgent string

	heartbeat           time.Duration // 0 for none
	outputBufferSize    int           // bytes; 1 for no buffering
	outputBufferTimeout time.Duration // 0: messages do not wait for a timer
	batching            bool          // the client chose outputBufferTimeout: messages do wait for it
	sampleRate          int32         // percent; 0 for all
	msgTimeout          time.Duration

	topologyRegion, topologyZone string
}

func newConn(svc *service, c net.Conn) *conn {
	opts := svc.opts()
	nc := &conn{
		Conn:    c,
		svc:     svc,
		log:     svc.log,
		addr:    remoteAddr(c),
		started: time.Now(),
		mustTLS: opts.TLSRequired != TLSOptional,
		calm:    calmReads,
	}
	host := nc.remoteIP()
	s := &settings{
		clientID:            host,
		hostname:            host,
		heartbeat:           opts.ClientTimeout / 2,
		outputBufferSize:    defaultOutputBufferSize,
		outputBufferTimeout: opts.OutputBufferTimeout,
		msgTimeout:          opts.MsgTimeout,
	}
	nc.pump.init(nc)
	nc.settings.Store(s)
	nc.layers.Store(new(layers))
	nc.out = newOutput(c, s.heartbeat)
	nc.in = newInput(c, nc.beforeRead)
	return nc
}

// remoteAddr is where a client is: ip:port, or "@" for one on a Unix socket, which
// has no name as a rule.
func remoteAddr(c net.Conn) string {
	if addr := c.RemoteAddr(); addr != nil && addr.String() != "" {
		return addr.String()
	}
	return "@"
}

// remoteIP is the client's address without port, "" on a Unix socket, whose name
// may look like host:port.
func (c *conn) remoteIP() string {
	host, _, err := net.SplitHostPort(c.addr)
	if err != nil {
		return ""
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return ""
	}
	return host
}

// serve runs the client until its connection ends.
func (c *conn) serve() {
	c.pump.call()
	c.end(c.IOLoop())
}

// end cleans up after the IOLoop, which has returned err.
func (c *conn) end(err error) {
	if err != nil {
		c.log.Log(context.Background(), refusalLevel(err), fmt.Sprintf("client(%s) - %s", c.addr, err))
	}
	if c.stopping.Load() {
		// What the messagePump has taken is on its way: it goes out too.
		c.pump.end()
		_ = c.out.flush() // there is nothing else to do with an error
	}
	c.hangUp(c.lingering(err))
	c.pump.end()
	c.log.Info("PROTOCOL(V2): [" + c.addr + "] exiting messagePump")
	c.leave()
	c.in.release()
	c.out.release()
	if c.decompressor != nil {
		c.decompressor.release()
	}
	c.log.Info("PROTOCOL(V2): [" + c.addr + "] exiting ioloop")
}

// refusalLevel is how the end of a command or a connection is logged: a drain
// refuses many, and nothing is wrong.
func refusalLevel(err error) slog.Level {
	if errors.Is(err, errDraining) {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// leave takes the client off its channel.
func (c *conn) leave() {
	con := c.consumer.Load()
	if con == nil || !con.channel.leave(con) {
		return
	}
	if err := con.topic.deleteChannel(con.channel); err != nil {
		c.log.Error("delete ephemeral channel", "topic", con.topic.name, "channel", con.channel.name, "err", err)
	}
}

// published counts n messages of this client to a topic.
func (c *conn) published(topic string, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pubCounts == nil {
		c.pubCounts = make(map[string]uint64)
	}
	c.pubCounts[topic] += uint64(n)
}

// hasPublished reports whether this client is a producer.
func (c *conn) hasPublished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pubCounts) > 0
}

// pubCountsCopy returns how many messages this client has published, by topic.
func (c *conn) pubCountsCopy() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.pubCounts)
}

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// stop ends the connection from our side and does not wait for it: commands that
// have been read are executed, what waits to be sent is sent, then the IOLoop hangs
// up. All of it is over within a moment, also with a client that takes nothing.
func (c *conn) stop() {
	c.stopping.Store(true)
	c.out.end()
	_ = c.SetReadDeadline(past) // it fails for a closed socket only, on which no read waits
}

// setReadDeadline sets when a read fails, the zero time for never; stop says
// better.
func (c *conn) setReadDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	if c.stopping.Load() {
		return c.SetReadDeadline(past)
	}
	return nil
}

// How long a client that is being disconnected is listened to, and lingerBytes at
// most: after an error, and after stop, when only what is on its way matters.
const (
	lingerError = time.Second
	lingerStop  = 10 * time.Millisecond
	lingerBytes = 1 << 20
)

// lingering is how long to linger after the IOLoop has ended with err.
func (c *conn) lingering(err error) time.Duration {
	switch {
	case c.stopping.Load():
		return lingerStop
	case err != nil:
		return lingerError
	}
	return 0 // the client has left
}

// hangUp closes the connection. The client may still be sending; closing at once
// would make the kernel drop what we have sent last with the connection. So the
// client is told that nothing more will come, and what it sends is read and thrown
// away for as long as linger says.
func (c *conn) hangUp(linger time.Duration) {
	if layer := c.layers.Load().tls; layer != nil {
		c.out.closeNotify(layer.conn)
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && linger > 0 {
		if half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(linger)) == nil {
			buf := make([]byte, 4096)
			for read := 0; read < lingerBytes; {
				n, err := c.Conn.Read(buf)
				if err != nil {
					break
				}
				read += n
			}
		}
	}
	// The socket is of no use any more; whether closing it worked changes nothing.
	_ = c.Close()
}

// A consumer is a client that has subscribed to a channel.
type consumer struct {
	*conn
	topic    *Topic
	channel  *Channel
	inFlight *inFlight

	rdy     atomic.Int64 // most messages that may be in flight
	starved atomic.Bool  // the messagePump sleeps until there is room

	place      place
	rank       int           // among the channel's consumers; see preference
	fromMemory atomic.Uint64 // messages taken from memory for it

	// The write under way when that was last looked at, and since when it has been
	// seen. Guarded by the lock of the channel's preference.
	write     uint64
	writeSeen int64
}

// room is how many more messages may be sent; it may be negative.
func (c *consumer) room() int64 { return c.rdy.Load() - c.inFlight.Len() }

// least is how many messages the consumer takes at least at a time, if there are as
// many, however many others wait: one, or a small part of what it has room for. Who
// has asked for thousands gets some with each write, instead of one: with 64 consumers
// that share a few hundred messages, a message costs half as much.
func (c *consumer) least() int { return int(max(c.room()/leastOfRoom, 1)) }

// leastOfRoom is so small a part that consumers still share evenly.
const leastOfRoom = 256

// gainedRoom wakes the messagePump if it waits for room.
func (c *consumer) gainedRoom() {
	if c.starved.Load() {
		c.pump.call()
	}
}

func fatalError(code, desc string, cause error) *protocol.Error {
	return &protocol.Error{Code: code, Desc: desc, Fatal: true, Err: cause}
}
