package nsq

// minRing is the room a ring starts with and shrinks to.
const minRing = 16

// A ring is a first-in-first-out queue that grows on demand and gives memory
// back. The zero value is empty. It has no lock.
type ring[T any] struct {
	slots []T // a power of two of them
	head  int // index of the first element
	count int
}

// push adds v at the end.
func (r *ring[T]) push(v T) {
	if r.count == len(r.slots) {
		r.resize(max(minRing, 2*len(r.slots)))
	}
	*r.at(r.count) = v
	r.count++
}

// pop removes the first element; there must be one.
func (r *ring[T]) pop() T {
	var zero T
	slot := r.at(0)
	v := *slot
	*slot = zero
	r.head = (r.head + 1) & (len(r.slots) - 1)
	r.count--
	if len(r.slots) > minRing && r.count <= len(r.slots)/8 {
		r.resize(len(r.slots) / 4)
	}
	return v
}

// at returns the place of the i-th element.
func (r *ring[T]) at(i int) *T {
	return &r.slots[(r.head+i)&(len(r.slots)-1)]
}

func (r *ring[T]) resize(n int) {
	slots := make([]T, max(minRing, n))
	for i := range r.count {
		slots[i] = *r.at(i)
	}
	r.slots, r.head = slots, 0
}
