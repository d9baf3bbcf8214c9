package nsqd

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A statsd pushes statistics over UDP, all of them every interval. Source of the
// names, their order and the packets: nsqd HTTP API, "statsd".
type statsd struct {
	address    string
	interval   time.Duration
	packetSize int // bytes
	exclude    bool
	log        *slog.Logger
	gather     func() *stats
	dial       func(context.Context) (net.Conn, error) // resolves the address anew

	sendErrors atomic.Uint64 // packets that could not be sent

	// Used only by run.
	prefix string // ends in a dot, or is empty
	// What the counters were at the last push. Topics and channels
	// are told apart by what they are, since one that is created again starts at 0.
	topics   map[*Topic]topicCounters
	channels map[*Channel]channelCounters
	gcRuns   uint64
	failing  bool // the last push was not sent as a whole
}

type (
	topicCounters   struct{ messages, bytes uint64 }
	channelCounters struct{ messages, requeued, timeouts uint64 }
)

// resolveTimeout bounds how long one look-up of the address takes.
const resolveTimeout = time.Second

func newStatsd(opts *Options, log *slog.Logger, gather func(statsFilter) *stats) *statsd {
	packetSize := opts.StatsdUDPPacketSize
	if packetSize <= 0 {
		packetSize = 4096
	}
	return &statsd{
		address:    opts.StatsdAddress,
		interval:   opts.StatsdInterval,
		packetSize: packetSize,
		exclude:    opts.StatsdExcludeEphemeral,
		log:        log,
		gather:     func() *stats { return gather(statsFilter{latency: true, memory: opts.StatsdMemStats}) },
		dial: func(ctx context.Context) (net.Conn, error) {
			dialer := net.Dialer{Timeout: resolveTimeout}
			return dialer.DialContext(ctx, "udp", opts.StatsdAddress)
		},
	}
}

// statsdPrefix is what stands before all names: --statsd-prefix with the
// broadcast address and port for %s, as one word.
func statsdPrefix(opts *Options) string {
	host := net.JoinHostPort(opts.BroadcastAddress, strconv.Itoa(opts.BroadcastHTTPPort))
	prefix := strings.ReplaceAll(opts.StatsdPrefix, "%s", strings.NewReplacer(".", "_", ":", "_").Replace(host))
	if prefix != "" && !strings.HasSuffix(prefix, ".") {
		prefix += "."
	}
	return prefix
}

// run pushes until ctx ends, with prefix before all names.
func (s *statsd) run(ctx context.Context, prefix string) error {
	s.prefix = prefix
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.push(ctx)
		case <-ctx.Done():
			s.log.Info("STATSD: closing")
			return nil
		}
	}
}

// push sends everything once, spread over the interval. Without an address
// nothing is lost: counters go on in the next push.
func (s *statsd) push(ctx context.Context) {
	conn, err := s.dial(ctx)
	if err != nil {
		s.log.Error(fmt.Sprintf("failed to create UDP socket to statsd(%s)", s.address), "err", err)
		return
	}
	defer conn.Close() // nothing waits in a UDP socket
	s.log.Info(fmt.Sprintf("STATSD: pushing stats to %s", s.address))
	packets := pack(s.lines(), s.packetSize)
	gap := max(s.interval-time.Second, 0) / time.Duration(max(len(packets), 1))
	var failed error
	for i, packet := range packets {
		if i > 0 {
			pause(ctx, gap)
		}
		if _, err := conn.Write(packet); err != nil {
			failed = err
			s.sendErrors.Add(1)
		}
	}
	switch {
	case failed != nil && !s.failing:
		s.log.Warn(fmt.Sprintf("STATSD: packets to %s are lost", s.address), "err", failed)
	case failed == nil && s.failing:
		s.log.Info(fmt.Sprintf("STATSD: packets to %s are sent again", s.address))
	}
	s.failing = failed != nil
}

// pause waits for d, not at all once ctx has ended.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pack joins lines into packets of at most size bytes. A longer line is alone in
// its packet.
func pack(lines []string, size int) (packets [][]byte) {
	var packet []byte
	for _, line := range lines {
		if len(packet) > 0 && len(packet)+len(line) > size {
			packets = append(packets, packet)
			packet = nil
		}
		packet = append(packet, line...)
	}
	if len(packet) > 0 {
		packets = append(packets, packet)
	}
	return packets
}

