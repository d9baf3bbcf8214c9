package nsqd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/diskqueue"
)

// A Channel is one copy of a topic's messages, shared out among its consumers.
// It is a queue, the messages in flight to each consumer, those deferred, and
// the consumers themselves.
type Channel struct {
	topicName string
	name      string
	ephemeral bool
	env       *env
	queue     *queue
	deferred  *deferred
	nearest   *preference    // among the consumers; nil without the experiment
	latency   *latencyWindow // nil where nobody wants to know

	messages   atomic.Uint64 // received from the topic
	requeued   atomic.Uint64
	timeouts   atomic.Uint64
	sampledOut atomic.Uint64         // dropped by a consumer's sample_rate
	duplicates atomic.Uint64         // dropped because the same ID was in flight to the same client
	fromMemory [places]atomic.Uint64 // taken from memory for delivery, by where to
	paused     atomic.Bool
	closing    atomic.Bool // closed or deleted: no consumer may join, messages are dropped

	mu        sync.Mutex
	consumers map[*consumer]struct{}
	gone      answers                 // of consumers that have left
	tables    map[*inFlight]*consumer // of consumers, and of those gone while not empty
}

// errTooManyConsumers is returned by join when --max-channel-consumers is
// reached.
var errTooManyConsumers = errors.New("too many consumers")

// newChannel makes a channel. recovered is told when its disk works again after
// it failed, giveBack which of the messages that the topic has lent are not needed
// any more.
func newChannel(env *env, topicName, name string, recovered func(), giveBack func([]diskqueue.Ticket)) *Channel {
	c := &Channel{
		topicName: topicName,
		name:      name,
		ephemeral: isEphemeral(name),
		env:       env,
		queue:     newQueue(env, topicName+":"+name, isEphemeral(name)),
		consumers: make(map[*consumer]struct{}),
		tables:    make(map[*inFlight]*consumer),
	}
	c.deferred = newDeferred(env.keeper, c.queue.hold)
	c.queue.opened = c.wakeConsumers
	c.queue.postpone = c.deferred.addDue
	c.queue.giveBack = giveBack
	c.queue.recovered = func() {
		c.wakeConsumers() // they may read from disk again
		recovered()
	}
	if env.latencyWindow > 0 {
		c.latency = newLatencyWindow(env.keeper.clock, env.latencyWindow)
	}
	if env.topology != nil {
		c.nearest = newPreference(c.queue, env.keeper)
	}
	return c
}

// put takes messages from the topic. It cannot fail: what cannot be stored stays
// in memory. Entries stay the caller's.
func (c *Channel) put(entries []entry) { c.queue.keepRest(c.accept(entries)) }

// accept is put as far as memory goes; it returns what is still to be stored.
func (c *Channel) accept(entries []entry) (rest []entry) {
	if c.closing.Load() {
		return nil
	}
	c.messages.Add(uint64(countOf(entries)))
	deferred, rest := splitDeferred(entries)
	if len(deferred) > 0 {
		c.deferred.add(deferred)
	}
	return c.queue.remember(rest)
}

// join adds a consumer. It returns [errExiting] while the channel is being
// deleted and [errTooManyConsumers] at the limit.
func (c *Channel) join(con *consumer, limit int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		return errExiting
	}
	if limit > 0 && len(c.consumers) >= limit {
		return errTooManyConsumers
	}
	c.consumers[con] = struct{}{}
	c.tables[con.inFlight] = con
	return nil
}

// leave removes a consumer. Its messages stay in flight until they time out. It
// reports whether the channel, an ephemeral one, has lost its last consumer.
func (c *Channel) leave(con *consumer) (abandoned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.consumers[con]; !ok {
		return false
	}
	delete(c.consumers, con)
	c.gone.add(con)
	if con.inFlight.Len() == 0 {
		delete(c.tables, con.inFlight)
	}
	return c.ephemeral && len(c.consumers) == 0
}

// expire takes back what a consumer has not answered in time. It runs on the
// timekeeper, which waits for no disk.
func (c *Channel) expire(table *inFlight, entries []entry) {
	if len(entries) > 0 {
		c.timeouts.Add(uint64(len(entries)))
		c.queue.hold(entries)
	}
	c.mu.Lock()
	con := c.tables[table]
	_, present := c.consumers[con]
	if !present && table.Len() == 0 {
		delete(c.tables, table)
	}
	c.mu.Unlock()
	if present {
		con.pump.call()
	}
}

