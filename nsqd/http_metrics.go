package nsqd

import (
	"time"

	"github.com/nsq-suite/nsq/internal/metrics"
)

// gatherMetrics adds what GET /metrics tells, in addition to what it tells of
// every program. It reads what /stats reads, and holds no lock for longer.
func (n *NSQD) gatherMetrics(s *metrics.Samples) {
	n.daemonMetrics(s)
	topics := n.topicList()
	s.Gauge("nsqd_topics", "Topics.").Add(float64(len(topics)), nil)
	omitted := 0
	if most := n.options().MetricsMaxTopics; most > 0 && len(topics) > most {
		omitted = len(topics) - most
		topics = topics[:most]
	}
	s.Gauge("nsqd_metrics_omitted_topics", "Topics that have no metrics of their own, the last by name, because of --metrics-max-topics.").Add(float64(omitted), nil)
	ofTopics, ofChannels := newTopicMetrics(s), newChannelMetrics(s)
	var damage damageStats
	for _, t := range topics {
		stats, _ := t.stats(statsFilter{})
		ofTopics.add(&stats)
		damage.add(stats.damageStats)
		for i := range stats.Channels {
			ofChannels.add(t.name, &stats.Channels[i])
			damage.add(stats.Channels[i].damageStats)
		}
	}
	damageMetrics(s, damage)
	if n.env.latencyWindow > 0 {
		latencyMetrics(s, topics)
	}
}

// daemonMetrics adds what is not of a topic.
func (n *NSQD) daemonMetrics(s *metrics.Samples) {
	s.Gauge("nsqd_ready", "Whether this nsqd should be given work, as /health/ready tells.").AddBool(len(n.notReady()) == 0, nil)
	s.Gauge("nsqd_draining", "Whether a drain is under way, after which this nsqd stops.").AddBool(!n.drain.started().IsZero(), nil)
	failing, failures := n.health.counts()
	s.Gauge("nsqd_failing_queues", "Queues of topics and channels that cannot store messages just now.").Add(float64(failing), nil)
	s.Counter("nsqd_disk_write_errors_total", "Writes to queues on disk that failed.").Add(float64(failures), nil)
	s.Counter("nsqd_disk_syncs_total", "Fsyncs of queue files.").Add(float64(n.syncs.count.Load()), nil)
	s.Counter("nsqd_disk_sync_errors_total", "Those of them that failed.").Add(float64(n.syncs.failed.Load()), nil)
	s.Counter("nsqd_disk_sync_seconds_total", "Time that fsyncs took.").Add(time.Duration(n.syncs.nanos.Load()).Seconds(), nil)

	open, accepted, refused := n.conns.counts()
	s.Gauge("nsqd_connections", "TCP connections of clients.").Add(float64(open), nil)
	s.Counter("nsqd_connections_accepted_total", "TCP connections that clients have made.").Add(float64(accepted), nil)
	s.Counter("nsqd_connections_refused_total", "TCP connections beyond --max-connections.").Add(float64(refused), nil)

	connected := s.Gauge("nsqd_lookupd_connected", "Whether this nsqd is connected to an nsqlookupd and has introduced itself.")
	for _, p := range n.lookup.peerList() {
		connected.AddBool(p.connected.Load(), metrics.NewLabels("lookupd", p.addr))
	}
	if n.statsd != nil {
		s.Counter("nsqd_statsd_send_errors_total", "Packets to statsd that could not be sent.").Add(float64(n.statsd.sendErrors.Load()), nil)
	}
}

// topicMetrics are the families that have one sample per topic.
type topicMetrics struct {
	messages, bytes, discarded, depth, backendDepth, paused *metrics.Family
}

func newTopicMetrics(s *metrics.Samples) topicMetrics {
	return topicMetrics{
		messages:     s.Counter("nsqd_topic_messages_total", "Messages published to the topic."),
		bytes:        s.Counter("nsqd_topic_message_bytes_total", "Bytes of their bodies."),
		discarded:    s.Counter("nsqd_topic_discarded_messages_total", "Messages dropped in the topic itself: it was emptied, or is ephemeral and was full."),
		depth:        s.Gauge("nsqd_topic_depth", "Messages waiting in the topic itself, in memory and on disk."),
		backendDepth: s.Gauge("nsqd_topic_backend_depth", "Those of them on disk."),
		paused:       s.Gauge("nsqd_topic_paused", "Whether the topic is paused."),
	}
}