// lines is what one push says; it moves the counters on.
func (s *statsd) lines() []string {
	now := s.gather()
	topics, channels := make(map[*Topic]topicCounters), make(map[*Channel]channelCounters)
	w := statsdLines{prefix: s.prefix}
	for _, t := range now.Topics {
		if s.exclude && isEphemeral(t.Name) {
			continue
		}
		is, was := topicCounters{t.Messages, t.Bytes}, s.topics[t.of]
		topics[t.of] = is
		name := "topic." + t.Name + "."
		w.counter(name+"message_count", is.messages-was.messages)
		w.counter(name+"message_bytes", is.bytes-was.bytes)
		w.gauge(name+"depth", t.Depth)
		w.gauge(name+"backend_depth", t.BackendDepth)
		w.latency(name, t.Latency)
		for _, c := range t.Channels {
			if s.exclude && isEphemeral(c.Name) {
				continue
			}
			channels[c.of] = w.channel(name+"channel."+c.Name+".", c, s.channels[c.of])
		}
	}
	s.topics, s.channels = topics, channels
	if m := now.Memory; m != nil {
		w.memory(m, m.GCTotalRuns-s.gcRuns)
		s.gcRuns = m.GCTotalRuns
	}
	return w.lines
}

// statsdLines gathers lines.
type statsdLines struct {
	prefix string
	lines  []string
}

func (w *statsdLines) counter(name string, delta uint64) {
	w.lines = append(w.lines, w.prefix+name+":"+strconv.FormatUint(delta, 10)+"|c\n")
}

func (w *statsdLines) gauge(name string, value int64) {
	w.lines = append(w.lines, w.prefix+name+":"+strconv.FormatInt(value, 10)+"|g\n")
}

// channel writes one channel, whose counters were was, and returns what they are.
func (w *statsdLines) channel(name string, c channelStats, was channelCounters) channelCounters {
	is := channelCounters{c.Messages, c.Requeued, c.Timeouts}
	w.counter(name+"message_count", is.messages-was.messages)
	w.gauge(name+"depth", c.Depth)
	w.gauge(name+"backend_depth", c.BackendDepth)
	w.gauge(name+"in_flight_count", c.InFlight)
	w.gauge(name+"deferred_count", c.Deferred)
	w.counter(name+"requeue_count", is.requeued-was.requeued)
	w.counter(name+"timeout_count", is.timeouts-was.timeouts)
	w.gauge(name+"clients", int64(c.ClientCount))
	w.latency(name, c.Latency)
	return is
}

func (w *statsdLines) latency(name string, l latencyStats) {
	for _, p := range l.Percentiles {
		w.gauge(name+"e2e_processing_latency_"+percentName(p.Quantile), int64(p.Value))
	}
}

// percentName is a quantile in percent: "99" for 0.99, and "99_9" for 0.999, since
// a dot would begin another level of names.
func percentName(quantile float64) string {
	percent := math.Round(quantile*100*1e9) / 1e9 // 0.07*100 is 7.000000000000001
	return strings.ReplaceAll(strconv.FormatFloat(percent, 'f', -1, 64), ".", "_")
}

func (w *statsdLines) memory(m *memoryStats, gcRuns uint64) {
	w.gauge("mem.heap_objects", int64(m.HeapObjects))
	w.gauge("mem.heap_idle_bytes", int64(m.HeapIdleBytes))
	w.gauge("mem.heap_in_use_bytes", int64(m.HeapInUseBytes))
	w.gauge("mem.heap_released_bytes", int64(m.HeapReleasedBytes))
	w.gauge("mem.gc_pause_usec_100", int64(m.GCPauseUsec100))
	w.gauge("mem.gc_pause_usec_99", int64(m.GCPauseUsec99))
	w.gauge("mem.gc_pause_usec_95", int64(m.GCPauseUsec95))
	w.gauge("mem.next_gc_bytes", int64(m.NextGCBytes))
	w.counter("mem.gc_runs", gcRuns)
}
