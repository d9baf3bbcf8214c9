package nsqd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

const (
	lookupTimeout  = time.Second      // to connect, to write, and for each reply
	lookupPing     = 15 * time.Second // between two PINGs
	lookupMinDelay = 100 * time.Millisecond
	lookupMaxDelay = 10 * time.Second // nsqlookupd hides us after minutes; shorter than a PING
	lookupBatch    = 64               // commands that are written before their replies are read
)

// A lookupPeer announces to one nsqlookupd: it connects, says who we are,
// registers everything, and then passes on what changes. When the connection
// breaks, it begins again at once; if that does not last either, after growing
// delays.
type lookupPeer struct {
	addr   string
	config *lookupConfig

	stop    context.CancelCauseFunc // guarded by lookupLoop.mu; nil before the start
	pending lookupPending
	info    atomic.Pointer[lookupPeerInfo] // nil before the first IDENTIFY; stays when the connection breaks

	connected atomic.Bool // IDENTIFY was answered on the present connection
}

// lookupPeerInfo is the reply to IDENTIFY.
type lookupPeerInfo struct {
	TCPPort          int    `json:"tcp_port"`
	HTTPPort         int    `json:"http_port"`
	HTTPSPort        int    `json:"https_port"` // 0 for none
	Version          string `json:"version"`
	BroadcastAddress string `json:"broadcast_address"`
}

// httpAddress is where the nsqlookupd is asked: host:port, or a URL for one that
// serves HTTPS only.
func (i *lookupPeerInfo) httpAddress() string {
	if i.HTTPPort == 0 && i.HTTPSPort != 0 {
		return "https://" + net.JoinHostPort(i.BroadcastAddress, strconv.Itoa(i.HTTPSPort))
	}
	return net.JoinHostPort(i.BroadcastAddress, strconv.Itoa(i.HTTPPort))
}

func newLookupPeer(addr string, config *lookupConfig) *lookupPeer {
	return &lookupPeer{addr: addr, config: config, pending: lookupPending{ready: make(chan struct{}, 1)}}
}

// errLookupRemoved is why a peer ends that is no longer configured.
var errLookupRemoved = errors.New("removed from the nsqlookupds")

// run keeps a session going until ctx ends.
func (p *lookupPeer) run(ctx context.Context) {
	p.config.log.Info(fmt.Sprintf("LOOKUP(%s): adding peer", p.addr))
	defer func() {
		if context.Cause(ctx) == errLookupRemoved {
			p.config.log.Info(fmt.Sprintf("LOOKUP(%s): removing peer", p.addr))
		}
	}()
	delay := time.Duration(0)
	for {
		began := time.Now()
		err := p.session(ctx)
		p.connected.Store(false)
		p.pending.disable() // the next session registers everything anyway
		if ctx.Err() != nil {
			return
		}
		p.config.log.Error(fmt.Sprintf("LOOKUPD(%s): %s", p.addr, err))
		if time.Since(began) >= lookupPing {
			delay = 0 // it was a working connection
		}
		// Jitter: all nsqds lose an nsqlookupd at the same moment.
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay/2 + rand.N(delay/2+1)):
		}
		delay = min(max(2*delay, lookupMinDelay), lookupMaxDelay)
	}
}

// session is one connection from dial to its end. It returns why it ended.
func (p *lookupPeer) session(ctx context.Context) error {
	p.config.log.Info("LOOKUP connecting to " + p.addr)
	dialCtx, cancel := context.WithTimeout(ctx, lookupTimeout)
	conn, err := p.config.dial(dialCtx, p.addr)
	cancel()
	if err != nil {
		return err
	}
	s := &lookupSession{peer: p, conn: conn, replies: make(chan lookupReply, lookupBatch), done: make(chan struct{})}
	stopClosing := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var reading sync.WaitGroup
	reading.Go(s.read)
	err = s.run(ctx)
	stopClosing()
	close(s.done)
	// An error of Close cannot matter any more; it ends s.read.
	_ = conn.Close()
	reading.Wait()
	return err
}

// A lookupSession is one connection to an nsqlookupd.
type lookupSession struct {
	peer    *lookupPeer
	conn    net.Conn
	replies chan lookupReply // from read; holds those of a batch, so that writing it is not held up
	done    chan struct{}    // closed when run has returned
}

type lookupReply struct {
	data []byte
	err  error
}

// read passes on replies until the connection ends. It reads also while no
// reply is due: so the end of the connection is noticed at once and not at the
// next PING.
func (s *lookupSession) read() {
	for {
		data, err := protocol.ReadSized(s.conn, int32(s.peer.config.maxReplySize))
		select {
		case s.replies <- lookupReply{data, err}:
		case <-s.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *lookupSession) run(ctx context.Context) error {
	if err := s.identify(); err != nil {
		return err
	}
	if err := s.registerAll(); err != nil {
		return fmt.Errorf("REGISTER - %w", err)
	}
	ping := time.NewTicker(lookupPing)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ping.C:
			if err := s.exchange([][]byte{[]byte("PING\n")}); err != nil {
				return fmt.Errorf("PING - %w", err)
			}
		case <-s.peer.pending.ready:
			if err := s.announceChanges(); err != nil {
				return fmt.Errorf("REGISTER - %w", err)
			}
		case reply := <-s.replies:
			if reply.err == nil {
				return fmt.Errorf("got a reply that nothing asked for: %q", clip(reply.data))
			}
			return fmt.Errorf("connection lost - %w", reply.err)
		}
	}
}

