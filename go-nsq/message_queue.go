package nsq

import (
	"sync"
	"time"
)

// messageQueue holds the messages that arrived and that no handler has taken
// yet, so that a read loop never waits for handlers: heartbeats must be read
// and answered whatever those do. nsqd sends no more than RDY allows, but sends
// again what times out here, so the queue has no fixed size.
type messageQueue struct {
	mu       sync.Mutex // guards all below
	arrived  sync.Cond  // a message was pushed, or the queue was closed
	messages ring[*Message]
	waiting  int // handlers in pop
	closed   bool
}

func newMessageQueue() *messageQueue {
	q := new(messageQueue)
	q.arrived.L = &q.mu
	return q
}

// push adds m. A closed queue drops it.
func (q *messageQueue) push(m *Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.messages.push(m)
	if q.waiting > 0 {
		q.arrived.Signal()
	}
}

// pop waits for a message and returns it. It is false once the queue is closed
// and empty.
func (q *messageQueue) pop() (*Message, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.messages.count == 0 {
		if q.closed {
			return nil, false
		}
		q.waiting++
		q.arrived.Wait()
		q.waiting--
	}
	return q.messages.pop(), true
}

// popBatch waits for a message and returns it with those that come within wait
// after it, up to size in all. It is false once the queue is closed and empty.
func (q *messageQueue) popBatch(size int, wait time.Duration) ([]*Message, bool) {
	first, ok := q.pop()
	if !ok {
		return nil, false
	}
	batch := append(make([]*Message, 0, min(size, 64)), first)
	var over bool // guarded by mu
	timer := time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		over = true
		q.arrived.Broadcast()
	})
	defer timer.Stop()

	q.mu.Lock()
	defer q.mu.Unlock()
	for len(batch) < size {
		if q.messages.count > 0 {
			batch = append(batch, q.messages.pop())
			continue
		}
		if over || q.closed {
			break
		}
		q.waiting++
		q.arrived.Wait()
		q.waiting--
	}
	return batch, true
}

// len returns how many messages wait.
func (q *messageQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.messages.count
}

func (q *messageQueue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// close lets pop return what is left and then nothing.
func (q *messageQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.arrived.Broadcast()
}
