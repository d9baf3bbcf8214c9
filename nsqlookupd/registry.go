package nsqlookupd

import (
	"errors"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// registry is the registration database: which producers announce which topics
// and channels. It is indexed both ways: a query costs what it returns, and the
// end of a connection costs what its producer had registered.
//
// Topics and channels stay when their last producer goes, except ephemeral
// ones, which go with it. Source of the rules: nsqlookupd spec, section 5.
// Methods may overlap, but for those that take a producer: they are called by
// the goroutine of its connection.
type registry struct {
	registryConfig
	seed   maphash.Seed // set once
	shards [shardCount]shard

	// Topics and channels there are, against maxKeys.
	keys atomic.Int64

	// changes counts the comings and goings of topics; sorted is the last list
	// made of them, see sortedTopics.
	changes atomic.Int64
	sorted  atomic.Pointer[topicList]

	// bySlot is the producer that has each slot, nil for a free one. An element is
	// written under mu, before its producer is in any topic and after it is in none:
	// it may be read under the lock of a shard for a slot that is in a topic there.
	bySlot atomic.Pointer[[]*producer]

	mu        sync.RWMutex
	producers []*producer // in the order of compareProducers
	lastSeq   uint64      // the highest producer.seq given out
	slots     uint32      // how many values of producer.slot have been given out
	freeSlots []uint32    // those of them that are free again
}

// A registryConfig is what the registry takes from the options.
type registryConfig struct {
	inactive time.Duration // Options.InactiveProducerTimeout
	lifetime time.Duration // Options.TombstoneLifetime

	maxKeys        int // Options.MaxRegistrations
	maxPerProducer int // Options.MaxRegistrationsPerConnection

	now func() int64 // unix nanoseconds
}

// A shard is the topics whose names have the same hash, so that what goes on in
// one topic seldom waits for another.
type shard struct {
	mu     sync.RWMutex // guards the topics too
	topics map[string]*topic
	_      [64]byte // neighbours are locked by other processors
}

const shardCount = 64

// What register says of a limit that is reached.
var (
	errRegistryFull = errors.New("nsqlookupd holds too many topics and channels")
	errProducerFull = errors.New("too many registrations on this connection")
)

// newRegistry returns an empty registry. Limits that are not above 0 do not
// limit.
func newRegistry(config registryConfig) *registry {
	if config.maxKeys <= 0 {
		config.maxKeys = math.MaxInt
	}
	if config.maxPerProducer <= 0 {
		config.maxPerProducer = math.MaxInt
	}
	r := &registry{registryConfig: config, seed: maphash.MakeSeed()}
	r.bySlot.Store(new([]*producer))
	for i := range r.shards {
		r.shards[i].topics = map[string]*topic{}
	}
	return r
}

// at returns the producer that has the slot, see bySlot.
func (r *registry) at(slot uint32) *producer { return (*r.bySlot.Load())[slot] }

// shard returns where the topic is, or would be.
func (r *registry) shard(topicName string) *shard {
	return &r.shards[maphash.String(r.seed, topicName)%shardCount]
}

// reserve counts n topics and channels to come, unless there were too many then.
func (r *registry) reserve(n int) bool {
	if n == 0 {
		return true
	}
	if r.keys.Add(int64(n)) > int64(r.maxKeys) {
		r.release(n)
		return false
	}
	return true
}

// release counts n topics and channels that are gone.
func (r *registry) release(n int) {
	if n != 0 {
		r.keys.Add(-int64(n))
	}
}

// add makes the producer a node. It comes before all other calls for it.
func (r *registry) add(p *producer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeq++
	p.seq = r.lastSeq
	if last := len(r.freeSlots) - 1; last >= 0 {
		p.slot = r.freeSlots[last]
		r.freeSlots = r.freeSlots[:last]
	} else {
		p.slot = r.slots
		r.slots++
	}
	table := *r.bySlot.Load()
	if int(p.slot) >= len(table) {
		table = append(table, make([]*producer, max(16, len(table)))...)
		r.bySlot.Store(&table)
	}
	table[p.slot] = p
	i, _ := slices.BinarySearchFunc(r.producers, p, compareProducers)
	r.producers = slices.Insert(r.producers, i, p)
}

// register enters the producer under the topic and, unless channel is empty, under
// the channel. It reports what was not there before. A tombstone stays. The error
// is errRegistryFull or errProducerFull; nothing has changed then. The names are
// not kept: most are known, and cost no memory then.
func (r *registry) register(p *producer, topicName, channelName []byte) (newInTopic, newInChannel bool, err error) {
	s := &r.shards[maphash.Bytes(r.seed, topicName)%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[string(topicName)]
	newTopic := t == nil
	if newTopic {
		t = &topic{name: string(topicName), shard: s}
	}
	place, there := r.findLocked(t, p)
	newInTopic = !there
	newChannel := false
	if len(channelName) > 0 {
		i, ok := findChannel(t, channelName)
		newChannel = !ok
		newInChannel = newChannel || !t.channels[i].has(p)
	}
	if !newInTopic && !newInChannel {
		return false, false, nil
	}
	keys := count(newTopic) + count(newChannel)
	if !r.reserve(keys) {
		return false, false, errRegistryFull
	}
	if !p.enter(t, count(newInTopic), count(newInChannel), r.maxPerProducer) {
		r.release(keys)
		return false, false, errProducerFull
	}
	if newTopic {
		r.addLocked(t)
	}
	if newInTopic {
		t.slots = slices.Insert(t.slots, place, p.slot)
		if len(t.departed) > 0 {
			t.restoreTombstone(p, r.now(), int64(r.lifetime))
		}
	}
	if newInChannel {
		addChannel(t, channelName).add(p)
	}
	return newInTopic, newInChannel, nil
}

// count is 1 for what is so and 0 for what is not, to count by adding.
func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// unregisterChannel takes the producer out of the channel and reports whether
// it was there. An ephemeral channel without a producer goes even if it was not:
// one that HTTP has made.
func (r *registry) unregisterChannel(p *producer, topicName, channelName string) bool {
	s := r.shard(topicName)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topicName]
	if t == nil {
		return false
	}
	i, ok := findChannel(t, channelName)
	if !ok {
		return false
	}
	was := t.channels[i].remove(p)
	if t.channels[i].isOver() {
		t.channels = slices.Delete(t.channels, i, i+1)
		r.release(1)
	}
	if was {
		p.leave(nil, 1)
	}
	return was
}

// unregisterTopic takes the producer out of the topic and all its channels. It
// returns the names of those channels and whether it was in the topic. An
// ephemeral topic without a producer goes even if it was not.
func (r *registry) unregisterTopic(p *producer, topicName string) (channels []string, wasInTopic bool) {
	s := r.shard(topicName)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topicName]
	if t == nil {
		return nil, false
	}
	was, gone := t.leaveChannels(p, func(name string) { channels = append(channels, name) })
	r.release(gone)
	wasInTopic = r.removeLocked(t, p)
	if !wasInTopic && t.isOver() {
		r.forgetLocked(t)
	}
	p.leave(t, was)
	return channels, wasInTopic
}

