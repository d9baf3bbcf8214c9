package nsqd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/internal/auth"
	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/version"
)

// An NSQD is the queue daemon: listeners, topics, and what runs beside them.
type NSQD struct {
	opts     atomic.Pointer[Options]
	log      *slog.Logger
	started  time.Time
	dir      string // --data-path, or the working directory
	lock     *dirLock
	found    *diskqueue.Names // on disk when it started
	tcp      net.Listener
	http     net.Listener // nil for none
	https    net.Listener // nil for none
	env      *env
	svc      *service
	keeper   *timekeeper
	health   *health
	guard    *httpapi.Guard
	syncs    syncs
	metadata *metadata
	lookup   *lookupLoop
	statsd   *statsd // nil for none
	drain    *drainer
	api      *httpapi.API
	conns    connSet

	ready chan struct{} // closed when clients are served

	configured Options // as given to New

	// life ends when the daemon begins to stop: with it end questions that a
	// client waits for.
	life context.Context
	end  context.CancelFunc

	topics sync.Map // name → *Topic; written under mu

	// mu serialises the creation and removal of topics. It is not taken on the
	// publish path.
	mu sync.Mutex

	changing  sync.Mutex                // serialises changes of options; taken before all other locks
	serverTLS atomic.Pointer[serverTLS] // for new connections; nil: TLS is not offered. Written under changing

	unstored unstored
}

// New checks opts, locks the data directory and opens the listeners: clients can
// connect from then on, and are served by [NSQD.Run], which must follow. Errors
// are those an operator knows from the log line "failed to instantiate nsqd".
func New(opts *Options) (*NSQD, error) {
	n, err := newNSQD(opts)
	if err != nil {
		return nil, err
	}
	if err := n.listen(opts); err != nil {
		return nil, errors.Join(err, n.closeListeners(), n.lock.release())
	}
	n.resolveBroadcastPorts()
	return n, nil
}

// listen opens the listeners.
func (n *NSQD) listen(opts *Options) (err error) {
	if n.tcp, err = listen(network(opts.TCPAddress), opts.TCPAddress); err != nil {
		return err
	}
	if opts.HTTPAddress != "" {
		if n.http, err = listen(network(opts.HTTPAddress), opts.HTTPAddress); err != nil {
			return err
		}
	}
	if opts.HTTPSAddress != "" && n.svc.tls != nil {
		n.https, err = listen("tcp", opts.HTTPSAddress)
	}
	return err
}

// newNSQD makes a daemon without listeners.
func newNSQD(opts *Options) (*NSQD, error) {
	n := &NSQD{log: opts.logger(), started: time.Now(), dir: opts.DataPath, ready: make(chan struct{})}
	if n.dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("find working directory: %w", err)
		}
		n.dir = dir
	}
	lock, err := lockDir(n.dir)
	if err != nil {
		return nil, fmt.Errorf("failed to lock data-path: %w", err)
	}
	n.lock = lock
	if err := opts.validate(); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	own := *opts
	ownTLS, clientTLS, err := own.resolveTLS()
	if err == nil {
		err = own.validateRest()
	}
	var transport lookupTransport
	if err == nil {
		transport, err = own.lookupTransport()
	}
	var rules *httpapi.Rules
	if err == nil {
		rules, err = own.adminRules()
	}
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	names, err := diskqueue.List(n.dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list data-path: %w", err), lock.release())
	}
	if err := tidy(n.dir, n.log); err != nil {
		return nil, errors.Join(fmt.Errorf("list data-path: %w", err), lock.release())
	}
	n.found = names
	n.configured = *opts
	n.opts.Store(&own)
	n.serverTLS.Store(ownTLS)
	n.guard = httpapi.NewGuard("nsqd")
	n.guard.Use(rules)
	n.life, n.end = context.WithCancel(context.Background())
	n.keeper = newTimekeeper(clock{start: n.started})
	n.health = newHealth()
	n.metadata = newMetadata(n.dir, n.log, n.topicList)
	disk := diskqueue.NewShared(diskqueue.SharedOptions{OnSync: n.syncs.observe})
	n.env = &env{
		log:          n.log,
		keeper:       n.keeper,
		storage:      &diskStorage{opts: &own, dir: n.dir, names: names, disk: disk, log: n.log, turns: make(chan struct{}, storeAtOnce)},
		health:       n.health,
		memQueueSize: queueLimit(own.MemQueueSize),
		topology:     newTopology(&own),
		changed:      n.changed,
		abandoned:    n.removeTopic,
	}
	if len(own.E2EProcessingLatencyPercentiles) > 0 {
		n.env.latencyWindow, n.env.quantiles = own.E2EProcessingLatencyWindowTime, own.E2EProcessingLatencyPercentiles
	}
	n.drain = newDrainer(&own, n.log, n.unfinished)
	n.svc = &service{
		opts:   n.options,
		log:    n.log,
		ids:    newIDSource(own.ID, wallClock),
		keeper: n.keeper,
		topic:  n.GetTopic,
		life:   n.life,

		refusing: &n.drain.refusing,
	}
	if ownTLS != nil {
		n.svc.tls = reloadableTLS(func() *tls.Config { return n.serverTLS.Load().tcp })
	}
	if len(own.AuthHTTPAddresses) > 0 {
		n.svc.auth = auth.NewClient(auth.Config{
			Addresses:      own.AuthHTTPAddresses,
			Method:         own.AuthHTTPRequestMethod,
			ConnectTimeout: own.HTTPClientConnectTimeout,
			RequestTimeout: own.HTTPClientRequestTimeout,
			TLS:            clientTLS,
			Log:            n.log,
		})
	}
	n.lookup = newLookup(lookupConfig{
		addresses:          own.NSQLookupdTCPAddresses,
		identity:           n.identity,
		registrations:      n.registrations,
		maxReplySize:       own.MaxBodySize,
		httpConnectTimeout: own.HTTPClientConnectTimeout,
		httpRequestTimeout: own.HTTPClientRequestTimeout,
		transport:          transport,
		log:                n.log,
	})
	if own.StatsdAddress != "" {
		n.statsd = newStatsd(&own, n.log, n.stats)
	}
	n.api = n.routes()
	n.log.Info(version.String("nsqd"))
	n.log.Info(fmt.Sprintf("ID: %d", own.ID))
	return n, nil
}

