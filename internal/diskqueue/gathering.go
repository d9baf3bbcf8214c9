package diskqueue

import "sync"

// A gathering lets calls that overlap share their work: whoever comes while some
// is being done waits for the next, together with all others who do. The zero
// value is ready.
type gathering[T any] struct {
	mu      sync.Mutex
	running *sharing[T] // nil for none
	next    *sharing[T] // begins when running has ended; nil for none
}

// A sharing is those who have their work done together.
type sharing[T any] struct {
	members []T
	done    chan struct{} // closed when it is
}

// do returns when work that began after the call was done for member and those
// who share it. The first of them does it, with work.
func (g *gathering[T]) do(member T, work func(members []T)) {
	g.mu.Lock()
	if g.next != nil {
		shared := g.next
		shared.members = append(shared.members, member)
		g.mu.Unlock()
		<-shared.done
		return
	}
	own, before := &sharing[T]{members: []T{member}, done: make(chan struct{})}, g.running
	if before == nil {
		g.running = own
	} else {
		g.next = own
	}
	g.mu.Unlock()
	if before != nil {
		<-before.done
		g.mu.Lock()
		g.running, g.next = own, nil
		g.mu.Unlock()
	}
	work(own.members)
	g.mu.Lock()
	g.running = nil
	g.mu.Unlock()
	close(own.done)
}
