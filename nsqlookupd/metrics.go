package nsqlookupd

import (
	"time"

	"github.com/nsq-suite/nsq/internal/metrics"
)

// gatherMetrics adds what GET /metrics says of this daemon.
func (l *NSQLookupd) gatherMetrics(s *metrics.Samples) {
	t := l.registry.totals()
	producers := s.Gauge("nsqlookupd_producers", "Identified connections of nsqds, by whether they have pinged within --inactive-producer-timeout.")
	producers.Add(float64(t.active), metrics.NewLabels("state", "active"))
	producers.Add(float64(t.producers-t.active), metrics.NewLabels("state", "inactive"))
	topics := s.Gauge("nsqlookupd_topics", "Topics that are known, by whether an nsqd has them.")
	topics.Add(float64(t.topics-t.unused), metrics.NewLabels("state", "used"))
	topics.Add(float64(t.unused), metrics.NewLabels("state", "unused"))
	for _, x := range []struct {
		name, help string
		value      int
	}{
		{"channels", "Channels that are known.", t.channels},
		{"registrations", "Topics and channels of each nsqd, summed up.", t.registrations},
		{"tombstones", "Producers that are hidden from /lookup of a topic by a tombstone, summed up over topics.", t.tombstoned},
		{"tcp_connections", "TCP connections.", l.tcp.connections()},
	} {
		s.Gauge("nsqlookupd_"+x.name, x.help).Add(float64(x.value), nil)
	}
	s.Gauge("nsqlookupd_ready", "Whether /health/ready says so.").AddBool(len(l.notReady()) == 0, nil)
	c := l.tcp.config.counts
	commands := s.Counter("nsqlookupd_commands_total", "Commands of nsqds.")
	commands.Add(float64(c.identifies.Load()), metrics.NewLabels("command", "identify"))
	commands.Add(float64(c.registers.Load()), metrics.NewLabels("command", "register"))
	commands.Add(float64(c.unregisters.Load()), metrics.NewLabels("command", "unregister"))
	commands.Add(float64(c.pings.Load()), metrics.NewLabels("command", "ping"))
	refused := s.Counter("nsqlookupd_refused_total", "What was refused: connections and registers beyond the limits, and identifies that are not admitted.")
	refused.Add(float64(c.refusedConnections.Load()), metrics.NewLabels("what", "connection"))
	refused.Add(float64(c.unauthorized.Load()), metrics.NewLabels("what", "identify"))
	refused.Add(float64(c.refused.Load()), metrics.NewLabels("what", "register"))
}

// notReady returns why clients had better ask another nsqlookupd, nothing if they
// need not. It is what /health/ready says; all questions are answered all the time.
func (l *NSQLookupd) notReady() (reasons []string) {
	if l.stopping.Load() {
		reasons = append(reasons, "stopping")
	}
	if time.Since(l.started) < l.opts.Warmup {
		reasons = append(reasons, "nsqds may still be registering (--warmup)")
	}
	return reasons
}
