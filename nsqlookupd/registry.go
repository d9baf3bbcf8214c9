package nsqlookupd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// registry is the registration database: which producers announce which topics
// and channels. It is indexed both ways: a query costs what it returns, and the
// end of a connection costs what its producer had registered.
//
// Topics and channels stay when their last producer goes, except ephemeral
// ones, which go with it. Source of the rules: nsqlookupd spec, section 5.
// Methods may overlap.
type registry struct {
	// mu guards everything below but what a type marks otherwise. Queries hold
	// it to copy pointers and names and render after letting go of it.
	mu        sync.RWMutex
	producers []*producer // in the order of compareProducers
	topics    map[string]*topic
	names     []string // sorted names of the topics; nil after a change
	changes   int      // counts what sets names to nil
	lastSeq   uint64   // the highest producer.seq given out
}

// A producer is one identified connection of an nsqd. Two connections that
// announce the same address are two producers.
type producer struct {
	identity                // set once
	id         string       // set once: remote ip:port
	json       []byte       // set once: the object of /lookup without its closing brace
	seq        uint64       // set once, by registry.add
	lastUpdate atomic.Int64 // unix nanoseconds of IDENTIFY or the last PING

	// Guarded by registry.mu.
	topics   []*topic   // where topic.producers has this producer, in no order
	channels []*channel // where channel.producers has this producer, in no order
}

// identity is what an nsqd says of itself in IDENTIFY.
type identity struct {
	Hostname         string `json:"hostname"`
	BroadcastAddress string `json:"broadcast_address"`
	TCPPort          int    `json:"tcp_port"`
	HTTPPort         int    `json:"http_port"`
	Version          string `json:"version"`
	TopologyZone     string `json:"topology_zone"`
	TopologyRegion   string `json:"topology_region"`
}

func newRegistry() *registry {
	return &registry{topics: map[string]*topic{}}
}

// newProducer returns a producer that is in no registry yet. now is in unix
// nanoseconds.
func newProducer(id string, who identity, now int64) *producer {
	object, err := json.Marshal(struct {
		RemoteAddress string `json:"remote_address"`
		identity
	}{id, who})
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	p := &producer{identity: who, id: id, json: slices.Clip(object[:len(object)-1])}
	p.lastUpdate.Store(now)
	return p
}

// compareProducers orders producers so that lists look the same each time and,
// but for several connections of one nsqd, on every nsqlookupd.
func compareProducers(a, b *producer) int {
	if a == b {
		return 0
	}
	return cmp.Or(
		strings.Compare(a.BroadcastAddress, b.BroadcastAddress),
		cmp.Compare(a.TCPPort, b.TCPPort),
		cmp.Compare(a.HTTPPort, b.HTTPPort),
		cmp.Compare(a.seq, b.seq), // not the id: a new connection may have it before the old one is cleaned up
	)
}

// isActive reports whether the producer gave a sign of life within timeout.
func (p *producer) isActive(now int64, timeout time.Duration) bool {
	return now-p.lastUpdate.Load() <= int64(timeout)
}

// isNode reports whether node, "<broadcast address>:<HTTP port>", names the
// producer. Tools put an IPv6 address in brackets, which upstream's form lacks;
// both are understood.
func (p *producer) isNode(node string) bool {
	host, ok := strings.CutSuffix(node, ":"+strconv.Itoa(p.HTTPPort))
	return ok && (host == p.BroadcastAddress || host == "["+p.BroadcastAddress+"]")
}

// add makes the producer a node. It comes before all other calls for it.
func (r *registry) add(p *producer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeq++
	p.seq = r.lastSeq
	r.producers, _ = insertProducer(r.producers, p)
}

// register enters the producer under the topic and, unless channel is "", under
// the channel. It reports what was not there before. A tombstone stays.
func (r *registry) register(p *producer, topicName, channelName string) (newInTopic, newInChannel bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topicLocked(topicName)
	if t.producers, newInTopic = insertProducer(t.producers, p); newInTopic {
		p.topics = append(p.topics, t)
	}
	if channelName == "" {
		return newInTopic, false
	}
	c := t.channel(channelName)
	if c.producers, newInChannel = insertProducer(c.producers, p); newInChannel {
		p.channels = append(p.channels, c)
	}
	return newInTopic, newInChannel
}