func (m *topicMetrics) add(t *topicStats) {
	labels := metrics.NewLabels("topic", t.Name)
	m.messages.Add(float64(t.Messages), labels)
	m.bytes.Add(float64(t.Bytes), labels)
	m.discarded.Add(float64(t.of.queue.discarded.Load()), labels)
	m.depth.Add(float64(t.Depth), labels)
	m.backendDepth.Add(float64(t.BackendDepth), labels)
	m.paused.AddBool(t.Paused, labels)
}

// channelMetrics are the families that have one sample per channel.
type channelMetrics struct {
	messages, delivered, finished, requeued, timeouts, discarded *metrics.Family
	depth, backendDepth, inFlight, deferred, clients, paused     *metrics.Family
}

func newChannelMetrics(s *metrics.Samples) channelMetrics {
	return channelMetrics{
		messages:     s.Counter("nsqd_channel_messages_total", "Messages that the channel got from its topic."),
		delivered:    s.Counter("nsqd_channel_deliveries_total", "Messages sent to consumers, each time anew."),
		finished:     s.Counter("nsqd_channel_finished_messages_total", "Messages that consumers have finished (FIN)."),
		requeued:     s.Counter("nsqd_channel_requeues_total", "Messages that consumers have given back (REQ)."),
		timeouts:     s.Counter("nsqd_channel_timeouts_total", "Messages that consumers have not answered in time."),
		discarded:    s.Counter("nsqd_channel_discarded_messages_total", "Messages dropped: the channel was emptied, is ephemeral and was full, or its consumers take a sample only."),
		depth:        s.Gauge("nsqd_channel_depth", "Messages waiting in the channel, in memory and on disk, neither in flight nor deferred."),
		backendDepth: s.Gauge("nsqd_channel_backend_depth", "Those of them on disk."),
		inFlight:     s.Gauge("nsqd_channel_in_flight_messages", "Messages sent to consumers and not answered yet."),
		deferred:     s.Gauge("nsqd_channel_deferred_messages", "Messages that wait for their time."),
		clients:      s.Gauge("nsqd_channel_clients", "Consumers of the channel."),
		paused:       s.Gauge("nsqd_channel_paused", "Whether the channel is paused."),
	}
}

func (m *channelMetrics) add(topic string, c *channelStats) {
	labels := metrics.NewLabels("channel", c.Name, "topic", topic)
	delivered, finished := c.of.answered()
	m.messages.Add(float64(c.Messages), labels)
	m.delivered.Add(float64(delivered), labels)
	m.finished.Add(float64(finished), labels)
	m.requeued.Add(float64(c.Requeued), labels)
	m.timeouts.Add(float64(c.Timeouts), labels)
	m.discarded.Add(float64(c.of.queue.discarded.Load()+c.of.sampledOut.Load()+c.of.duplicates.Load()), labels)
	m.depth.Add(float64(c.Depth), labels)
	m.backendDepth.Add(float64(c.BackendDepth), labels)
	m.inFlight.Add(float64(c.InFlight), labels)
	m.deferred.Add(float64(c.Deferred), labels)
	m.clients.Add(float64(c.ClientCount), labels)
	m.paused.AddBool(c.Paused, labels)
}

// damageMetrics adds what was found damaged in the files of all queues that are
// shown. Gauges, since a queue that is deleted takes its part with it.
func damageMetrics(s *metrics.Samples, d damageStats) {
	s.Gauge("nsqd_disk_damaged_records", "Places in queue files, of one or more records each, that were found damaged and set aside.").Add(float64(d.DamagedRecords), nil)
	s.Gauge("nsqd_disk_damaged_bytes", "Bytes at those places.").Add(float64(d.DamagedBytes), nil)
	s.Gauge("nsqd_disk_damaged_files", "Queue files found missing, cut short or unreadable as a whole.").Add(float64(d.DamagedFiles), nil)
}

// latencyMetrics adds how long messages took from publish to FIN.
func latencyMetrics(s *metrics.Samples, topics []*Topic) {
	family := s.Histogram("nsqd_channel_e2e_processing_latency_seconds", "Time from the publish of a message to its FIN.")
	for _, t := range topics {
		for _, c := range t.channelList() {
			totals := c.latency.since()
			family.AddHistogram(latencyBounds[:], totals.counts[:], totals.sum, metrics.NewLabels("channel", c.name, "topic", t.name))
		}
	}
}
