package nsq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// consumerStopTimeout is how long Stop waits for nsqd and for handlers.
const consumerStopTimeout = 30 * time.Second

// errConsumerStopped and errNoHandlers are returned by the ConnectTo methods.
var (
	errConsumerStopped = errors.New("consumer stopped")
	errNoHandlers      = errors.New("no handlers")
)

// DiscoveryFilter chooses among the nsqds that nsqlookupd names; see
// SetBehaviorDelegate.
type DiscoveryFilter interface {
	// Filter returns the addresses to connect to. The argument may be nil.
	Filter([]string) []string
}

// Consumer receives the messages of a channel from any number of nsqds, given
// directly or found through nsqlookupd, and hands them to its handlers.
//
// Lock order: rdySendMtx, then rdyMtx, then mtx, then the locks of a Conn. No
// lock but rdySendMtx is held while anything is sent, none while a handler runs.
type Consumer struct {
	// Set once by NewConsumer.
	id               int64
	topic            string
	channel          string
	config           Config
	incomingMessages *messageQueue
	hooks            ConsumerHooks // before connecting
	recheckChan      chan struct{} // capacity 1: ask nsqlookupd soon
	wakeRDYChan      chan struct{} // capacity 1: a connection that was idle has got a message
	exitChan         chan int      // closed when the loops are to end
	ctx              context.Context
	cancel           context.CancelFunc // with exitChan

	// StopChan is closed when the Consumer has stopped. Nothing is sent on it.
	StopChan chan int

	loggers levelLoggers

	messagesReceived atomic.Uint64
	messagesFinished atomic.Uint64
	messagesRequeued atomic.Uint64
	messagesGivenUp  atomic.Uint64
	answersFailed    atomic.Uint64
	runningHandlers  atomic.Int32
	stopFlag         atomic.Bool // set under mtx
	exitOnce         sync.Once

	mtx                sync.RWMutex     // guards the group below; held for no I/O
	pendingConnections map[string]*Conn // being made
	connections        map[string]*Conn
	joined             map[*Conn]time.Time
	leaveTimers        map[*Conn]*time.Timer // end the wait for CLOSE_WAIT
	nsqdTCPAddrs       []string              // to be kept connected, in the order they became known
	nsqds              map[string]*nsqdAddr  // what is known of those
	lookupdHTTPAddrs   []string
	lookupdHTTPClient  *http.Client
	ownHTTPClient      bool // we made it
	behaviorDelegate   interface{}
	connected          bool        // handlers can no longer be added
	stopTimer          *time.Timer // ends the wait of Stop

	rdySendMtx sync.Mutex // makes a change of RDY and telling nsqd one step; see changeRDY

	rdyMtx               sync.Mutex // guards the group below and all RDY counts; held for no I/O
	maxInFlight          int64
	totalRdyInFlight     int64
	rdyRetryTimers       map[string]*time.Timer
	needRDYRedistributed bool
	backoffPaused        bool         // no connection has RDY
	backoffTimer         *time.Timer  // ends the pause
	backoffLevel         atomic.Int32 // 0 outside backoff; changes under rdyMtx

	wg sync.WaitGroup // rdyLoop, lookupdLoop, reconnects
}

