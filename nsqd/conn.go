package nsqd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
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

	// topic returns the topic of that name, which it creates if need be.
	topic func(name string) (*Topic, error)

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
	wake    chan struct{} // one token: the messagePump is to look again
	done    chan struct{} // closed when the IOLoop has ended

	state      atomic.Int32
	settings   atomic.Pointer[settings]
	consumer   atomic.Pointer[consumer] // set by SUB
	messages   atomic.Uint64            // delivered
	finished   atomic.Uint64
	requeued   atomic.Uint64
	identified atomic.Bool
	grant      atomic.Pointer[auth.Grant] // nil before AUTH

	mu        sync.Mutex
	pubCounts map[string]uint64 // messages published, by topic

	// Used only by the IOLoop.
	in           *input
	params       [][]byte
	run          publishRun
	fins         []MessageID // a run of FINs, executed together
	missing      []MessageID
	batch        batchParser
	entries      []entry // scratch
	readDeadline time.Time
	authority    authority
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
	host, _, err := net.SplitHostPort(remoteAddr(c))
	if err != nil {
		host = "" // a Unix socket
	}
	nc := &conn{
		Conn:    c,
		svc:     svc,
		log:     svc.log,
		addr:    remoteAddr(c),
		started: time.Now(),
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	s := &settings{
		clientID:            host,
		hostname:            host,
		heartbeat:           opts.ClientTimeout / 2,
		outputBufferSize:    defaultOutputBufferSize,
		outputBufferTimeout: opts.OutputBufferTimeout,
		msgTimeout:          opts.MsgTimeout,
	}
	nc.settings.Store(s)
	nc.out = newOutput(c, s.heartbeat)
	nc.in = newInput(c, nc.beforeRead)
	return nc
}

func remoteAddr(c net.Conn) string { return c.RemoteAddr().String() }

// serve runs the client until its connection ends.
func (c *conn) serve() {
	var pump sync.WaitGroup
	pump.Go(c.messagePump)
	err := c.IOLoop()
	close(c.done)
	if err != nil {
		c.log.Error(fmt.Sprintf("client(%s) - %s", c.addr, err))
	}
	c.hangUp(err != nil)
	pump.Wait()
	c.leave()
	c.in.release()
	c.log.Info(fmt.Sprintf("PROTOCOL(V2): [%s] exiting ioloop", c.addr))
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

// wakePump lets the messagePump look again at what it may do.
func (c *conn) wakePump() {
	select {
	case c.wake <- struct{}{}:
	default:
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

// lingerTime and lingerBytes bound how long and how much is read from a client
// that is being disconnected.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// hangUp closes the connection. After an error frame the client may still be
// sending; closing at once would make the kernel drop the frame with the
// connection. So the client is told that nothing more will come, and what it
// sends is read and thrown away for a moment.
func (c *conn) hangUp(afterError bool) {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok && afterError {
		if tcp.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
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

// gainedRoom wakes the messagePump if it waits for room.
func (c *consumer) gainedRoom() {
	if c.starved.Load() {
		c.wakePump()
	}
}

// disconnect ends the client's connection from our side.
func (c *consumer) disconnect() {
	// Closing wakes the IOLoop, which cleans up; there is nothing else to do with an error.
	_ = c.Close()
}

func fatalError(code, desc string, cause error) *protocol.Error {
	return &protocol.Error{Code: code, Desc: desc, Fatal: true, Err: cause}
}
