package nsqd

import (
	"cmp"
	"maps"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/nsq-suite/nsq/internal/version"
)

// stats is what /stats tells, gathered at one time from counters that go on
// moving: sums may be off by what happened meanwhile. Whether a list without
// elements is nil (null in JSON) or empty ([]) is part of the format. Source: nsqd
// HTTP API, /stats.
type stats struct {
	Version   string        `json:"version"`
	Health    string        `json:"health"`     // "OK", or "NOK - " and the error
	StartTime int64         `json:"start_time"` // seconds since 1970
	Topics    []topicStats  `json:"topics"`     // nil where a topic was asked for that is not there
	Memory    *memoryStats  `json:"memory,omitempty"`
	Producers []clientStats `json:"producers"`       // nil for none
	Drain     *drainStatus  `json:"drain,omitempty"` // nil while none is under way
}

// topicStats is one topic: what waits in the topic itself, and its channels.
// Depths count messages; counters start at 0 with the process.
type topicStats struct {
	Name         string         `json:"topic_name"`
	Channels     []channelStats `json:"channels"`
	Depth        int64          `json:"depth"`         // in memory and on disk
	BackendDepth int64          `json:"backend_depth"` // on disk
	Messages     uint64         `json:"message_count"` // published
	Bytes        uint64         `json:"message_bytes"` // of their bodies
	Paused       bool           `json:"paused"`
	Latency      latencyStats   `json:"e2e_processing_latency"`
	damageStats

	of *Topic
}

// channelStats is one channel of a topic.
type channelStats struct {
	Name         string `json:"channel_name"`
	Depth        int64  `json:"depth"` // in memory and on disk; neither in flight nor deferred
	BackendDepth int64  `json:"backend_depth"`
	InFlight     int64  `json:"in_flight_count"`
	Deferred     int64  `json:"deferred_count"`
	Messages     uint64 `json:"message_count"` // received from the topic
	placeCounts
	Requeued    uint64        `json:"requeue_count"` // by REQ
	Timeouts    uint64        `json:"timeout_count"` // messages not answered in time
	ClientCount int           `json:"client_count"`  // consumers, also where Clients is nil
	Clients     []clientStats `json:"clients"`       // nil where they were not asked for
	Paused      bool          `json:"paused"`
	Latency     latencyStats  `json:"e2e_processing_latency"`
	damageStats

	of *Channel
}

// damageStats is what was found damaged in the queue's files since the process
// started: copied aside, to files that end in ".bad", and logged. Upstream has no
// such keys; they are left out where there is nothing to tell.
type damageStats struct {
	DamagedRecords int64 `json:"disk_damaged_records,omitempty"` // places, of one or more records each
	DamagedBytes   int64 `json:"disk_damaged_bytes,omitempty"`   // at those places
	DamagedFiles   int64 `json:"disk_damaged_files,omitempty"`   // missing, cut short or unreadable as a whole
}

func (d *damageStats) add(other damageStats) {
	d.DamagedRecords += other.DamagedRecords
	d.DamagedBytes += other.DamagedBytes
	d.DamagedFiles += other.DamagedFiles
}

func (q *queue) damageStats() damageStats {
	d := q.damage()
	return damageStats{d.Records, d.Bytes, d.Files}
}

// placeCounts are deliveries that did not come from disk, by where they went to;
// all to Global without the experiment.
type placeCounts struct {
	Zone   uint64 `json:"zone_local_msg_count,omitempty"`
	Region uint64 `json:"region_local_msg_count,omitempty"`
	Global uint64 `json:"global_msg_count,omitempty"`
}

// placeCounts is what the consumer was delivered, by where it is. There is nothing
// without the experiment: then these fields are not in /stats.
func (c *consumer) placeCounts() (counts placeCounts) {
	if c.channel.env.topology == nil {
		return counts
	}
	n := c.fromMemory.Load()
	switch c.place {
	case inZone:
		counts.Zone = n
	case inRegion:
		counts.Region = n
	default:
		counts.Global = n
	}
	return counts
}