func (n *NSQD) options() *Options { return n.opts.Load() }

// resolveBroadcastPorts replaces 0 by the port that is really bound.
func (n *NSQD) resolveBroadcastPorts() {
	own := *n.options()
	if own.BroadcastTCPPort == 0 {
		own.BroadcastTCPPort = max(boundPort(n.tcp), 0)
	}
	if own.BroadcastHTTPPort == 0 {
		own.BroadcastHTTPPort = max(boundPort(n.http), 0)
	}
	n.opts.Store(&own)
}

// boundPort is the port of a listener: -1 for a Unix socket, 0 for none.
func boundPort(l net.Listener) int {
	if l == nil {
		return 0
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return -1
}

// TCPAddr is where TCP clients connect.
func (n *NSQD) TCPAddr() net.Addr { return n.tcp.Addr() }

// HTTPAddr is where HTTP is served, or nil.
func (n *NSQD) HTTPAddr() net.Addr {
	if n.http == nil {
		return nil
	}
	return n.http.Addr()
}

// HTTPSAddr is where HTTPS is served, or nil.
func (n *NSQD) HTTPSAddr() net.Addr {
	if n.https == nil {
		return nil
	}
	return n.https.Addr()
}

// Ready is closed when clients are served: all topics and channels of the last run
// are there again.
func (n *NSQD) Ready() <-chan struct{} { return n.ready }

// Run serves until ctx ends or a part fails, and then stops cleanly: it
// disconnects everybody, and stores every message that is not ephemeral. It
// returns why it stopped, or what could not be stored.
func (n *NSQD) Run(ctx context.Context) error {
	defer n.log.Info("NSQ: bye")
	defer n.end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx) // the first part to fail stops the others
	if n.http != nil {
		g.Go(func() error { return n.serveHTTP(ctx) })
	}
	if n.https != nil {
		g.Go(func() error { return n.serveHTTPS(ctx) })
	}
	if err := n.load(); err != nil {
		cancel()
		n.end()
		err = errors.Join(err, g.Wait())
		if n.tcp != nil {
			err = errors.Join(err, n.tcp.Close())
		}
		return errors.Join(err, n.lock.release())
	}
	g.Go(func() error { return n.keeper.run(ctx) })
	g.Go(func() error { return n.metadata.run(ctx) })
	g.Go(func() error { return n.health.run(ctx) })
	g.Go(func() error { return n.lookup.run(ctx) })
	g.Go(func() error { return n.drain.run(ctx) })
	if n.statsd != nil {
		g.Go(func() error { return n.statsd.run(ctx, statsdPrefix(n.options())) })
	}
	g.Go(func() error {
		<-ctx.Done()
		n.end()
		n.conns.close() // before topics are closed: their messages have nowhere to go then
		return nil
	})
	if n.tcp != nil {
		g.Go(func() error { return n.serveTCP(ctx) })
	}
	n.announceHTTP()
	close(n.ready)
	err := g.Wait()
	n.svc.crew.close()
	if errors.Is(err, errDrained) {
		err = nil
	}
	if n.svc.auth != nil {
		n.svc.auth.Close()
	}
	return errors.Join(err, n.closeTopics(), n.lock.release())
}