// unregisterChannel takes the producer out of the channel and reports whether
// it was there.
func (r *registry) unregisterChannel(p *producer, topicName, channelName string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topicName]
	if t == nil {
		return false
	}
	c := t.existingChannel(channelName)
	if c == nil || !c.remove(p) {
		return false
	}
	p.channels = drop(p.channels, c)
	return true
}

// unregisterTopic takes the producer out of the topic and all its channels. It
// returns the names of those channels and whether it was in the topic.
func (r *registry) unregisterTopic(p *producer, topicName string) (channels []string, wasInTopic bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topicName]
	if t == nil {
		return nil, false
	}
	for _, c := range slices.Clone(t.channels) { // remove may take c out of t.channels
		if c.remove(p) {
			p.channels = drop(p.channels, c)
			channels = append(channels, c.name)
		}
	}
	if !r.removeLocked(t, p) {
		return channels, false
	}
	p.topics = drop(p.topics, t)
	return channels, true
}

// removalBatch is how many registrations of a producer are removed before other
// users of the registry get their turn.
const removalBatch = 256

// disconnect removes the producer and all its registrations. If log is not nil,
// it is called for each of them, with no lock held.
func (r *registry) disconnect(p *producer, log func(topicName, channelName string)) {
	r.mu.Lock()
	if i, ok := slices.BinarySearchFunc(r.producers, p, compareProducers); ok {
		r.producers = slices.Delete(r.producers, i, i+1)
	}
	r.mu.Unlock()

	type removal struct{ topic, channel string }
	removed := make([]removal, 0, removalBatch)
	for {
		removed = removed[:0]
		r.mu.Lock()
		for range removalBatch { // from the end: HTTP deletes may shorten the lists between batches
			if last := len(p.channels) - 1; last >= 0 {
				c := p.channels[last]
				p.channels = p.channels[:last]
				c.remove(p)
				removed = append(removed, removal{c.topic.name, c.name})
			} else if last := len(p.topics) - 1; last >= 0 {
				t := p.topics[last]
				p.topics = p.topics[:last]
				r.removeLocked(t, p)
				removed = append(removed, removal{t.name, ""})
			} else {
				break
			}
		}
		r.mu.Unlock()
		if len(removed) == 0 {
			return
		}
		if log != nil {
			for _, x := range removed {
				log(x.topic, x.channel)
			}
		}
	}
}

// createTopic adds the topic, without producers, if it is not there.
func (r *registry) createTopic(topicName string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.topicLocked(topicName)
}

// createChannel adds the channel and its topic, if they are not there.
func (r *registry) createChannel(topicName, channelName string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.topicLocked(topicName).channel(channelName)
}

// deleteTopic removes the topic with its channels, whoever is registered there.
// It returns the names of the channels and whether the topic was there.
func (r *registry) deleteTopic(topicName string) (channels []string, existed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topicName]
	if t == nil {
		return nil, false
	}
	for _, c := range t.channels {
		channels = append(channels, c.name)
	}
	r.forgetLocked(t)
	return channels, true
}

// deleteChannel removes the channel, whoever is registered there, and reports
// whether it was there.
func (r *registry) deleteChannel(topicName, channelName string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topicName]
	if t == nil {
		return false
	}
	c := t.existingChannel(channelName)
	if c == nil {
		return false
	}
	for _, p := range c.producers {
		p.channels = drop(p.channels, c)
	}
	t.channels = drop(t.channels, c)
	return true
}

// tombstone marks the producers of the topic that node names, see
// producer.isNode. now is in unix nanoseconds.
func (r *registry) tombstone(topicName, node string, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topicName]
	if t == nil {
		return
	}
	for _, p := range t.producers {
		if p.isNode(node) {
			if t.tombstones == nil {
				t.tombstones = map[*producer]int64{}
			}
			t.tombstones[p] = now
		}
	}
}

// topicNames returns the sorted names of all topics, not to be modified.
func (r *registry) topicNames() []string {
	r.mu.RLock()
	names, changes := r.names, r.changes
	sorted := names != nil
	if !sorted {
		names = slices.Collect(maps.Keys(r.topics))
	}
	r.mu.RUnlock()
	if sorted {
		return names
	}
	slices.Sort(names)
	r.mu.Lock()
	if r.changes == changes {
		r.names = names
	}
	r.mu.Unlock()
	return names
}

