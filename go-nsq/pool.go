package nsq

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// PoolStrategy says which nsqd of a ProducerPool a publish goes to. One that is
// not healthy comes last whatever the strategy.
type PoolStrategy int

const (
	// PoolRoundRobin: each publish goes to the next nsqd.
	PoolRoundRobin PoolStrategy = iota

	// PoolFirstHealthy: all publishes go to the first nsqd, in the order given,
	// that is healthy: the others stand by.
	PoolFirstHealthy

	// PoolHash: publishes with the same key go to the same nsqd; see SetKey.
	// When nsqds come or go, only the keys concerned move.
	PoolHash
)

// ProducerPool publishes to several nsqds, given to it or found through
// nsqlookupd. A publish that one nsqd certainly did not accept goes to another;
// one that it may have accepted does not, as that might double it: its error, a
// *PublishError, says so. All methods may be called from any goroutine.
//
// Lock order: Producer.finishing, then mu.
type ProducerPool struct {
	// Set once by NewProducerPool.
	config     Config
	deliveries *deliveries
	ctx        context.Context // ends with Stop
	cancel     context.CancelFunc

	loggers levelLoggers

	strategy atomic.Int32
	turn     atomic.Uint64               // counts publishes, for PoolRoundRobin
	nodes    atomic.Pointer[[]*poolNode] // in the order they became known; changes under mu

	mu               sync.Mutex // guards all below; held for no I/O
	key              func(topic string, body []byte) []byte
	lookupdHTTPAddrs []string
	lookupClient     *http.Client
	ownHTTPClient    bool // we made it
	filter           DiscoveryFilter
	stopped          bool

	wg sync.WaitGroup // recoveries, failovers, lookupdLoop, producers being stopped
}

// NewProducerPool returns a pool of the nsqds at addrs, each "host:port" of a
// TCP port; there may be none as yet. It checks and copies config, which applies
// to each connection, but does not connect. The pool must be stopped.
func NewProducerPool(addrs []string, config *Config) (*ProducerPool, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &ProducerPool{config: *config, deliveries: newDeliveries(), ctx: ctx, cancel: cancel}
	p.nodes.Store(new([]*poolNode))
	p.loggers.setDefault()
	for _, addr := range addrs {
		p.AddNSQD(addr)
	}
	return p, nil
}

// SetStrategy chooses how publishes are spread. The default is PoolRoundRobin.
func (p *ProducerPool) SetStrategy(strategy PoolStrategy) {
	p.strategy.Store(int32(strategy))
}

