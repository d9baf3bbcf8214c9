package nsqlookupd

import (
	"iter"
	"slices"
	"strings"
)

// A topicList is all topics by name, as of a value of registry.changes.
type topicList struct {
	changes int64
	topics  []*topic
}

// sortedTopics returns all topics by name, not to be modified. It is made anew
// only after a topic has come or gone. Topics may go while the list is in use;
// they have no producers and channels then.
func (r *registry) sortedTopics() []*topic {
	changes := r.changes.Load()
	if last := r.sorted.Load(); last != nil && last.changes == changes {
		return last.topics
	}
	var topics []*topic
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, t := range s.topics {
			topics = append(topics, t)
		}
		s.mu.RUnlock()
	}
	slices.SortFunc(topics, func(a, b *topic) int { return strings.Compare(a.name, b.name) })
	// If a topic came or went meanwhile, the next call finds an old number.
	r.sorted.Store(&topicList{changes, topics})
	return topics
}

// channelNames returns the sorted names of the channels of a topic and whether
// the topic is there.
func (r *registry) channelNames(topicName string) (names []string, ok bool) {
	s := r.shard(topicName)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.topics[topicName]
	if t == nil {
		return nil, false
	}
	return t.channelNames(), true
}

// lookup returns the sorted names of the channels of a topic, its producers
// that are active and not tombstoned, and whether the topic is there.
func (r *registry) lookup(topicName string) (channels []string, producers []*producer, ok bool) {
	s := r.shard(topicName)
	now := r.now()
	s.mu.RLock()
	t := s.topics[topicName]
	if t == nil {
		s.mu.RUnlock()
		return nil, nil, false
	}
	channels = t.channelNames()
	producers = make([]*producer, 0, len(t.slots))
	for _, slot := range t.slots {
		if p := r.at(slot); !t.isTombstoned(p, now, int64(r.lifetime)) {
			producers = append(producers, p)
		}
	}
	s.mu.RUnlock()
	producers = slices.DeleteFunc(producers, func(p *producer) bool { return !p.isActive(now, r.inactive) })
	return channels, producers, true
}

// allProducers returns the producers there are, in the order of
// compareProducers, and how many values producer.slot has.
func (r *registry) allProducers() (producers []*producer, slots uint32) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.producers), r.slots
}

// A nodeList is the active producers and the topics of each.
type nodeList struct {
	producers []*producer // in the order of compareProducers
	topics    []*topic    // all there are, by name
	noted     [][]uint32  // by producer.slot: twice the place in topics, plus 1 where it is tombstoned

	names, nameBytes int // how many topics all nodes have together, and the length of their names
}

// nodes returns the active producers and the topics of each. What comes or goes
// meanwhile may be left out.
//
// It goes through all topics in their order and notes each with its producers:
// nothing has to be sorted for that, and no lock is held for longer than it
// takes for one topic.
func (r *registry) nodes() *nodeList {
	now := r.now()
	producers, slots := r.allProducers()
	owners := make([]*producer, slots)
	l := &nodeList{topics: r.sortedTopics(), noted: make([][]uint32, slots)}
	l.producers = slices.DeleteFunc(producers, func(p *producer) bool { return !p.isActive(now, r.inactive) })
	for _, p := range l.producers {
		owners[p.slot] = p
		l.noted[p.slot] = make([]uint32, 0, p.topicCount())
	}
	for i, t := range l.topics {
		t.shard.mu.RLock()
		for _, slot := range t.slots {
			p := r.at(slot)
			if int(slot) >= len(owners) || owners[slot] != p {
				continue // it came later, or is not active
			}
			note := uint32(2 * i)
			if t.isTombstoned(p, now, int64(r.lifetime)) {
				note++
			}
			l.noted[slot] = append(l.noted[slot], note)
			l.names++
			l.nameBytes += len(t.name)
		}
		t.shard.mu.RUnlock()
	}
	return l
}

// A nodeTopic is one topic of a node, and whether the node is tombstoned there.
type nodeTopic struct {
	name       string
	tombstoned bool
}

// all walks over the producers and the topics of each, sorted by name. The topics
// are valid until the next step.
func (l *nodeList) all() iter.Seq2[*producer, []nodeTopic] {
	return func(yield func(*producer, []nodeTopic) bool) {
		var topics []nodeTopic
		for _, p := range l.producers {
			topics = topics[:0]
			for _, note := range l.noted[p.slot] {
				topics = append(topics, nodeTopic{l.topics[note/2].name, note%2 == 1})
			}
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
// "<category>:<key>:<subkey>". No lock is held for longer than it takes for one
// topic.
func (r *registry) entries() map[string][]entry {
	all := map[string][]entry{}
	producers, _ := r.allProducers()
	for _, p := range producers {
		all["client::"] = append(all["client::"], entry{producer: p})
	}
	for _, t := range r.sortedTopics() {
		t.shard.mu.RLock()
		if len(t.slots) > 0 {
			list := make([]entry, len(t.slots))
			for i, slot := range t.slots {
				p := r.at(slot)
				list[i] = entry{p, t.tombstones[p]}
			}
			all["topic:"+t.name+":"] = list
		}
		for _, c := range t.channels {
			list := make([]entry, 0, len(c.slots))
			for _, slot := range t.slots {
				if p := r.at(slot); c.has(p) {
					list = append(list, entry{producer: p})
				}
			}
			if len(list) > 0 {
				all["channel:"+t.name+":"+c.name] = list
			}
		}
		t.shard.mu.RUnlock()
	}
	return all
}

// totals are how much there is in the registry.
type totals struct {
	producers, active int
	topics, unused    int // unused: without a producer
	channels          int
	registrations     int // of all producers in topics and channels
	tombstoned        int // producers that a tombstone hides, in each topic
}

func (r *registry) totals() (t totals) {
	now := r.now()
	producers, _ := r.allProducers()
	t.producers = len(producers)
	for _, p := range producers {
		t.active += count(p.isActive(now, r.inactive))
		t.registrations += p.registrations()
	}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		t.topics += len(s.topics)
		for _, topic := range s.topics {
			t.unused += count(len(topic.slots) == 0)
			t.channels += len(topic.channels)
			for p := range topic.tombstones {
				t.tombstoned += count(topic.isTombstoned(p, now, int64(r.lifetime)))
			}
		}
		s.mu.RUnlock()
	}
	return t
}
