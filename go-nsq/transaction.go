package nsq

import (
	"sync"
	"sync/atomic"
)

// ProducerTransaction is the outcome of a publish, sent on the doneChan of
// PublishAsync, MultiPublishAsync and DeferredPublishAsync.
type ProducerTransaction struct {
	Error error         // nil, ErrProtocol, or ErrNotConnected
	Args  []interface{} // the caller's arguments as given; nil for none

	cmd      *Command // nil once it is being written, and for a rejected publish
	doneChan chan *ProducerTransaction
}

// Limits of what waits to be written before publishing blocks.
const (
	maxWaitingTransactions = 4096
	maxWaitingBytes        = 1 << 20 // of bodies
)

// transactionQueue holds the transactions of a Producer from publish to answer,
// in the order of both: first those written and waiting for nsqd's answer, then
// those waiting to be written. nsqd answers in order, so an answer belongs to
// the first. One lock guards the whole, so the two parts cannot disagree, and
// what a closed queue refuses, no router has to look for.
type transactionQueue struct {
	ready chan struct{} // capacity 1: something waits to be written

	mu           sync.Mutex // guards all below; held for no I/O
	room         sync.Cond  // something was taken, or the queue was closed
	transactions ring[*ProducerTransaction]
	written      int // how many of them are written
	waitingBytes int // bodies of those that are not
	rejected     int // how many have an Error already, see put
	answered     int // answers so far
	closed       bool
	idle         chan struct{} // closed once nothing is queued; nil if nobody waits
}

func newTransactionQueue() *transactionQueue {
	q := &transactionQueue{ready: make(chan struct{}, 1)}
	q.room.L = &q.mu
	return q
}

// put adds t, waiting for room if there is none, and says whether the queue
// took it: a closed one does not. A transaction that has an Error already is not
// written but gets its outcome in its turn.
func (q *transactionQueue) put(t *ProducerTransaction) bool {
	q.mu.Lock()
	for !q.closed && q.fullLocked() {
		q.room.Wait()
	}
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.transactions.push(t)
	if t.cmd == nil {
		q.rejected++
	} else {
		q.waitingBytes += len(t.cmd.Body)
	}
	first := q.transactions.count == q.written+1
	q.mu.Unlock()

	if first {
		q.signal()
	}
	return true
}

func (q *transactionQueue) fullLocked() bool {
	return q.transactions.count-q.written >= maxWaitingTransactions || q.waitingBytes >= maxWaitingBytes
}

func (q *transactionQueue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take appends the commands of all that waits to be written to cmds, and counts
// them as written. unanswered is how many are written and have no answer.
func (q *transactionQueue) take(cmds []*Command) (_ []*Command, unanswered int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ; q.written < q.transactions.count; q.written++ {
		t := *q.transactions.at(q.written)
		if t.cmd != nil {
			cmds = append(cmds, t.cmd)
			t.cmd = nil // its body is not needed while we wait for the answer
		}
	}
	q.waitingBytes = 0
	q.room.Broadcast()
	return cmds, q.written
}

// pop removes the transaction that the next answer belongs to, nil if no answer
// is due. more says that popRejected may have something to do.
func (q *transactionQueue) pop() (t *ProducerTransaction, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.written == 0 {
		return nil, false
	}
	q.answered++
	return q.popLocked(), q.rejected > 0
}

// popRejected removes the first transaction if it needs no answer, else it
// returns nil.
func (q *transactionQueue) popRejected() *ProducerTransaction {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rejected == 0 || q.written == 0 || (*q.transactions.at(0)).Error == nil {
		return nil
	}
	q.rejected--
	return q.popLocked()
}

func (q *transactionQueue) popLocked() *ProducerTransaction {
	t := q.transactions.pop()
	q.written--
	if q.transactions.count == 0 && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return t
}

// close makes the queue refuse transactions and returns those it held.
func (q *transactionQueue) close() []*ProducerTransaction {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.room.Broadcast()
	var left []*ProducerTransaction
	for q.transactions.count > 0 {
		left = append(left, q.transactions.pop())
	}
	q.written, q.rejected, q.waitingBytes = 0, 0, 0
	if q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return left
}

// open makes a closed queue usable again.
func (q *transactionQueue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = false
}

// whenIdle returns a Go channel that is closed once nothing is queued. Only one
// caller at a time may wait.
func (q *transactionQueue) whenIdle() <-chan struct{} {
	idle := make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.transactions.count == 0 {
		close(idle)
	} else {
		q.idle = idle
	}
	return idle
}

// answers returns how many answers have come so far.
func (q *transactionQueue) answers() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answered
}

// maxUndelivered is how many outcomes may wait for the reader of one doneChan
// before publishing with it blocks.
const maxUndelivered = 10000

// deliveries hands outcomes to doneChans without waiting for their readers:
// what a doneChan does not take at once is queued for it alone, and a goroutine
// sends that in order. It lives until the reader has taken all, which may be
// after Stop: every transaction accepted is delivered.
type deliveries struct {
	queues atomic.Int64 // len(late), to look without the lock

	mu   sync.Mutex // guards all below
	room sync.Cond  // a late outcome was taken
	late map[chan *ProducerTransaction]*ring[*ProducerTransaction]
	open bool // publishing may wait for room
}

func newDeliveries() *deliveries {
	d := &deliveries{late: make(map[chan *ProducerTransaction]*ring[*ProducerTransaction]), open: true}
	d.room.L = &d.mu
	return d
}

// deliver hands t to its doneChan, if it has one.
func (d *deliveries) deliver(t *ProducerTransaction) {
	if t.doneChan == nil {
		return
	}
	if d.queues.Load() == 0 {
		select {
		case t.doneChan <- t:
			return
		default:
		}
	}
	d.deliverLate(t)
}

func (d *deliveries) deliverLate(t *ProducerTransaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	queue, ok := d.late[t.doneChan]
	if !ok {
		select {
		case t.doneChan <- t:
			return
		default:
		}
		queue = new(ring[*ProducerTransaction])
		d.late[t.doneChan] = queue
		d.queues.Add(1)
		go d.send(t.doneChan, queue) // ends when the reader has taken all
	}
	queue.push(t)
}

// send sends what is queued for one doneChan until there is no more.
func (d *deliveries) send(to chan *ProducerTransaction, queue *ring[*ProducerTransaction]) {
	for {
		d.mu.Lock()
		if queue.count == 0 {
			delete(d.late, to)
			d.queues.Add(-1)
			d.room.Broadcast()
			d.mu.Unlock()
			return
		}
		t := *queue.at(0)
		d.mu.Unlock()

		to <- t

		d.mu.Lock()
		queue.pop()
		d.room.Broadcast()
		d.mu.Unlock()
	}
}

// waitForRoom waits while too many outcomes wait for the reader of doneChan.
func (d *deliveries) waitForRoom(doneChan chan *ProducerTransaction) {
	if doneChan == nil || d.queues.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.open && d.late[doneChan] != nil && d.late[doneChan].count >= maxUndelivered {
		d.room.Wait()
	}
}

// stopWaiting ends waitForRoom for good.
func (d *deliveries) stopWaiting() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
	d.room.Broadcast()
}