// SetKey sets what PoolHash takes for the key of a publish; of several messages
// it is asked about the first. The default, also for nil, is the topic.
func (p *ProducerPool) SetKey(key func(topic string, body []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = key
}

// SetLogger sends the log lines of all levels from lvl up to l; nil silences
// them. It affects connections made afterwards.
func (p *ProducerPool) SetLogger(l logger, lvl LogLevel) {
	p.loggers.setAll(l, lvl, "")
	for _, node := range *p.nodes.Load() {
		node.producer.SetLogger(l, lvl)
	}
}

// SetSlogger sends the log lines to l, as a message and attributes; l decides
// what is logged at all. nil silences them. It affects connections made
// afterwards.
func (p *ProducerPool) SetSlogger(l *slog.Logger) {
	p.loggers.setStructured(l)
	for _, node := range *p.nodes.Load() {
		node.producer.SetSlogger(l)
	}
}

func (p *ProducerPool) log(lvl LogLevel, msg string, facts ...slog.Attr) {
	p.loggers.emit(lvl, func(string) string { return "pool" }, nil, msg, facts)
}

// PoolNode is the state of one nsqd of a ProducerPool.
type PoolNode struct {
	Address    string
	Healthy    bool          // false after a failure, until a connection is made again
	Discovered bool          // found through nsqlookupd
	State      int           // StateInit, StateDisconnected or StateConnected
	Stats      ProducerStats // of the publishes to it
	LastError  error         // see Producer.LastError
}

// Nodes returns the state of all nsqds, in the order they became known.
func (p *ProducerPool) Nodes() []PoolNode {
	var nodes []PoolNode
	for _, node := range *p.nodes.Load() {
		nodes = append(nodes, PoolNode{
			Address:    node.producer.addr,
			Healthy:    node.healthy.Load(),
			Discovered: !node.direct.Load(),
			State:      node.producer.State(),
			Stats:      *node.producer.Stats(),
			LastError:  node.producer.LastError(),
		})
	}
	return nodes
}

// AddNSQD adds an nsqd, "host:port" of its TCP port. One that is known already,
// or added after Stop, is ignored.
func (p *ProducerPool) AddNSQD(addr string) {
	p.add(addr, true)
}

func (p *ProducerPool) add(addr string, direct bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	nodes := *p.nodes.Load()
	if i := slices.IndexFunc(nodes, func(n *poolNode) bool { return n.producer.addr == addr }); i >= 0 {
		if direct {
			nodes[i].direct.Store(true)
		}
		return
	}
	if p.stopped {
		return
	}
	node := newPoolNode(p, addr, direct)
	nodes = append(slices.Clone(nodes), node)
	p.nodes.Store(&nodes)
}

// RemoveNSQD removes an nsqd: it gets no more publishes, those it has are
// awaited meanwhile. nsqlookupd may name it again. ErrNotConnected is returned
// for one that is not known.
func (p *ProducerPool) RemoveNSQD(addr string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	nodes := *p.nodes.Load()
	i := slices.IndexFunc(nodes, func(n *poolNode) bool { return n.producer.addr == addr })
	if i < 0 || p.stopped {
		return ErrNotConnected
	}
	node := nodes[i]
	nodes = slices.Delete(slices.Clone(nodes), i, i+1)
	p.nodes.Store(&nodes)
	p.wg.Go(node.stop)
	return nil
}

// Stop ends the pool for good, as Producer.Stop does for each nsqd: publishes
// accepted before are sent and their answers awaited for a while. A second call
// returns at once.
func (p *ProducerPool) Stop() {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return
	}
	p.stopped = true
	p.cancel()
	nodes := *p.nodes.Load()
	for _, node := range nodes {
		p.wg.Go(node.stop)
	}
	client := p.lookupClient
	if !p.ownHTTPClient {
		client = nil
	}
	p.mu.Unlock()

	p.deliveries.stopWaiting()
	p.wg.Wait()
	if client != nil {
		client.CloseIdleConnections()
	}
}

// goUnlessStopped starts f as one of the goroutines Stop waits for, and says
// whether it did.
func (p *ProducerPool) goUnlessStopped(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.wg.Go(f)
	return true
}

// Delays between two attempts to connect to an nsqd that has failed.
const (
	firstRecoveryDelay = 250 * time.Millisecond
	maxRecoveryDelay   = 15 * time.Second
)

// A poolNode is one nsqd of a ProducerPool.
type poolNode struct {
	// Set once.
	pool     *ProducerPool
	producer *Producer
	ctx      context.Context // ends with the node
	cancel   context.CancelFunc

	direct   atomic.Bool // given to the pool; else found through nsqlookupd
	healthy  atomic.Bool
	unlisted int // polls in a row that did not name it; used by lookupdLoop
}

func newPoolNode(p *ProducerPool, addr string, direct bool) *poolNode {
	producer := newProducer(addr, &p.config)
	p.loggers.copyInto(&producer.loggers)
	ctx, cancel := context.WithCancel(p.ctx)
	node := &poolNode{pool: p, producer: producer, ctx: ctx, cancel: cancel}
	node.direct.Store(direct)
	node.healthy.Store(true)
	return node
}

func (n *poolNode) stop() {
	n.cancel()
	n.producer.Stop()
}

// failed notes a failure. Until the nsqd can be connected to, it comes last.
func (n *poolNode) failed(err error) {
	if n.ctx.Err() != nil || !n.healthy.Swap(false) {
		return
	}
	n.pool.log(LogLevelWarning, "nsqd failed", addrAttr(n.producer.addr), errAttr(err))
	n.pool.goUnlessStopped(n.recover)
}

// recover connects until that succeeds, here or with a publish, with delays that
// double. Up to half of each is taken off at random.
func (n *poolNode) recover() {
	for delay := firstRecoveryDelay; ; delay = min(2*delay, maxRecoveryDelay) {
		if !sleepContext(n.ctx, jittered(delay)) || n.healthy.Load() {
			return
		}
		if n.producer.PingWithContext(n.ctx) == nil {
			n.healthy.Store(true)
			n.pool.log(LogLevelInfo, "nsqd is back", addrAttr(n.producer.addr))
			return
		}
	}
}
