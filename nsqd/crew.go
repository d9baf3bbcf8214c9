package nsqd

import "sync"

// A crew runs the messagePumps of all clients. Some of its goroutines wait for the
// next pump when they have finished one: a new goroutine would have to grow its
// stack for every message that finds its consumer asleep.
type crew struct {
	active sync.WaitGroup // its goroutines

	mu     sync.Mutex
	idle   []chan *pump // of goroutines that wait, the last to have worked at the end
	closed bool         // none may wait any more
}

// maxIdle is how many goroutines wait: as many as there may be consumers that are
// called in turn.
const maxIdle = 32

// run calls p.messagePump on a goroutine.
func (c *crew) run(p *pump) {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		member := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		member <- p
		return
	}
	c.mu.Unlock()
	c.active.Go(func() { c.work(p) })
}

// work runs one pump after the other.
func (c *crew) work(p *pump) {
	member := make(chan *pump, 1)
	for p != nil {
		p.messagePump()
		p.active.Done()
		if !c.wait(member) {
			return
		}
		p = <-member
	}
}

// wait puts a goroutine among those that wait, unless there are enough.
func (c *crew) wait(member chan *pump) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) == maxIdle {
		return false
	}
	c.idle = append(c.idle, member)
	return true
}

// close ends all goroutines and waits for them. No pump may be running.
func (c *crew) close() {
	c.mu.Lock()
	c.closed = true
	for _, member := range c.idle {
		close(member)
	}
	c.idle = nil
	c.mu.Unlock()
	c.active.Wait()
}
