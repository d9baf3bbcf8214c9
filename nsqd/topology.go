package nsqd

import (
	"slices"
	"sync"
	"time"
)

// TopologyAwareConsumption is the experiment that prefers consumers in the
// daemon's own zone, then those in its region. Source: TCP protocol spec,
// "Topology-aware consumption".
const TopologyAwareConsumption = "topology-aware-consumption"

// A place is where a consumer is, seen from the daemon: what its deliveries are
// counted as.
type place int

const (
	inZone place = iota
	inRegion
	elsewhere
	places
)

// A topology is where the daemon is, for the experiment; nil without it.
type topology struct{ region, zone string }

// newTopology returns the topology if opts switch the experiment on.
func newTopology(opts *Options) *topology {
	if !slices.Contains(opts.Experiments, TopologyAwareConsumption) {
		return nil
	}
	return &topology{region: opts.TopologyRegion, zone: opts.TopologyZone}
}

// place says where a client is. An empty name is a name as any other; who did not
// IDENTIFY is nowhere.
func (t *topology) place(c *conn) place {
	if t == nil || !c.identified.Load() {
		return elsewhere
	}
	switch s := c.settings.Load(); {
	case s.topologyZone == t.zone:
		return inZone
	case s.topologyRegion == t.region:
		return inRegion
	}
	return elsewhere
}

// rank is how much a client is preferred, 0 the most. It is not that of its
// place where the daemon does not say where it is: then nobody is nearer.
func (t *topology) rank(c *conn) int {
	if t == nil || !c.identified.Load() {
		return ranks - 1
	}
	switch s := c.settings.Load(); {
	case t.zone != "" && s.topologyZone == t.zone:
		return 0
	case t.region != "" && s.topologyRegion == t.region:
		return 1
	}
	return ranks - 1
}

const ranks = 3

// A preference shares out the memory chan of one channel among its consumers, the
// nearest first. It takes the place of the memory chan's readiness, with one Go
// channel per rank.
//
// What is in the memory chan is claimed by the consumers of the first rank as far
// as they have RDY room, then by those of the second, and so on. A rank is ready
// while there is more than those before it claim, and its consumers take no more
// than that. So a consumer far away gets a message only if no nearer one has room
// for it, even if the nearer one is busy sending at this instant; and nobody is
// idle while there is more than the nearer ones can take.
//
// A client that does not read must not keep messages from the others: the claim of
// one whose connection has been stuck in one write for patience does not count.
//
// Readiness is decided anew (offer) whenever the answer may be another one: when
// the memory chan would hand its baton on, when a consumer begins or ceases to
// want messages, and after patience where somebody was passed over.
type preference struct {
	queue  *queue
	keeper *timekeeper
	alarm  alarm
	ready  [ranks]chan struct{} // one token each, a baton as that of the memory chan

	mu       sync.Mutex
	wanting  [ranks][]*consumer // those with room; of a paused channel nobody
	reserved int64              // messages that consumers are about to take
}

// patience is how long a write may take before its client counts as stuck.
const patience = 5 * time.Millisecond

func newPreference(q *queue, keeper *timekeeper) *preference {
	p := &preference{queue: q, keeper: keeper}
	for i := range p.ready {
		p.ready[i] = make(chan struct{}, 1)
	}
	p.alarm.ring = func(int64) { p.offer() }
	q.memory.Notify(p.offer)
	q.free = p.free
	return p
}

// join says that a consumer wants messages.
func (p *preference) join(c *consumer) {
	p.mu.Lock()
	p.wanting[c.rank] = append(p.wanting[c.rank], c)
	p.mu.Unlock()
	p.offer()
}

// leave says that a consumer, which has joined, wants no more messages. What it
// claimed is offered to others. A baton that nobody is left to take may stay: the
// next one to join finds nothing with it.
func (p *preference) leave(c *consumer) {
	p.mu.Lock()
	list := p.wanting[c.rank]
	i := slices.Index(list, c)
	last := len(list) - 1
	list[i], list[last] = list[last], nil
	p.wanting[c.rank] = list[:last]
	p.mu.Unlock()
	p.offer()
}

// offer makes those ranks ready that there is something for.
func (p *preference) offer() {
	if p.queue.memory.Len() == 0 {
		return
	}
	now := p.keeper.clock.now()
	passedOver := false
	var wake [ranks]bool
	p.mu.Lock()
	for rank, list := range p.wanting {
		if len(list) == 0 {
			continue
		}
		if p.unclaimedLocked(rank, now) == 0 {
			passedOver = true
			break
		}
		select {
		case p.ready[rank] <- struct{}{}:
		default: // the token is there already
		}
		wake[rank] = true
	}
	p.mu.Unlock()
	for rank, ok := range wake {
		if ok {
			p.queue.sleepers.hand(memoryToken, p.ready[rank], rank, rank, p.offer)
		}
	}
	if passedOver {
		p.keeper.set(&p.alarm, now+int64(patience))
	}
}

// take is takeMemory for a consumer, which gets none of what nearer ones claim.
func (p *preference) take(c *consumer, into []entry) int {
	if c.rank == 0 {
		return p.queue.takeMemory(into, c.least())
	}
	now := p.keeper.clock.now()
	p.mu.Lock()
	n := min(p.unclaimedLocked(c.rank, now), int64(len(into)))
	p.reserved += n
	p.mu.Unlock()
	taken := 0
	if n > 0 {
		taken = p.queue.takeMemory(into[:n], c.least())
		p.mu.Lock()
		p.reserved -= n
		p.mu.Unlock()
	}
	p.offer() // what is left, which was not counted while it was reserved
	return taken
}

// unclaimedLocked is how many messages there are for a rank: what those before it
// have no room for and nobody has reserved.
func (p *preference) unclaimedLocked(rank int, now int64) int64 {
	most := int64(p.queue.memory.Len())
	claimed := p.reserved
	for _, list := range p.wanting[:rank] {
		for _, c := range list {
			if claimed >= most {
				return 0
			}
			claimed += c.claimLocked(now)
		}
	}
	// The length is looked at after the claims: what a consumer takes meanwhile
	// counts twice rather than not at all.
	return max(int64(p.queue.memory.Len())-claimed, 0)
}

// free is how many messages the preferred consumers would take at once, beyond
// those in the memory chan. So many may be added to it even where it is full: they
// are on their way to a consumer, which is no reason to write them to disk.
func (p *preference) free() int {
	now := p.keeper.clock.now()
	free := -int64(p.queue.memory.Len())
	p.mu.Lock()
	for _, list := range p.wanting[:ranks-1] {
		for _, c := range list {
			free += c.claimLocked(now)
		}
	}
	p.mu.Unlock()
	return int(max(free, 0))
}

// claimLocked is how many messages are kept for the consumer: its room, unless it
// is stuck. The preference must be locked.
func (c *consumer) claimLocked(now int64) int64 {
	if c.stuckLocked(now) {
		return 0
	}
	return max(c.room(), 0)
}

// stuckLocked reports whether one write to the client has been under way for
// patience, as far as was noticed. The preference must be locked.
func (c *consumer) stuckLocked(now int64) bool {
	n := c.out.writes.Load()
	if n%2 == 0 {
		return false
	}
	if n != c.write {
		c.write, c.writeSeen = n, now
	}
	return now-c.writeSeen >= int64(patience)
}
