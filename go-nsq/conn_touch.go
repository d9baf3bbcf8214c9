package nsq

import (
	"bufio"
	"sync"
	"time"
)

// touchesPerTimeout is how often in a message timeout a connection with
// AutoTouch looks for messages to touch.
const touchesPerTimeout = 8

// touchList holds the messages of a connection that AutoTouch keeps from timing
// out: those that are not answered. A nil list keeps none.
type touchList struct {
	mu      sync.Mutex             // guards all below
	renewed map[*Message]time.Time // when its timeout last began
	stopped bool
}

func newTouchList() *touchList {
	return &touchList{renewed: make(map[*Message]time.Time)}
}

// renew notes that the timeout of m begins.
func (l *touchList) renew(m *Message) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped && !m.HasResponded() {
		l.renewed[m] = time.Now()
	}
}

// remove forgets m.
func (l *touchList) remove(m *Message) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.renewed, m)
}

// removeID forgets the messages with an id: nsqd does not know it any more.
func (l *touchList) removeID(id MessageID) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.renewed {
		if m.ID == id {
			delete(l.renewed, m)
		}
	}
}

// stop forgets all messages for good.
func (l *touchList) stop() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	clear(l.renewed)
}

// due returns the messages renewed at least age ago, and renews them.
func (l *touchList) due(age time.Duration) []*Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var due []*Message
	for m, at := range l.renewed {
		if now.Sub(at) >= age {
			l.renewed[m] = now
			due = append(due, m)
		}
	}
	return due
}

// touchDue touches what has used half of its timeout.
func (c *Conn) touchDue() error {
	due := c.touches.due(c.msgTimeout / 2)
	if len(due) == 0 {
		return nil
	}
	c.lastTouchTime.Store(time.Now().UnixNano())
	return c.write(func(out *bufio.Writer) error {
		for _, m := range due {
			if _, err := Touch(m.ID).WriteTo(out); err != nil {
				return err
			}
		}
		return nil
	}, true)
}
