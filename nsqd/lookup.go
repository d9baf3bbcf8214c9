package nsqd

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/internal/lookup"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// A lookupLoop announces topics and channels to nsqlookupds. Each configured
// address has a lookupPeer with a goroutine of its own, so an nsqlookupd that
// hangs delays nobody but itself. Methods may overlap.
type lookupLoop struct {
	config lookupConfig
	http   *lookup.Client

	// mu guards the peers. It may be taken while any other lock of nsqd is
	// held: under it nothing is taken but the locks of lookupPending, and nothing
	// is logged, called or waited for.
	mu    sync.Mutex
	peers []*lookupPeer   // in the order of the addresses
	ctx   context.Context // of run; nil before it and after its end

	running sync.WaitGroup // the goroutines of the peers
}

// A lookupConfig is what announcing takes from the rest of nsqd.
type lookupConfig struct {
	// addresses are the TCP addresses to start with.
	addresses []string

	// identity is asked at each connect.
	identity func() lookupIdentity

	// registrations returns all topics, each with channel "", and all their
	// channels. It is asked at each connect, with no lock held. What comes or
	// goes must be visible here before notify is called for it.
	registrations func() []registration

	// maxReplySize bounds what an nsqlookupd may answer, in bytes.
	maxReplySize int64

	// Limits of HTTP questions, see lookup.NewClient.
	httpConnectTimeout, httpRequestTimeout time.Duration

	log *slog.Logger

	transport lookupTransport

	// dial connects to an address; nil for the transport's.
	dial func(ctx context.Context, addr string) (net.Conn, error)
}

// A lookupIdentity is the body of IDENTIFY. Keys in alphabetical order.
type lookupIdentity struct {
	BroadcastAddress string `json:"broadcast_address"`
	Hostname         string `json:"hostname"`
	HTTPPort         int    `json:"http_port"`
	Secret           string `json:"secret,omitempty"` // set by lookupSession
	TCPPort          int    `json:"tcp_port"`
	TopologyRegion   string `json:"topology_region"`
	TopologyZone     string `json:"topology_zone"`
	Version          string `json:"version"`
}

// A registration is what is announced: a topic, or with a channel that channel
// of it.
type registration struct {
	topic, channel string
}

// newLookup returns a loop that does nothing before run.
func newLookup(config lookupConfig) *lookupLoop {
	if config.dial == nil {
		config.dial = config.transport.dial
	}
	// A reply has a 32-bit length.
	if config.maxReplySize <= 0 || config.maxReplySize > math.MaxInt32 {
		config.maxReplySize = math.MaxInt32
	}
	l := &lookupLoop{
		config: config,
		http:   lookup.NewClient(config.httpConnectTimeout, config.httpRequestTimeout, config.transport.tlsOfHTTP(), config.log),
	}
	l.setAddresses(config.addresses)
	return l
}

// run announces until ctx ends, and waits for the end of the connections. They
// are just closed: nsqlookupd forgets a connection with all it announced.
func (l *lookupLoop) run(ctx context.Context) error {
	l.mu.Lock()
	l.ctx = ctx
	for _, p := range l.peers {
		l.startLocked(p)
	}
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	l.ctx = nil
	l.mu.Unlock()
	l.config.log.Info("LOOKUP: closing")
	l.running.Wait()
	l.http.Close()
	return nil
}

func (l *lookupLoop) startLocked(p *lookupPeer) {
	ctx, cancel := context.WithCancelCause(l.ctx)
	p.stop = cancel
	l.running.Go(func() { p.run(ctx) })
}

// notify says that a topic (channel "") or a channel has come or gone. It
// returns at once; locks of nsqd may be held. Calls for one topic and its
// channels must come in the order of the changes: the last one is what all
// nsqlookupds are told in the end.
func (l *lookupLoop) notify(r registration, exists bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		p.pending.add(r, exists)
	}
}

// setAddresses replaces the nsqlookupds. Those that stay keep their connection,
// others are disconnected or connected at once.
func (l *lookupLoop) setAddresses(addresses []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var peers []*lookupPeer
	for _, addr := range addresses {
		isAddr := func(p *lookupPeer) bool { return p.addr == addr }
		if slices.ContainsFunc(peers, isAddr) {
			continue // given twice
		}
		if i := slices.IndexFunc(l.peers, isAddr); i >= 0 {
			peers = append(peers, l.peers[i])
			continue
		}
		p := newLookupPeer(addr, &l.config)
		peers = append(peers, p)
		if l.ctx != nil {
			l.startLocked(p)
		}
	}
	for _, p := range l.peers {
		if !slices.Contains(peers, p) && p.stop != nil {
			p.stop(errLookupRemoved)
		}
	}
	l.peers = peers
}

// peerList returns the peers in the order of their addresses.
func (l *lookupLoop) peerList() []*lookupPeer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers // replaced whole, never changed
}

// channels asks all nsqlookupds which channels the topic has elsewhere, so that
// a new topic begins with the same ones. It returns what is known of them
// within the HTTP timeouts, without ephemeral channels, sorted; failures are
// logged. An nsqlookupd can be asked once it has told its HTTP address, also
// while its connection is down.
func (l *lookupLoop) channels(ctx context.Context, topic string) []string {
	l.mu.Lock()
	configured := len(l.peers)
	var addresses []string
	for _, p := range l.peers {
		if info := p.info.Load(); info != nil && info.BroadcastAddress != "" {
			addresses = append(addresses, info.httpAddress())
		}
	}
	l.mu.Unlock()
	if configured == 0 {
		return nil
	}
	if len(addresses) == 0 {
		l.config.log.Error("no available nsqlookupd to query for channels to pre-create for topic " + topic)
		return nil
	}
	names, err := l.http.Channels(ctx, addresses, topic)
	if err != nil {
		l.config.log.Warn(fmt.Sprintf("failed to query nsqlookupd for channels to pre-create for topic %s - %s", topic, err))
	}
	// Names from the network become file names: none that is not valid.
	return slices.DeleteFunc(names, func(name string) bool {
		return protocol.IsEphemeral(name) || !protocol.IsValidChannelName(name)
	})
}
