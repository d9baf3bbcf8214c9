package nsqd

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// burst is the most messages delivered before control events are looked at.
const burst = 256

// A pump is the messagePump of one client: the only one that takes messages from
// its channel and the only sender of heartbeats.
//
// It has a goroutine only while there is something to do. It is called for a
// message in memory or on disk, while there is RDY room and no pause; for a change
// of RDY, room, pause, SUB or IDENTIFY; for a heartbeat; when the output buffer's
// time is over. It goes on until nothing is left, flushes by the rules of output
// buffering, and sleeps: as a few words of memory, among the channel's [sleepers]
// if it could take messages.
type pump struct {
	*conn
	tokens       atomic.Uint32 // handed to it
	heartbeatDue atomic.Bool
	flushDue     atomic.Bool
	leaving      atomic.Bool // what there is to do is left to others

	// Where it is among the sleepers, guarded by their lock.
	next, previous *pump
	listed         bool

	bursting sync.Mutex // held while a burst is taken and sent

	callMu  sync.Mutex // guards the three below
	running bool       // it has a goroutine
	called  bool       // which is to look again before it ends
	ended   bool       // it gets no goroutine any more
	active  sync.WaitGroup

	// Used only by the goroutine, and by end after it.
	sub       *consumer // nil before SUB
	settings  *settings
	interval  time.Duration // of heartbeat; 0 for none
	heartbeat alarm
	flushing  alarm
	armed     bool          // flushing is set
	wants     bool          // the channel's preference counts on sub
	asleep    bool          // it has joined the sleepers
	scratch   *burstScratch // borrowed while there are messages
}

// A burstScratch is where a burst of messages lies on its way.
type burstScratch struct {
	entries [burst]entry
	ids     [burst]MessageID // of those
	records [burst][]byte    // of entries read from disk
	dropped tickets
}

var burstScratches = sync.Pool{New: func() any { return new(burstScratch) }}

// init makes a pump ready to be called.
func (p *pump) init(c *conn) {
	p.conn = c
	p.heartbeat.ring = func(int64) { p.due(&p.heartbeatDue) }
	p.flushing.ring = func(int64) { p.due(&p.flushDue) }
}

// due calls the pump for what the clock says.
func (p *pump) due(what *atomic.Bool) {
	what.Store(true)
	p.call()
}

// call makes the pump look what there is to do. It reports false of one that has
// ended.
func (p *pump) call() bool {
	p.callMu.Lock()
	defer p.callMu.Unlock()
	switch {
	case p.ended:
		return false
	case p.running:
		p.called = true
	default:
		p.running = true
		p.active.Add(1)
		p.svc.crew.run(p)
	}
	return true
}

// give calls the pump with a token. It reports false of one that has ended.
func (p *pump) give(t token) bool {
	p.tokens.Or(uint32(t))
	return p.call()
}

// finishBurst returns when all that was taken before has been sent.
func (p *pump) finishBurst() {
	p.bursting.Lock()
	defer p.bursting.Unlock()
}

// end stops the pump and waits for it. What it was called for is left to others.
func (p *pump) end() {
	p.leaving.Store(true)
	p.callMu.Lock()
	p.ended = true
	p.callMu.Unlock()
	p.active.Wait()
	p.wakeUp()
	p.svc.keeper.unset(&p.heartbeat)
	p.svc.keeper.unset(&p.flushing)
	p.want(false)
	if p.sub != nil {
		p.leave(token(p.tokens.Swap(0)))
	}
}

// leave leaves tokens to other consumers.
func (p *pump) leave(t token) {
	if t&memoryToken != 0 {
		p.sub.channel.queue.memory.Wake()
	}
	if t&diskToken != 0 {
		p.sub.channel.queue.passDisk()
	}
}

// messagePump works until there is nothing to do.
func (p *pump) messagePump() {
	for {
		if p.work() != nil {
			p.leaving.Store(true) // the socket is closed; the IOLoop cleans up
		}
		if !p.goOn() {
			return
		}
	}
}

// goOn reports whether the pump was called since it began to work.
func (p *pump) goOn() bool {
	p.callMu.Lock()
	defer p.callMu.Unlock()
	p.running, p.called = p.called, false
	return p.running
}