// requeue puts a message back that a consumer did not want, at once or after a
// delay.
func (c *Channel) requeue(e entry, delay time.Duration) {
	c.requeued.Add(1)
	if delay > 0 {
		c.deferred.addDue(e.alone(), c.env.keeper.clock.now()+int64(delay))
		return
	}
	c.queue.keep([]entry{e})
}

// twinPause is how long a message waits for another of its ID to be answered.
const twinPause = 100 * time.Millisecond

// putOff lets twins, which were about to be delivered, wait for a moment.
func (c *Channel) putOff(twins []entry) {
	for _, e := range twins {
		e.attempts--
		c.deferred.addDue(e.alone(), c.env.keeper.clock.now()+int64(twinPause))
	}
}

// inFlightElsewhere reports whether id is in flight to another client than the
// owner of table.
func (c *Channel) inFlightElsewhere(table *inFlight, id MessageID) bool {
	for _, t := range c.inFlightTables() {
		if t != table && t.has(id) {
			return true
		}
	}
	return false
}

func (c *Channel) inFlightTables() []*inFlight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.tables))
}

func (c *Channel) inFlightCount() (n int64) {
	for _, t := range c.inFlightTables() {
		n += t.Len()
	}
	return n
}

// answers counts deliveries, and messages finished.
type answers struct{ delivered, finished uint64 }

func (a *answers) add(c *consumer) {
	a.delivered += c.messages.Load()
	a.finished += c.finished.Load()
}

// answered returns how many messages were delivered, and how many were finished,
// so far. They are counted by each client for itself, so that consumers of one
// channel do not meet at a counter.
func (c *Channel) answered() (delivered, finished uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.gone
	for con := range c.consumers {
		all.add(con)
	}
	return all.delivered, all.finished
}

func (c *Channel) consumerList() []*consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.consumers))
}

// pause stops or resumes delivery and reports whether that changed anything.
func (c *Channel) pause(paused bool) bool {
	changed := c.paused.Swap(paused) != paused
	c.wakeConsumers()
	return changed
}

// wakeConsumers lets every consumer look again at what it may take.
func (c *Channel) wakeConsumers() {
	for _, con := range c.consumerList() {
		con.pump.call()
	}
}

// empty drops all messages: queued, in flight and deferred.
func (c *Channel) empty() error {
	deferred, _ := c.deferred.drain()
	dropped := countOf(deferred)
	c.queue.finishAll(deferred)
	for _, t := range c.inFlightTables() {
		inFlight := t.drain()
		dropped += len(inFlight)
		c.queue.finishAll(inFlight)
	}
	c.queue.discarded.Add(uint64(dropped))
	err := c.queue.empty()
	c.wakeConsumers() // each has all of its RDY again
	return err
}

// close stores everything the channel holds. Its consumers must be gone. An
// ephemeral channel drops what it holds.
func (c *Channel) close() error {
	c.env.log.Info(fmt.Sprintf("CHANNEL(%s): closing", c.name))
	inMemory := c.queue.memory.Len()
	inFlight, deferred, dues := c.release()
	if n := inMemory + len(inFlight) + len(deferred); n > 0 && !c.ephemeral {
		c.env.log.Info(fmt.Sprintf("CHANNEL(%s): flushing %d memory %d in-flight %d deferred messages to backend",
			c.name, inMemory, len(inFlight), countOf(deferred)))
	}
	c.queue.memory.PutBeyond(inFlight)
	return c.queue.close(deferred, dues)
}

// delete drops everything the channel holds, with its files, and disconnects its
// consumers.
func (c *Channel) delete() error {
	c.env.log.Info(fmt.Sprintf("CHANNEL(%s): deleting", c.name))
	c.closing.Store(true)
	for _, con := range c.consumerList() {
		con.stop()
	}
	inFlight, deferred, _ := c.release()
	c.queue.finishAll(inFlight)
	c.queue.finishAll(deferred)
	return c.queue.delete()
}

// release takes all messages in flight and deferred, and with them the alarms.
func (c *Channel) release() (inFlight, deferred []entry, dues []int64) {
	c.closing.Store(true)
	for _, t := range c.inFlightTables() {
		c.env.keeper.unset(&t.alarm)
		inFlight = append(inFlight, t.drain()...)
	}
	c.env.keeper.unset(&c.deferred.alarm)
	if c.nearest != nil {
		c.env.keeper.unset(&c.nearest.alarm)
	}
	deferred, dues = c.deferred.drain()
	return inFlight, deferred, dues
}