// disconnect removes the producer and all its registrations. If log is not nil,
// it is called for each of them, with no lock held.
func (r *registry) disconnect(p *producer, log func(topicName, channelName string)) {
	r.mu.Lock()
	if i, ok := slices.BinarySearchFunc(r.producers, p, compareProducers); ok {
		r.producers = slices.Delete(r.producers, i, i+1)
	}
	r.mu.Unlock()

	var channels []string
	var left func(name string)
	if log != nil {
		left = func(name string) { channels = append(channels, name) }
	}
	for _, t := range p.leaveAll() {
		channels = channels[:0]
		t.shard.mu.Lock()
		_, gone := t.leaveChannels(p, left)
		r.release(gone)
		if len(t.tombstones) > 0 {
			t.keepTombstone(p, r.now(), int64(r.lifetime))
		}
		was := r.removeLocked(t, p) // false if HTTP was faster to remove the topic
		t.shard.mu.Unlock()
		if log == nil || !was {
			continue
		}
		for _, name := range channels {
			log(t.name, name)
		}
		log(t.name, "")
	}

	r.mu.Lock() // only now: no topic and no channel has the slot any more
	(*r.bySlot.Load())[p.slot] = nil
	r.freeSlots = append(r.freeSlots, p.slot)
	r.mu.Unlock()
}

// createTopic adds the topic, without producers, if it is not there. The error is
// errRegistryFull.
func (r *registry) createTopic(topicName string) error { return r.create(topicName, "") }

