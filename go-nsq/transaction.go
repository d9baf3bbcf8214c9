package nsq

import (
	"context"
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
	more     *transactionDetails // what few transactions have; nil for the others
}

// transactionDetails are apart to keep a transaction within 64 bytes.
type transactionDetails struct {
	cause     error                      // see Cause
	uncertain bool                       // see Uncertain
	onDone    func(*ProducerTransaction) // called instead of doneChan, must not block; nil for none
}

func (t *ProducerTransaction) details() *transactionDetails {
	if t.more == nil {
		t.more = new(transactionDetails)
	}
	return t.more
}

// Uncertain says of a publish that failed whether nsqd may have stored it all
// the same: it was written, and the connection lost before the answer. To
// publish it again may double it. A failed publish that is not uncertain was
// certainly not stored.
func (t *ProducerTransaction) Uncertain() bool {
	return t.more != nil && t.more.uncertain
}

// Cause says what lies behind ErrNotConnected: how the connection was lost. It
// is nil if there is nothing to tell.
func (t *ProducerTransaction) Cause() error {
	if t.more == nil {
		return nil
	}
	return t.more.cause
}

// Limits of what waits to be written before publishing blocks.
const (
	maxWaitingTransactions = 4096
	maxWaitingBytes        = 1 << 20 // of bodies

	// maxUnansweredTransactions may be written and wait for nsqd's answer.
	maxUnansweredTransactions = 1 << 16
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
	accepted     int // answers so far that were OK
	refused      int // answers so far that were errors
	lost         int // written or waiting when the connection ended
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
// written but gets its outcome in its turn. The end of ctx ends the wait.
func (q *transactionQueue) put(ctx context.Context, t *ProducerTransaction) (bool, error) {
	q.mu.Lock()
	if q.fullLocked() && !q.closed {
		if err := waitWhile(ctx, &q.room, func() bool { return q.fullLocked() && !q.closed }); err != nil {
			q.mu.Unlock()
			return false, err
		}
	}
	if q.closed {
		q.mu.Unlock()
		return false, nil
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
	return true, nil
}

// waitWhile waits on cond, whose lock is held, while condition holds. The end of
// ctx ends the wait with its error.
func waitWhile(ctx context.Context, cond *sync.Cond, condition func() bool) error {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
		defer stop()
	}
	for condition() {
		if err := ctx.Err(); err != nil {
			return err
		}
		cond.Wait()
	}
	return nil
}

func (q *transactionQueue) fullLocked() bool {
	return q.transactions.count-q.written >= maxWaitingTransactions || q.waitingBytes >= maxWaitingBytes ||
		q.written >= maxUnansweredTransactions
}

// withdraw makes err the outcome of t if t is not being written yet, and says
// whether it did. t is or was in the queue.
func (q *transactionQueue) withdraw(t *ProducerTransaction, err error) bool {
	q.mu.Lock()
	if t.cmd == nil {
		q.mu.Unlock()
		return false
	}
	q.waitingBytes -= len(t.cmd.Body)
	q.rejected++
	t.cmd, t.Error = nil, err
	q.room.Broadcast()
	q.mu.Unlock()
	return true
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

// pop removes the transaction that the next answer, OK or an error, belongs to;
// nil if no answer is due. more says that popRejected may have something to do.
func (q *transactionQueue) pop(ok bool) (t *ProducerTransaction, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.written == 0 {
		return nil, false
	}
	if ok {
		q.accepted++
	} else {
		q.refused++
	}
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
	if q.written == maxUnansweredTransactions-1 {
		q.room.Broadcast()
	}
	if q.transactions.count == 0 && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	return t
}

// close makes the queue refuse transactions and returns those it held.
// Those that have no outcome get ErrNotConnected, because of cause.
func (q *transactionQueue) close(cause error) []*ProducerTransaction {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.room.Broadcast()
	var left []*ProducerTransaction
	for q.transactions.count > 0 {
		t := q.transactions.pop()
		if t.Error == nil {
			q.lost++
			t.details().uncertain, t.details().cause = t.cmd == nil, cause
			t.cmd, t.Error = nil, ErrNotConnected
		}
		left = append(left, t)
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
	return q.accepted + q.refused
}

func (q *transactionQueue) stats() ProducerStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return ProducerStats{
		Published:  uint64(q.accepted),
		Refused:    uint64(q.refused),
		Lost:       uint64(q.lost),
		Waiting:    q.transactions.count - q.written,
		Unanswered: q.written,
	}
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
	if t.more != nil && t.more.onDone != nil {
		t.more.onDone(t)
		return
	}
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

// waitForRoom waits while too many outcomes wait for the reader of doneChan. The
// end of ctx ends the wait with its error.
func (d *deliveries) waitForRoom(ctx context.Context, doneChan chan *ProducerTransaction) error {
	if doneChan == nil || d.queues.Load() == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return waitWhile(ctx, &d.room, func() bool {
		return d.open && d.late[doneChan] != nil && d.late[doneChan].count >= maxUndelivered
	})
}

// stopWaiting ends waitForRoom for good.
func (d *deliveries) stopWaiting() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
	d.room.Broadcast()
}