// clientStats is one TCP client, as a consumer of a channel or as a producer.
type clientStats struct {
	ClientID      string `json:"client_id"`
	Hostname      string `json:"hostname"`
	Version       string `json:"version"` // of the protocol
	RemoteAddress string `json:"remote_address"`
	State         int32  `json:"state"` // 0 init, 3 subscribed, 4 closing
	Ready         int64  `json:"ready_count"`
	InFlight      int64  `json:"in_flight_count"`
	Messages      uint64 `json:"message_count"` // delivered to it
	placeCounts
	Finished       uint64     `json:"finish_count"`
	Requeued       uint64     `json:"requeue_count"`
	Connected      int64      `json:"connect_ts"` // seconds since 1970
	SampleRate     int32      `json:"sample_rate"`
	Deflate        bool       `json:"deflate"`
	Snappy         bool       `json:"snappy"`
	UserAgent      string     `json:"user_agent"`
	Authed         bool       `json:"authed,omitempty"`
	AuthIdentity   string     `json:"auth_identity,omitempty"`
	AuthURL        string     `json:"auth_identity_url,omitempty"`
	TopologyZone   string     `json:"topology_zone"`
	TopologyRegion string     `json:"topology_region"`
	PubCounts      []pubCount `json:"pub_counts,omitempty"`
	TLS            bool       `json:"tls"`
	TLSCipherSuite string     `json:"tls_cipher_suite"`
	TLSVersion     string     `json:"tls_version"`
	TLSProtocol    string     `json:"tls_negotiated_protocol"`
	TLSMutual      bool       `json:"tls_negotiated_protocol_is_mutual"`
}

// A pubCount is how many messages a client has published to one topic.
type pubCount struct {
	Topic string `json:"topic"`
	Count uint64 `json:"count"`
}

// latencyStats is how long messages took from publish to FIN.
type latencyStats struct {
	Count       int          `json:"count"`
	Percentiles []percentile `json:"percentiles"` // nil while none are configured
}

// A percentile says that a share of Quantile (0 to 1) took at most Value
// nanoseconds. Tools decode it as a map from string to number: no other kind of
// field may join.
type percentile struct {
	Quantile float64 `json:"quantile"`
	Value    float64 `json:"value"`
}

// memoryStats is what the Go runtime says of its heap. Pauses are in
// microseconds, percentiles of the last 256 collections at most.
type memoryStats struct {
	HeapObjects       uint64 `json:"heap_objects"`
	HeapIdleBytes     uint64 `json:"heap_idle_bytes"`
	HeapInUseBytes    uint64 `json:"heap_in_use_bytes"`
	HeapReleasedBytes uint64 `json:"heap_released_bytes"`
	GCPauseUsec100    uint64 `json:"gc_pause_usec_100"`
	GCPauseUsec99     uint64 `json:"gc_pause_usec_99"`
	GCPauseUsec95     uint64 `json:"gc_pause_usec_95"`
	NextGCBytes       uint64 `json:"next_gc_bytes"`
	GCTotalRuns       uint64 `json:"gc_total_runs"`
}

// A statsFilter says what to gather.
type statsFilter struct {
	topic   string // only this one; "" for all
	channel string // only this one, and only topics that have it; "" for all
	clients bool
	memory  bool
	latency bool // percentiles, which take a while
}

// stats gathers what f asks for. Topics, channels and clients are in a stable
// order. No lock is held for longer than it takes to copy a list.
func (n *NSQD) stats(f statsFilter) *stats {
	s := &stats{Version: version.Number, Health: n.health.String(), StartTime: n.started.Unix()}
	if !n.drain.started().IsZero() {
		status := n.drain.status()
		s.Drain = &status
	}
	if f.memory {
		s.Memory = readMemory()
	}
	var topics []*Topic
	if f.topic == "" {
		topics = n.topicList()
	} else if t := n.existingTopic(f.topic); t != nil {
		topics = []*Topic{t}
	} else {
		return s
	}
	s.Topics = make([]topicStats, 0, len(topics))
	for _, t := range topics {
		if ts, ok := t.stats(f); ok {
			s.Topics = append(s.Topics, ts)
		}
	}
	if f.clients {
		s.Producers = producers(n.conns.clients(), f.topic)
	}
	return s
}

// stats gathers one topic; ok is false if it has not the channel asked for.
func (t *Topic) stats(f statsFilter) (s topicStats, ok bool) {
	var channels []*Channel
	if f.channel == "" {
		channels = t.channelList()
	} else if c := t.existingChannel(f.channel); c != nil {
		channels = []*Channel{c}
	} else {
		return s, false
	}
	s = topicStats{
		Name:     t.name,
		Channels: make([]channelStats, 0, len(channels)),
		Messages: t.messages.Load(),
		Bytes:    t.bytes.Load(),
		Paused:   t.isPaused(),
		of:       t,

		damageStats: t.queue.damageStats(),
	}
	if f.latency && t.env.latencyWindow > 0 {
		s.Latency = t.latencyStats()
	}
	s.Depth, s.BackendDepth = t.queue.depths()
	for _, c := range channels {
		s.Channels = append(s.Channels, c.stats(f))
	}
	return s, true
}

