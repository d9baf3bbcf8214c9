package nsqd

import (
	"errors"
	"slices"
	"sync"

	"github.com/nsq-suite/nsq/internal/diskqueue"
)

// A message that was read from disk stays on disk until nobody needs it any more,
// so that a kill loses none: its entry says where (stored), and whoever drops an
// entry, because the message was finished, stored anew or discarded, lets go of
// that record (queue.finish). Entries that were never on disk pay one comparison; one
// that was is one message.

// stored is where an entry has a record that it must let go of.
type stored uint8

const (
	notStored     stored = iota
	storedHere           // on the disk of the queue that it is in, under batch.ticket()
	storedInTopic        // in a channel: on the disk of the topic, which has lent it
)

// tickets are those of records to be let go of. The zero value is empty and ready,
// and keeps its memory when it is used again.
type tickets struct{ here, inTopic []diskqueue.Ticket }

// add adds the record of e, if it has one.
func (r *tickets) add(e entry) {
	switch e.stored {
	case storedHere:
		r.here = append(r.here, e.batch.ticket())
	case storedInTopic:
		r.inTopic = append(r.inTopic, e.batch.ticket())
	}
}

// finish lets go of the records, and empties r.
func (q *queue) finish(r *tickets) {
	if len(r.here) > 0 {
		if d := q.disk.Load(); d != nil {
			(*d).Finish(r.here...)
		}
		r.here = r.here[:0]
	}
	if len(r.inTopic) > 0 {
		q.giveBack(r.inTopic)
		r.inTopic = r.inTopic[:0]
	}
}

// finishAll lets go of the records of entries.
func (q *queue) finishAll(entries []entry) {
	var r tickets
	for _, e := range entries {
		r.add(e)
	}
	q.finish(&r)
}

// keepRecords stores entries beside the queue: they are the caller's, and come
// back by themselves only after a kill. It returns them with their records.
func (q *queue) keepRecords(entries []entry) ([]entry, error) {
	batch := q.encode(entries)
	defer batches.Put(batch)
	d, err := q.openDisk()
	var first diskqueue.Ticket
	if err == nil {
		first, err = d.Keep(batch)
	}
	if err := q.report(batch.Size(), err); err != nil {
		return nil, err
	}
	own := make([]entry, 0, len(entries))
	for _, e := range entries {
		own = e.singly(own)
	}
	for i := range own {
		own[i] = own[i].record(first + diskqueue.Ticket(i))
	}
	return own, nil
}

// ignoreExiting returns err unless it is [errExiting]: what a deleted queue did not
// take is deleted with it.
func ignoreExiting(err error) error {
	if errors.Is(err, errExiting) {
		return nil
	}
	return err
}

// loans are the messages that a topic has read from its disk and that channels
// could not store: they hold them in memory, and the topic keeps the records until
// none of them does. The zero value is empty and ready.
type loans struct {
	mu       sync.Mutex
	byTicket map[diskqueue.Ticket]int // how many channels
}

// add lends what each channel could not store, and returns the tickets of those
// entries that no channel has borrowed.
func (l *loans) add(entries []entry, rests [][]entry) (free []diskqueue.Ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rest := range rests {
		for _, e := range rest {
			if l.byTicket == nil {
				l.byTicket = make(map[diskqueue.Ticket]int)
			}
			l.byTicket[e.batch.ticket()]++
		}
	}
	for _, e := range entries {
		if l.byTicket[e.batch.ticket()] == 0 {
			free = append(free, e.batch.ticket())
		}
	}
	return free
}

// remove takes one loan back for each ticket, and returns those of which it was
// the last.
func (l *loans) remove(list []diskqueue.Ticket) (free []diskqueue.Ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range list {
		if l.byTicket[t]--; l.byTicket[t] <= 0 {
			delete(l.byTicket, t)
			free = append(free, t)
		}
	}
	return free
}

// handOverStored gives all channels messages that were read from the topic's disk.
// Each stores them on its own before the topic lets go of them, so that at no
// moment they are in memory only. What a channel cannot store it borrows.
func (t *Topic) handOverStored(channels []*Channel, entries []entry) {
	rests := make([][]entry, len(channels))
	errs := make([]error, len(channels))
	var others sync.WaitGroup
	for i, c := range channels[1:] {
		others.Go(func() { rests[i+1], errs[i+1] = c.adopt(entries) })
	}
	rests[0], errs[0] = channels[0].adopt(entries)
	others.Wait()
	free := t.loans.add(entries, rests)
	t.queue.finish(&tickets{here: free})
	for i, c := range channels {
		if len(rests[i]) > 0 {
			c.borrow(rests[i], errs[i])
		}
	}
}

// giveBack takes back what a channel has borrowed.
func (t *Topic) giveBack(list []diskqueue.Ticket) {
	t.queue.finish(&tickets{here: t.loans.remove(list)})
}

// adopt takes messages that the topic has read from its disk, and stores them. It
// returns those that it could not store, and why. Entries stay the caller's.
func (c *Channel) adopt(entries []entry) (rest []entry, err error) {
	if c.closing.Load() {
		return nil, nil
	}
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].stored = notStored // on this channel's disk
	}
	if c.ephemeral {
		c.put(entries)
		return nil, nil
	}
	c.messages.Add(uint64(countOf(entries)))
	deferred, rest := splitDeferred(entries)
	if len(deferred) > 0 {
		own, keepErr := c.queue.keepRecords(deferred)
		c.deferred.add(own)
		if err = ignoreExiting(keepErr); err == nil {
			deferred = nil
		}
	}
	if len(rest) > 0 {
		if spillErr := ignoreExiting(c.queue.spill(rest)); spillErr != nil {
			return append(deferred, rest...), spillErr
		}
	}
	return deferred, err
}

// borrow keeps messages in memory that adopt could not store.
func (c *Channel) borrow(entries []entry, cause error) {
	for i := range entries {
		entries[i].stored = storedInTopic
	}
	if c.closing.Load() {
		c.queue.finishAll(entries)
		return
	}
	deferred, rest := splitDeferred(entries)
	if len(deferred) > 0 {
		c.deferred.add(deferred)
	}
	defer c.queue.dropLate()
	if rest = c.queue.remember(rest); len(rest) > 0 {
		c.queue.holdBeyond(rest, cause)
		return
	}
	c.queue.health.canStore(c.queue) // it has room, and has lost nothing
}

// splitDeferred separates the entries that have a delay from the others.
func splitDeferred(entries []entry) (deferred, others []entry) {
	isDeferred := func(e entry) bool { return e.batch.delayMs > 0 }
	if !slices.ContainsFunc(entries, isDeferred) {
		return nil, entries
	}
	for _, e := range entries {
		if isDeferred(e) {
			deferred = append(deferred, e)
		} else {
			others = append(others, e)
		}
	}
	return deferred, others
}
