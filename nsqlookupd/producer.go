package nsqlookupd

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A producer is one identified connection of an nsqd. Two connections that
// announce the same address are two producers.
type producer struct {
	identity        // set once
	id       string // set once: remote ip:port
	json     []byte // set once: the object of /lookup without its closing brace
	seq      uint64 // set once, by registry.add: no other producer ever has it
	slot     uint32 // set once, by registry.add: no other producer has it at the same time

	lastUpdate atomic.Int64 // unix nanoseconds of IDENTIFY or the last PING

	mu       sync.Mutex
	topics   []*topic // where topic.slots has this producer, in no order
	channels int      // how many channels have this producer
	gone     bool     // leaveAll was called
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

// enter notes that the producer is now in topics more topics, t being one of
// them unless topics is 0, and in channels more channels. It refuses if that
// made more than limit registrations.
func (p *producer) enter(t *topic, topics, channels, limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.topics)+topics+p.channels+channels > limit {
		return false
	}
	if topics > 0 {
		p.topics = append(p.topics, t)
	}
	p.channels += channels
	return true
}

// leave notes that the producer is no longer in the topic, unless t is nil, and
// in channels fewer channels.
func (p *producer) leave(t *topic, channels int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return // HTTP deletes what a disconnect has not got to yet
	}
	p.channels -= channels
	if t == nil {
		return
	}
	if i := slices.Index(p.topics, t); i >= 0 {
		last := len(p.topics) - 1
		p.topics[i], p.topics[last] = p.topics[last], nil
		p.topics = p.topics[:last]
	}
}

// leaveAll notes that the producer is nowhere, and returns its topics.
func (p *producer) leaveAll() []*topic {
	p.mu.Lock()
	defer p.mu.Unlock()
	topics := p.topics
	p.topics, p.channels, p.gone = nil, 0, true
	return topics
}

// topicCount returns how many topics the producer has.
func (p *producer) topicCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.topics)
}

// registrations returns how many registrations the producer has.
func (p *producer) registrations() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.topics) + p.channels
}