// latencyStats is the latency of all channels together; nothing without any.
func (t *Topic) latencyStats() latencyStats {
	channels := t.channelList()
	if len(channels) == 0 {
		return latencyStats{}
	}
	return latencies(t.env.quantiles, channels...)
}

func (c *Channel) stats(f statsFilter) channelStats {
	consumers := c.consumerList()
	s := channelStats{
		Name:     c.name,
		InFlight: c.inFlightCount(),
		Deferred: c.deferred.Len(),
		Messages: c.messages.Load(),
		placeCounts: placeCounts{
			Zone:   c.fromMemory[inZone].Load(),
			Region: c.fromMemory[inRegion].Load(),
			Global: c.fromMemory[elsewhere].Load(),
		},
		Requeued:    c.requeued.Load(),
		Timeouts:    c.timeouts.Load(),
		ClientCount: len(consumers),
		Paused:      c.paused.Load(),
		of:          c,
		damageStats: c.queue.damageStats(),
	}
	if f.latency && c.latency != nil {
		s.Latency = latencies(c.env.quantiles, c)
	}
	s.Depth, s.BackendDepth = c.queue.depths()
	if f.clients {
		clients := make([]*conn, len(consumers))
		for i, con := range consumers {
			clients[i] = con.conn
		}
		s.Clients = make([]clientStats, 0, len(clients))
		for _, client := range inOrder(clients) {
			s.Clients = append(s.Clients, client.stats(f.topic))
		}
	}
	return s
}

// producers gathers those of clients that have published; nil for none.
func producers(clients []*conn, topic string) (list []clientStats) {
	for _, c := range inOrder(clients) {
		if c.hasPublished() {
			list = append(list, c.stats(topic))
		}
	}
	return list
}

// inOrder sorts clients so that they come in the same order every time.
func inOrder(clients []*conn) []*conn {
	slices.SortFunc(clients, func(a, b *conn) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), a.started.Compare(b.started))
	})
	return clients
}

// stats gathers one client; of what it has published to which topic, only the
// given one unless that is "".
func (c *conn) stats(topic string) clientStats {
	settings := c.settings.Load()
	s := clientStats{
		ClientID:       settings.clientID,
		Hostname:       settings.hostname,
		Version:        "V2",
		RemoteAddress:  c.addr,
		State:          c.state.Load(),
		Messages:       c.messages.Load(),
		Finished:       c.finished.Load(),
		Requeued:       c.requeued.Load(),
		Connected:      c.started.Unix(),
		SampleRate:     settings.sampleRate,
		UserAgent:      settings.userAgent,
		TopologyZone:   settings.topologyZone,
		TopologyRegion: settings.topologyRegion,
	}
	if grant := c.grant.Load(); grant != nil {
		s.Authed, s.AuthIdentity, s.AuthURL = true, grant.Identity, grant.IdentityURL
	}
	c.layers.Load().stats(&s)
	if con := c.consumer.Load(); con != nil {
		s.Ready = con.rdy.Load()
		s.InFlight = con.inFlight.Len()
		s.placeCounts = con.placeCounts()
	}
	counts := c.pubCountsCopy()
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if topic == "" || topic == name {
			s.PubCounts = append(s.PubCounts, pubCount{Topic: name, Count: counts[name]})
		}
	}
	return s
}

// readMemory asks the Go runtime, without stopping the world. So the number of
// objects leaves out the latest ones, which each processor still counts for
// itself.
func readMemory() *memoryStats {
	samples := []metrics.Sample{
		{Name: "/gc/heap/objects:objects"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/heap/goal:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // not known to this runtime
		}
		return samples[i].Value.Uint64()
	}
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	slices.Sort(gc.Pause)
	return &memoryStats{
		HeapObjects:       value(0),
		HeapIdleBytes:     value(1) + value(2),
		HeapInUseBytes:    value(3) + value(4),
		HeapReleasedBytes: value(2),
		GCPauseUsec100:    pausePercentile(100, gc.Pause),
		GCPauseUsec99:     pausePercentile(99, gc.Pause),
		GCPauseUsec95:     pausePercentile(95, gc.Pause),
		NextGCBytes:       value(5),
		GCTotalRuns:       uint64(gc.NumGC),
	}
}

// pausePercentile returns the given percentile of sorted pauses in microseconds.
// Source for the rounding: nsqd HTTP API, MEMORY.
func pausePercentile(percent int, sorted []time.Duration) uint64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min((percent*len(sorted)+50)/100, len(sorted)-1)
	return uint64(sorted[i].Microseconds())
}