// identify sends magic and IDENTIFY and keeps what the peer says of itself.
func (s *lookupSession) identify() error {
	who := s.peer.config.identity()
	var err error
	if who.Secret, err = s.peer.config.transport.secret(); err != nil {
		return err
	}
	body, err := json.Marshal(who)
	if err != nil {
		return fmt.Errorf("encode IDENTIFY: %w", err)
	}
	if err := s.write(protocol.AppendSized([]byte(protocol.MagicV1+"IDENTIFY\n"), body)); err != nil {
		return fmt.Errorf("IDENTIFY - %w", err)
	}
	reply, err := s.reply()
	if err != nil {
		return fmt.Errorf("IDENTIFY - %w", err)
	}
	info := new(lookupPeerInfo)
	// An error text ends here too.
	if err := json.Unmarshal(reply, info); err != nil || !bytes.HasPrefix(bytes.TrimSpace(reply), []byte("{")) {
		return fmt.Errorf("parsing response - %s", clip(reply))
	}
	log := s.peer.config.log
	log.Info(fmt.Sprintf("LOOKUPD(%s): peer info {TCPPort:%d HTTPPort:%d Version:%s BroadcastAddress:%s}",
		s.peer.addr, info.TCPPort, info.HTTPPort, info.Version, info.BroadcastAddress))
	if info.BroadcastAddress == "" {
		log.Error(fmt.Sprintf("LOOKUPD(%s): no broadcast address", s.peer.addr))
	}
	s.peer.info.Store(info)
	s.peer.connected.Store(true)
	return nil
}

// registerAll announces what there is. A topic with channels needs no line of
// its own.
func (s *lookupSession) registerAll() error {
	// In this order: a change is in the list, or pending, or both.
	s.peer.pending.enable()
	all := s.peer.config.registrations()
	withChannels := map[string]bool{}
	for _, r := range all {
		if r.channel != "" {
			withChannels[r.topic] = true
		}
	}
	changes := make([]lookupChange, 0, len(all))
	for _, r := range all {
		if r.channel != "" || !withChannels[r.topic] {
			changes = append(changes, lookupChange{r, true})
		}
	}
	return s.announce(changes, func(c lookupChange) string { return "" })
}

func (s *lookupSession) announceChanges() error {
	return s.announce(s.peer.pending.take(), func(c lookupChange) string {
		if c.channel == "" {
			return "topic "
		}
		return "channel "
	})
}

// announce sends a command for each change; what says what is changed, for the
// log.
func (s *lookupSession) announce(changes []lookupChange, what func(lookupChange) string) error {
	for batch := range slices.Chunk(changes, lookupBatch) {
		commands := make([][]byte, len(batch))
		for i, c := range batch {
			commands[i] = c.command()
			s.peer.config.log.Info(fmt.Sprintf("LOOKUPD(%s): %s%s", s.peer.addr, what(c), bytes.TrimSpace(commands[i])))
		}
		if err := s.exchange(commands); err != nil {
			return err
		}
	}
	return nil
}

// exchange writes the commands at once and reads as many replies. What they say
// does not matter: if a command was refused, the connection ends as well.
func (s *lookupSession) exchange(commands [][]byte) error {
	if err := s.write(bytes.Join(commands, nil)); err != nil {
		return err
	}
	for range commands {
		if _, err := s.reply(); err != nil {
			return err
		}
	}
	return nil
}

func (s *lookupSession) write(b []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(lookupTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

var errNoReply = errors.New("no reply in time") // returned by reply

// reply waits for the next reply.
func (s *lookupSession) reply() ([]byte, error) {
	timeout := time.NewTimer(lookupTimeout)
	defer timeout.Stop()
	select {
	case reply := <-s.replies:
		if reply.err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		}
		return reply.data, reply.err
	case <-timeout.C:
		return nil, errNoReply
	}
}

// clip shortens what a peer sent for the log.
func clip(b []byte) []byte { return b[:min(len(b), 256)] }

// A lookupChange is one command to send.
type lookupChange struct {
	registration
	exists bool
}

func (c lookupChange) command() []byte {
	name := "UNREGISTER"
	if c.exists {
		name = "REGISTER"
	}
	if c.channel == "" {
		return protocol.AppendCommand(nil, name, c.topic)
	}
	return protocol.AppendCommand(nil, name, c.topic, c.channel)
}

// lookupPending holds the changes that a peer has not been told yet, in their
// order. Of several changes to one name only the last stays, at the place of
// the last; so the length is bounded by the number of names, and the peer ends
// up with the truth. The exception: UNREGISTER of a topic stays before a later
// REGISTER of it, because for nsqlookupd it also ends what the topic had before,
// channels and tombstone.
type lookupPending struct {
	ready chan struct{} // holds a token while there may be something to take

	mu      sync.Mutex
	enabled bool // there is a session
	changes []lookupChange
}

// enable makes add keep changes.
func (q *lookupPending) enable() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enabled = true
}

// disable drops all changes, and those to come.
func (q *lookupPending) disable() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enabled = false
	q.changes = nil
}

// add appends a change and drops those that it makes pointless.
func (q *lookupPending) add(r registration, exists bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.enabled {
		return
	}
	endOfTopic := r.channel == "" && !exists
	q.changes = slices.DeleteFunc(q.changes, func(c lookupChange) bool {
		if endOfTopic {
			return c.topic == r.topic
		}
		return c.registration == r && (c.exists || c.channel != "")
	})
	q.changes = append(q.changes, lookupChange{r, exists})
	select {
	case q.ready <- struct{}{}:
	default: // it is there already
	}
}

// take returns the changes and leaves none.
func (q *lookupPending) take() []lookupChange {
	q.mu.Lock()
	defer q.mu.Unlock()
	changes := q.changes
	q.changes = nil
	return changes
}
