package nsqd

import (
	"math/rand/v2"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// burst is the most messages delivered before control events are looked at.
const burst = 256

// A pump is the messagePump of one client: the only one that takes messages from
// its channel and the only sender of heartbeats.
//
// It waits for one of: a message in memory or on disk, while there is RDY room
// and no pause; a wake-up (RDY, room, pause, SUB, IDENTIFY); the heartbeat; the
// output buffer's time. Before it waits it flushes what it has delivered, by the
// rules of output buffering.
type pump struct {
	*conn
	sub      *consumer // nil before SUB
	settings *settings

	interval  time.Duration // of heartbeat; 0 for none
	heartbeat *time.Ticker
	flushing  *time.Timer
	armed     bool // flushing runs
	wants     bool // the channel's preference counts on sub

	entries []entry  // as many as have been allowed at a time so far
	records [][]byte // of entries read from disk
	dropped tickets
}

// messagePump runs until the connection ends.
func (c *conn) messagePump() {
	p := &pump{conn: c, heartbeat: time.NewTicker(time.Hour), flushing: time.NewTimer(time.Hour)}
	p.heartbeat.Stop()
	p.flushing.Stop()
	p.refresh()
	defer p.heartbeat.Stop()
	defer p.flushing.Stop()
	defer p.want(false)
	// An error means that the socket is closed; the IOLoop cleans up.
	_ = p.loop()
}

func (p *pump) loop() error {
	for {
		memory, disk := p.sources()
		var err error
		select { // what is there goes out without a pause
		case <-p.done:
			return nil
		case <-p.heartbeat.C:
			err = p.sendHeartbeat()
		case <-memory:
			err = p.deliverMemory()
		case <-disk:
			err = p.deliverDisk()
		default:
			err = p.wait(memory, disk)
		}
		if err != nil {
			return err
		}
	}
}

// wait flushes and sleeps until there is something to do, and does it.
func (p *pump) wait(memory, disk <-chan struct{}) error {
	if err := p.settle(memory != nil); err != nil {
		return err
	}
	if memory != nil {
		waiting := &p.sub.channel.queue.waiting
		waiting.Add(1)
		defer waiting.Add(-1)
	}
	select {
	case <-p.done:
	case <-p.wake:
		p.refresh()
	case <-p.heartbeat.C:
		return p.sendHeartbeat()
	case <-p.flushing.C:
		p.armed = false
		return p.out.flush()
	case <-memory:
		return p.deliverMemory()
	case <-disk:
		return p.deliverDisk()
	}
	return nil
}

// sources returns what to wait on for messages: nil while none may be sent.
func (p *pump) sources() (memory, disk <-chan struct{}) {
	s := p.sub
	if s == nil {
		return nil, nil
	}
	if !p.canDeliver() {
		p.want(false)
		return nil, nil
	}
	memory, disk = s.channel.queue.ready()
	if nearest := s.channel.nearest; nearest != nil {
		p.want(true)
		memory = nearest.ready[s.rank]
	}
	return memory, disk
}

// canDeliver reports whether messages may be sent. If they may not, the pump is
// woken when that has changed.
func (p *pump) canDeliver() bool {
	s := p.sub
	if s.channel.paused.Load() {
		return false
	}
	if s.room() <= 0 {
		// From here on a FIN wakes us; one that came before shows in room.
		s.starved.Store(true)
		if s.room() <= 0 {
			return false
		}
	}
	s.starved.Store(false)
	return true
}

// want tells the channel's preference, if it has one, whether the consumer wants
// messages.
func (p *pump) want(messages bool) {
	if p.wants == messages || p.sub == nil || p.sub.channel.nearest == nil {
		return
	}
	p.wants = messages
	if messages {
		p.sub.channel.nearest.join(p.sub)
	} else {
		p.sub.channel.nearest.leave(p.sub)
	}
}

// refresh takes over what the IOLoop has changed.
func (p *pump) refresh() {
	p.sub = p.consumer.Load()
	s := p.conn.settings.Load()
	p.settings = s
	if s.heartbeat != p.interval {
		p.interval = s.heartbeat
		p.heartbeat.Stop()
		if s.heartbeat > 0 {
			p.heartbeat.Reset(s.heartbeat)
		}
	}
}

// settle decides what becomes of frames in the output buffer before a sleep. By
// default they go out now. They wait only for a client that asked for it, and
// then at most as long as it asked; and never while no more can be added.
func (p *pump) settle(mayDeliver bool) error {
	if !p.out.pending() {
		return nil
	}
	if !mayDeliver || !p.settings.batching {
		return p.out.flush()
	}
	if !p.armed && p.settings.outputBufferTimeout > 0 {
		p.armed = true
		p.flushing.Reset(p.settings.outputBufferTimeout)
	}
	return nil
}

func (p *pump) sendHeartbeat() error {
	if p.interval == 0 {
		return nil // a tick from before heartbeats were turned off
	}
	if err := p.out.answer(protocol.FrameResponse, protocol.Heartbeat); err != nil {
		return err
	}
	return p.out.flush()
}

func (p *pump) deliverMemory() error {
	s := p.sub
	n := p.allowed()
	if n == 0 {
		s.channel.queue.memory.Wake()
		return nil
	}
	if nearest := s.channel.nearest; nearest != nil {
		n = nearest.take(s, p.buffer(n))
	} else {
		n = s.channel.queue.takeMemory(p.buffer(n))
	}
	s.channel.fromMemory[s.place].Add(uint64(n))
	s.fromMemory.Add(uint64(n))
	return p.deliver(p.entries[:n])
}

func (p *pump) deliverDisk() error {
	n := p.allowed()
	if n == 0 {
		p.sub.channel.queue.passDisk()
		return nil
	}
	into := p.buffer(n)
	if cap(p.records) < n {
		p.records = make([][]byte, 0, n)
	}
	n = p.sub.channel.queue.takeDisk(into, p.records)
	return p.deliver(into[:n])
}

// buffer returns room for n entries.
func (p *pump) buffer(n int) []entry {
	if len(p.entries) < n {
		p.entries = make([]entry, n)
	}
	return p.entries[:n]
}

// allowed is how many messages may be sent now. The answer may have changed since
// sources was asked.
func (p *pump) allowed() int {
	if p.sub.channel.paused.Load() {
		return 0
	}
	return int(max(min(p.sub.room(), burst), 0))
}

// deliver marks entries in flight and sends them. Source for the order of steps:
// TCP protocol spec, "Delivery to a consumer and output buffering".
func (p *pump) deliver(entries []entry) error {
	all := entries
	defer func() { clear(all) }()
	if rate := p.settings.sampleRate; rate > 0 {
		entries = sample(entries, rate, &p.dropped)
		p.sub.channel.sampledOut.Add(uint64(len(all) - len(entries)))
	}
	for i := range entries {
		entries[i].attempts++
	}
	taken := len(entries)
	entries = p.sub.inFlight.start(entries, p.settings.msgTimeout, &p.dropped)
	if n := taken - len(entries); n > 0 {
		p.sub.channel.duplicates.Add(uint64(n))
	}
	p.sub.channel.queue.finish(&p.dropped)
	if p.sub.channel.closing.Load() {
		// Being deleted, the channel may have dropped what was in flight just before.
		p.sub.channel.queue.finishAll(p.sub.inFlight.drain())
		return nil
	}
	p.messages.Add(uint64(len(entries)))
	return p.out.deliver(entries)
}

// sample keeps each entry with a probability of rate percent; the others are
// dropped for the whole channel, their records added to dropped. Source: TCP
// protocol spec, "sample_rate".
func sample(entries []entry, rate int32, dropped *tickets) []entry {
	kept := 0
	for _, e := range entries {
		if rand.Int32N(100) < rate {
			entries[kept] = e
			kept++
		} else {
			dropped.add(e)
		}
	}
	return entries[:kept]
}
