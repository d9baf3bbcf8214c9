package nsqd

import (
	"sync"
	"sync/atomic"
)

// sleepers are the consumers of one channel whose messagePumps sleep and could
// take messages, the one that has slept longest first.
//
// Whoever leaves a token (memory or disk may have something to take) hands it to
// one of them, so that they take turns: a pump that is awake would come back for
// the token sooner than one that has to wake up. A pump looks for a token once more
// when it has joined: either it sees the one that was left, or who left it sees
// the pump.
type sleepers struct {
	count atomic.Int32 // of all; written under mu

	mu    sync.Mutex
	lists [ranks]struct{ first, last *pump } // linked by pump.next and pump.previous
}

// A token says where there may be something to take. A pump may have several.
type token uint32

const (
	memoryToken token = 1 << iota
	diskToken
)

// join adds a pump that sleeps from now on; it must not be in.
func (s *sleepers) join(p *pump) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &s.lists[p.sub.rank]
	p.previous, p.next = list.last, nil
	if list.last == nil {
		list.first = p
	} else {
		list.last.next = p
	}
	list.last = p
	p.listed = true
	s.count.Add(1)
}

// leave takes a pump out, unless it was woken.
func (s *sleepers) leave(p *pump) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.listed {
		s.removeLocked(p)
	}
}

// hand gives the token t, which lies in ready unless somebody has been faster, to one
// of the ranks from first to last. leave is told if that one cannot take it any
// more.
func (s *sleepers) hand(t token, ready <-chan struct{}, first, last int, leave func()) {
	for rank := first; rank <= last && s.count.Load() > 0; rank++ {
		p := s.pop(rank)
		if p == nil {
			continue
		}
		select {
		case <-ready:
			if !p.give(t) {
				leave() // to the next
			}
		default:
			p.call() // it has left the list, and looks for itself
		}
		return
	}
}

// pop takes out the first of that rank; nil if there is none.
func (s *sleepers) pop(rank int) *pump {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.lists[rank].first
	if p != nil {
		s.removeLocked(p)
	}
	return p
}

func (s *sleepers) removeLocked(p *pump) {
	list := &s.lists[p.sub.rank]
	if p.previous == nil {
		list.first = p.next
	} else {
		p.previous.next = p.next
	}
	if p.next == nil {
		list.last = p.previous
	} else {
		p.next.previous = p.previous
	}
	p.previous, p.next, p.listed = nil, nil, false
	s.count.Add(-1)
}