// createChannel adds the channel and its topic, if they are not there. The error
// is errRegistryFull.
func (r *registry) createChannel(topicName, channelName string) error {
	return r.create(topicName, channelName)
}

func (r *registry) create(topicName, channelName string) error {
	s := r.shard(topicName)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topicName]
	newTopic := t == nil
	if newTopic {
		t = &topic{name: strings.Clone(topicName), shard: s}
	}
	newChannel := false
	if channelName != "" {
		_, known := findChannel(t, channelName)
		newChannel = !known
	}
	if !r.reserve(count(newTopic) + count(newChannel)) {
		return errRegistryFull
	}
	if newTopic {
		r.addLocked(t)
	}
	if newChannel {
		addChannel(t, channelName)
	}
	return nil
}

// deleteTopic removes the topic with its channels, whoever is registered there.
// It returns the names of the channels and whether the topic was there.
func (r *registry) deleteTopic(topicName string) (channels []string, existed bool) {
	s := r.shard(topicName)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topicName]
	if t == nil {
		return nil, false
	}
	channels = t.channelNames()
	for _, slot := range t.slots {
		p := r.at(slot)
		was := 0
		for _, c := range t.channels {
			if c.has(p) {
				was++
			}
		}
		p.leave(t, was)
	}
	r.forgetLocked(t)
	return channels, true
}

// deleteChannel removes the channel, whoever is registered there, and reports
// whether it was there.
func (r *registry) deleteChannel(topicName, channelName string) bool {
	s := r.shard(topicName)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topicName]
	if t == nil {
		return false
	}
	i, ok := findChannel(t, channelName)
	if !ok {
		return false
	}
	for _, slot := range t.slots {
		p := r.at(slot)
		if t.channels[i].has(p) {
			p.leave(nil, 1)
		}
	}
	t.channels = slices.Delete(t.channels, i, i+1)
	r.release(1)
	return true
}

// tombstone marks the producers of the topic that node names, see
// producer.isNode, and returns how many it names.
func (r *registry) tombstone(topicName, node string) (marked int) {
	s := r.shard(topicName)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[topicName]
	if t == nil {
		return 0
	}
	now := r.now()
	for _, slot := range t.slots {
		p := r.at(slot)
		if p.isNode(node) {
			t.setTombstone(p, now)
			marked++
		}
	}
	return marked
}

// forgetUnused removes the topics that have had no producer for as long as
// lifetime, and returns their names.
func (r *registry) forgetUnused(lifetime time.Duration) (names []string) {
	now := r.now()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, t := range s.topics {
			if len(t.slots) == 0 && now-t.unusedSince >= int64(lifetime) {
				names = append(names, t.name)
				r.forgetLocked(t)
			}
		}
		s.mu.Unlock()
	}
	return names
}

// findLocked returns the place of the producer among those of the topic, and whether
// it is there.
func (r *registry) findLocked(t *topic, p *producer) (int, bool) {
	return slices.BinarySearchFunc(t.slots, p, func(slot uint32, p *producer) int { return compareProducers(r.at(slot), p) })
}

// addLocked puts a topic into its shard. Its key is reserved already.
func (r *registry) addLocked(t *topic) {
	t.shard.topics[t.name] = t
	t.unusedSince = r.now()
	r.changes.Add(1)
}

// removeLocked takes the producer out of the topic, and the topic out of the
// registry if it is ephemeral and has no producer left. It reports whether the
// producer was there. What the producer knows of it is up to the caller.
func (r *registry) removeLocked(t *topic, p *producer) bool {
	i, ok := r.findLocked(t, p)
	if !ok {
		return false
	}
	t.slots = slices.Delete(t.slots, i, i+1)
	delete(t.tombstones, p)
	if len(t.slots) == 0 {
		t.slots = nil // gives the memory back
		t.unusedSince = r.now()
		if t.isOver() {
			r.forgetLocked(t)
		}
	}
	return true
}

// forgetLocked takes a topic that is in the registry out of it, with its
// channels.
func (r *registry) forgetLocked(t *topic) {
	r.release(1 + len(t.channels))
	delete(t.shard.topics, t.name)
	t.slots, t.channels = nil, nil // a query may have found it just before
	r.changes.Add(1)
}