// NewConsumer returns a Consumer of a channel of topic. It checks and copies
// config and does not connect; but it must be stopped even if it never does.
// It panics for a Config that is not from NewConfig.
func NewConsumer(topic string, channel string, config *Config) (*Consumer, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if !IsValidTopicName(topic) {
		return nil, errors.New("invalid topic name")
	}
	if !IsValidChannelName(channel) {
		return nil, errors.New("invalid channel name")
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Consumer{
		id:                 instanceCount.Add(1),
		topic:              topic,
		channel:            channel,
		config:             *config,
		incomingMessages:   newMessageQueue(),
		recheckChan:        make(chan struct{}, 1),
		wakeRDYChan:        make(chan struct{}, 1),
		exitChan:           make(chan int),
		ctx:                ctx,
		cancel:             cancel,
		StopChan:           make(chan int),
		pendingConnections: make(map[string]*Conn),
		connections:        make(map[string]*Conn),
		joined:             make(map[*Conn]time.Time),
		leaveTimers:        make(map[*Conn]*time.Timer),
		nsqds:              make(map[string]*nsqdAddr),
		maxInFlight:        int64(config.MaxInFlight),
		rdyRetryTimers:     make(map[string]*time.Timer),
	}
	// A strategy shared with other consumers would not be safe, and would see
	// later changes of the caller's Config.
	r.config.BackoffStrategy = boundTo(config.BackoffStrategy, &r.config)
	r.loggers.setDefault()
	r.wg.Go(r.rdyLoop)
	return r, nil
}

// conns returns the connections in the order of their addresses.
func (r *Consumer) conns() []*Conn {
	r.mtx.RLock()
	defer r.mtx.RUnlock()
	conns := make([]*Conn, 0, len(r.connections))
	for _, c := range r.connections {
		conns = append(conns, c)
	}
	slices.SortFunc(conns, func(a, b *Conn) int { return strings.Compare(a.addr, b.addr) })
	return conns
}

// SetLogger sends the log lines of all levels from lvl up to l; nil silences
// them. It affects connections made afterwards.
func (r *Consumer) SetLogger(l logger, lvl LogLevel) {
	r.loggers.setAll(l, lvl, "")
}

// SetLoggerForLevel is SetLogger for one level only. What is logged at all
// stays as set by SetLogger or SetLoggerLevel.
func (r *Consumer) SetLoggerForLevel(l logger, lvl LogLevel) {
	r.loggers.setOne(l, lvl, "")
}

// SetLoggerLevel makes lvl the least severe level to be logged.
func (r *Consumer) SetLoggerLevel(lvl LogLevel) {
	r.loggers.setLevel(lvl)
}

// SetSlogger sends the log lines to l, as a message and attributes (client,
// topic, channel, addr, err and others); l decides what is logged at all. nil
// silences them. It affects connections made afterwards.
func (r *Consumer) SetSlogger(l *slog.Logger) {
	r.loggers.setStructured(l)
}

func (r *Consumer) log(lvl LogLevel, msg string, facts ...slog.Attr) {
	r.loggers.emit(lvl, r.logHead, r.logOwner(), msg, facts)
}

func (r *Consumer) logHead(string) string {
	return fmt.Sprintf("%3d [%s/%s]", r.id, r.topic, r.channel)
}

func (r *Consumer) logOwner() []slog.Attr {
	return []slog.Attr{slog.Int64("client", r.id), slog.String("topic", r.topic), slog.String("channel", r.channel)}
}

// SetBehaviorDelegate sets cb, which must be a DiscoveryFilter; anything else
// panics.
func (r *Consumer) SetBehaviorDelegate(cb interface{}) {
	if _, ok := cb.(DiscoveryFilter); !ok {
		panic("behavior delegate does not have any recognized methods")
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.behaviorDelegate = cb
}

// Stop ends the Consumer for good, without waiting: StopChan is closed when it
// is done. nsqd is asked to send no more messages; those it has sent are
// handled and answered. After 30 s StopChan is closed in any case. A second
// call does nothing.
func (r *Consumer) Stop() {
	r.mtx.Lock()
	if r.stopFlag.Swap(true) {
		r.mtx.Unlock()
		return
	}
	r.stopTimer = time.AfterFunc(consumerStopTimeout, r.stopAnyway)
	pending := make([]*Conn, 0, len(r.pendingConnections))
	for _, c := range r.pendingConnections {
		pending = append(pending, c)
	}
	r.mtx.Unlock()

	r.log(LogLevelInfo, "stopping...")
	for _, c := range pending {
		_ = c.Close() // whoever is connecting it gets an error
	}
	conns := r.conns()
	if len(conns) == 0 {
		r.stopHandlers()
		return
	}
	for _, c := range conns {
		r.startLeaving(c)
	}
}

// stopAnyway ends the Consumer though handlers are still busy, or nsqds silent.
// What a handler answers later is still sent, unless its message has timed out.
func (r *Consumer) stopAnyway() {
	r.log(LogLevelWarning, "stopped, not everything was answered", slog.Duration("after", consumerStopTimeout))
	for _, c := range r.conns() {
		c.touches.stop()
		_ = c.Close() // its end is told by OnClose
	}
	r.incomingMessages.close()
	r.exit()
}

// stopHandlers lets the handlers finish what has arrived and end.
func (r *Consumer) stopHandlers() {
	r.log(LogLevelInfo, "stopping handlers")
	r.incomingMessages.close()
	if r.runningHandlers.Load() == 0 {
		r.exit()
	}
}

// exit ends the loops and timers, waits for them, and closes StopChan.
func (r *Consumer) exit() {
	r.exitOnce.Do(func() {
		close(r.exitChan)
		r.cancel()
		r.mtx.Lock()
		r.stopTimer.Stop()
		if r.ownHTTPClient {
			r.lookupdHTTPClient.CloseIdleConnections()
		}
		r.mtx.Unlock()
		r.stopRDYTimers()
		r.wg.Wait()
		close(r.StopChan)
	})
}

// goUnlessStopped starts f as one of the goroutines exit waits for, and says
// whether it did.
func (r *Consumer) goUnlessStopped(f func()) bool {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.stopFlag.Load() {
		return false
	}
	r.wg.Go(f)
	return true
}