func (n *NSQD) closeListeners() error {
	var err error
	for _, l := range []net.Listener{n.tcp, n.http, n.https} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// load brings back the topics and channels of the last run. Messages flow only
// when all channels of their topic exist, so that each gets the backlog.
func (n *NSQD) load() error {
	topics, err := n.metadata.load()
	if err != nil {
		return fmt.Errorf("failed to load metadata - %w", err)
	}
	for _, mt := range topics {
		t, err := n.addTopic(mt.Name)
		if err != nil {
			return fmt.Errorf("open topic %q: %w", mt.Name, err)
		}
		t.pause(mt.Paused)
		for _, mc := range mt.Channels {
			c, err := t.GetChannel(mc.Name)
			if err != nil {
				return fmt.Errorf("open channel %q of topic %q: %w", mc.Name, mt.Name, err)
			}
			c.pause(mc.Paused)
		}
		t.start()
	}
	if err := n.metadata.persist(); err != nil {
		return fmt.Errorf("failed to persist metadata - %w", err)
	}
	if names := forgotten(n.found, n.topicList()); len(names) > 0 {
		const most = 20 // in one line
		n.log.Warn("queue files of topics or channels that are not in "+metadataFile,
			"queues", len(names), "first", names[:min(len(names), most)])
	}
	return nil
}

// GetTopic returns the topic of that name, which it creates if need be. A topic
// that is being deleted is returned too: it refuses messages.
func (n *NSQD) GetTopic(name string) (*Topic, error) {
	if t, ok := n.topics.Load(name); ok {
		return t.(*Topic), nil
	}
	n.mu.Lock()
	if t, ok := n.topics.Load(name); ok {
		n.mu.Unlock()
		return t.(*Topic), nil
	}
	t, err := n.addTopicLocked(name)
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	// From here on others publish to it without waiting; their messages stay in
	// the topic until it starts. It starts with the channels that it has
	// elsewhere, so that none of them misses the first messages.
	for _, channel := range n.lookup.channels(n.life, name) {
		if _, err := t.GetChannel(channel); err != nil {
			n.log.Warn("create channel known to nsqlookupd", "topic", name, "channel", channel, "err", err)
		}
	}
	t.start()
	return t, nil
}

// existingTopic returns the topic of that name, or nil.
func (n *NSQD) existingTopic(name string) *Topic {
	if t, ok := n.topics.Load(name); ok {
		return t.(*Topic)
	}
	return nil
}

func (n *NSQD) addTopic(name string) (*Topic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addTopicLocked(name)
}

func (n *NSQD) addTopicLocked(name string) (*Topic, error) {
	t := newTopic(n.env, name)
	if err := t.queue.restore(); err != nil {
		return nil, err
	}
	n.topics.Store(name, t)
	n.log.Info(fmt.Sprintf("TOPIC(%s): created", name))
	n.changed(name, "", true)
	return t, nil
}

// removeTopic deletes t with all its channels and messages, unless that is under
// way already.
func (n *NSQD) removeTopic(t *Topic) {
	if err := n.deleteTopic(t); err != nil {
		n.log.Error("delete topic", "topic", t.name, "err", err)
	}
}

func (n *NSQD) deleteTopic(t *Topic) error {
	if t.closing.Swap(true) {
		return nil
	}
	err := t.delete()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.topics.CompareAndDelete(t.name, t)
	n.changed(t.name, "", false)
	return err
}

// topicList returns the topics by name.
func (n *NSQD) topicList() []*Topic {
	var topics []*Topic
	for _, t := range n.topics.Range {
		topics = append(topics, t.(*Topic))
	}
	slices.SortFunc(topics, func(a, b *Topic) int { return strings.Compare(a.name, b.name) })
	return topics
}

// changed is told when a topic, or a channel of it, has come or gone.
func (n *NSQD) changed(topic, channel string, exists bool) {
	n.lookup.notify(registration{topic, channel}, exists)
	if !isEphemeral(topic) && !isEphemeral(channel) {
		n.metadata.changed()
	}
}

// identity is what this daemon tells nsqlookupd about itself.
func (n *NSQD) identity() lookupIdentity {
	opts := n.options()
	hostname, err := os.Hostname()
	if err != nil {
		hostname = opts.BroadcastAddress // shown to people only
	}
	return lookupIdentity{
		BroadcastAddress: opts.BroadcastAddress,
		Hostname:         hostname,
		HTTPPort:         opts.BroadcastHTTPPort,
		TCPPort:          opts.BroadcastTCPPort,
		TopologyRegion:   opts.TopologyRegion,
		TopologyZone:     opts.TopologyZone,
		Version:          version.Number,
	}
}

// registrations is what nsqlookupd is to know.
func (n *NSQD) registrations() []registration {
	var all []registration
	for _, t := range n.topicList() {
		if t.closing.Load() {
			continue
		}
		all = append(all, registration{topic: t.name})
		for _, c := range t.channelList() {
			all = append(all, registration{t.name, c.name})
		}
	}
	return all
}
