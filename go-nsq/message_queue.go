package nsq

import "sync"

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

// close lets pop return what is left and then nothing.
func (q *messageQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.arrived.Broadcast()
}