// channelNames returns the sorted names of the channels of a topic and whether
// the topic is there.
func (r *registry) channelNames(topicName string) (names []string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.topics[topicName]
	if t == nil {
		return nil, false
	}
	return t.channelNames(), true
}

// lookup returns the sorted names of the channels of a topic, its producers
// that are active and not tombstoned, and whether the topic is there.
func (r *registry) lookup(topicName string, now int64, inactive, lifetime time.Duration) (channels []string, producers []*producer, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.topics[topicName]
	if t == nil {
		return nil, nil, false
	}
	producers = make([]*producer, 0, len(t.producers))
	for _, p := range t.producers {
		if p.isActive(now, inactive) && !t.isTombstoned(p, now, lifetime) {
			producers = append(producers, p)
		}
	}
	return t.channelNames(), producers, true
}

// A nodeTopic is one topic of a node, and whether the node is tombstoned there.
type nodeTopic struct {
	name       string
	tombstoned bool
}

// nodes walks over the active producers and the topics of each, sorted by name.
// The topics are valid until the next step. A producer that disconnects during
// the walk may be left out; the lock is free between two steps.
func (r *registry) nodes(now int64, inactive, lifetime time.Duration) iter.Seq2[*producer, []nodeTopic] {
	return func(yield func(*producer, []nodeTopic) bool) {
		r.mu.RLock()
		producers := slices.Clone(r.producers)
		r.mu.RUnlock()
		var topics []nodeTopic
		for _, p := range producers {
			if !p.isActive(now, inactive) {
				continue
			}
			topics = topics[:0]
			r.mu.RLock()
			for _, t := range p.topics {
				topics = append(topics, nodeTopic{t.name, t.isTombstoned(p, now, lifetime)})
			}
			r.mu.RUnlock()
			slices.SortFunc(topics, func(a, b nodeTopic) int { return strings.Compare(a.name, b.name) })
			if !yield(p, topics) {
				return
			}
		}
	}
}

// An entry is one producer under one registration.
type entry struct {
	*producer
	tombstonedAt int64 // unix nanoseconds; 0: never
}

// entries returns all registrations that have producers, by
// "<category>:<key>:<subkey>". The lock is free between two topics.
func (r *registry) entries() map[string][]entry {
	all := map[string][]entry{}
	put := func(key string, producers []*producer, tombstones map[*producer]int64) {
		for _, p := range producers {
			all[key] = append(all[key], entry{p, tombstones[p]})
		}
	}
	r.mu.RLock()
	put("client::", r.producers, nil)
	r.mu.RUnlock()
	for _, name := range r.topicNames() {
		r.mu.RLock()
		if t := r.topics[name]; t != nil {
			put(fmt.Sprintf("topic:%s:", name), t.producers, t.tombstones)
			for _, c := range t.channels {
				put(fmt.Sprintf("channel:%s:%s", name, c.name), c.producers, nil)
			}
		}
		r.mu.RUnlock()
	}
	return all
}

// topicLocked returns the topic, which it adds if it is not there.
func (r *registry) topicLocked(name string) *topic {
	t := r.topics[name]
	if t == nil {
		t = &topic{name: strings.Clone(name)}
		r.topics[t.name] = t
		r.names = nil
		r.changes++
	}
	return t
}

// removeLocked takes the producer out of the topic, and the topic out of the
// registry if it is ephemeral and has no producer left. It reports whether the
// producer was there. The lists of the producer are up to the caller.
func (r *registry) removeLocked(t *topic, p *producer) bool {
	producers, ok := removeProducer(t.producers, p)
	if !ok {
		return false
	}
	t.producers = producers
	delete(t.tombstones, p)
	if len(producers) == 0 && protocol.IsEphemeral(t.name) {
		r.forgetLocked(t)
	}
	return true
}

// forgetLocked takes the topic out of the registry and out of its producers.
func (r *registry) forgetLocked(t *topic) {
	for _, p := range t.producers {
		p.topics = drop(p.topics, t)
		p.channels = slices.DeleteFunc(p.channels, func(c *channel) bool { return c.topic == t })
	}
	delete(r.topics, t.name)
	r.names = nil
	r.changes++
}