// work does what there is to do.
func (p *pump) work() error {
	p.wakeUp()
	p.refresh()
	defer p.giveBack()
	for !p.leaving.Load() {
		err := p.keepTime()
		if err != nil {
			return err
		}
		if t := token(p.tokens.Swap(0)); t != 0 {
			err = p.deliver(t)
		} else {
			memory, disk := p.sources()
			select { // what is there goes out without a pause
			case <-memory:
				err = p.deliver(memoryToken)
			case <-disk:
				err = p.deliver(diskToken)
			default:
				var asleep bool
				if asleep, err = p.rest(memory, disk); asleep {
					return err
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rest flushes and falls asleep, unless something has come meanwhile.
func (p *pump) rest(memory, disk <-chan struct{}) (asleep bool, err error) {
	if p.heartbeatDue.Load() || p.flushDue.Load() {
		return false, nil
	}
	if err := p.settle(memory != nil); err != nil {
		return false, err
	}
	if memory == nil {
		return true, nil
	}
	p.asleep = true
	p.sub.channel.queue.sleepers.join(p)
	if len(memory) == 0 && len(disk) == 0 {
		return true, nil
	}
	p.wakeUp()
	return false, nil
}

// wakeUp takes the pump off the sleepers' list.
func (p *pump) wakeUp() {
	if p.asleep {
		p.asleep = false
		p.sub.channel.queue.sleepers.leave(p)
	}
}

// keepTime does what is due by the clock.
func (p *pump) keepTime() error {
	if p.heartbeatDue.Load() {
		p.heartbeatDue.Store(false)
		if err := p.sendHeartbeat(); err != nil {
			return err
		}
	}
	if p.flushDue.Load() {
		p.flushDue.Store(false)
		p.armed = false
		return p.out.flush()
	}
	return nil
}

// giveBack returns what was borrowed for messages.
func (p *pump) giveBack() {
	if p.scratch != nil {
		burstScratches.Put(p.scratch)
		p.scratch = nil
	}
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
		p.awaitHeartbeat()
	}
}

// awaitHeartbeat sets when the next heartbeat is due, if ever.
func (p *pump) awaitHeartbeat() {
	p.svc.keeper.unset(&p.heartbeat) // it may be set to an earlier time
	if p.interval > 0 {
		p.svc.keeper.set(&p.heartbeat, p.svc.keeper.clock.now()+int64(p.interval))
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
		p.svc.keeper.set(&p.flushing, p.svc.keeper.clock.now()+int64(p.settings.outputBufferTimeout))
	}
	return nil
}

func (p *pump) sendHeartbeat() error {
	if p.interval == 0 {
		return nil // it was due before heartbeats were turned off
	}
	p.awaitHeartbeat()
	if err := p.out.answer(protocol.FrameResponse, protocol.Heartbeat); err != nil {
		return err
	}
	return p.out.flush()
}

// deliver takes and sends messages from where t says.
func (p *pump) deliver(t token) error {
	p.bursting.Lock()
	defer p.bursting.Unlock()
	if t&memoryToken != 0 {
		if err := p.deliverMemory(); err != nil {
			return err
		}
	}
	if t&diskToken != 0 {
		return p.deliverDisk()
	}
	return nil
}

func (p *pump) deliverMemory() error {
	s := p.sub
	n := p.allowed()
	if n == 0 {
		p.leave(memoryToken)
		return nil
	}
	entries := p.borrow().entries[:n]
	if nearest := s.channel.nearest; nearest != nil {
		n = nearest.take(s, entries)
	} else {
		n = s.channel.queue.takeMemory(entries, s.least())
	}
	s.channel.fromMemory[s.place].Add(uint64(n))
	s.fromMemory.Add(uint64(n))
	return p.send(entries[:n])
}

func (p *pump) deliverDisk() error {
	n := p.allowed()
	if n == 0 {
		p.leave(diskToken)
		return nil
	}
	scratch := p.borrow()
	n = p.sub.channel.queue.takeDisk(scratch.entries[:n], scratch.records[:0], p.sub.least())
	return p.send(scratch.entries[:n])
}

// borrow returns room for a burst.
func (p *pump) borrow() *burstScratch {
	if p.scratch == nil {
		p.scratch = burstScratches.Get().(*burstScratch)
	}
	return p.scratch
}

// allowed is how many messages may be sent now. The answer may have changed since
// sources was asked.
func (p *pump) allowed() int {
	if p.sub.channel.paused.Load() {
		return 0
	}
	return int(max(min(p.sub.room(), burst), 0))
}

// send marks entries in flight and sends them. Source for the order of steps:
// TCP protocol spec, "Delivery to a consumer and output buffering".
func (p *pump) send(entries []entry) error {
	all := entries
	defer func() { clear(all) }()
	if rate := p.settings.sampleRate; rate > 0 {
		entries = sample(entries, rate, &p.scratch.dropped)
		p.sub.channel.sampledOut.Add(uint64(len(all) - len(entries)))
	}
	ids := p.scratch.ids[:len(entries)]
	for i := range entries {
		entries[i].attempts++
		ids[i] = entries[i].id()
	}
	kept, twins := p.sub.inFlight.start(entries, ids, p.settings.msgTimeout, &p.scratch.dropped)
	if n := len(entries) - kept - len(twins); n > 0 {
		p.sub.channel.duplicates.Add(uint64(n))
	}
	p.sub.channel.putOff(twins)
	entries, ids = entries[:kept], ids[:kept]
	p.sub.channel.queue.finish(&p.scratch.dropped)
	if p.sub.channel.closing.Load() {
		// Being deleted, the channel may have dropped what was in flight just before.
		p.sub.channel.queue.finishAll(p.sub.inFlight.drain())
		return nil
	}
	p.messages.Add(uint64(len(entries)))
	return p.out.deliver(entries, ids)
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
