// Package deadline keeps things that fall due: [Set] for things with a key that
// are mostly answered before they are due (messages in flight), [Heap] for things
// that wait until they are due (deferred messages).
//
// Due times are plain int64, in whatever unit and from whatever origin the caller
// chooses. Neither type has a lock: the owner guards it together with what must
// agree with it.
package deadline

import "iter"

// A Set holds values by key and in the order of their due times.
//
// It is made for due times that come in nearly rising order, as they do when all
// are the same time ahead: adding, finding and removing take constant time, and
// an earlier due time costs a step per later one. The zero Set is empty and
// ready to use.
type Set[K comparable, V any] struct {
	index map[K]int32
	nodes []node[K, V] // nodes[0] is the root of the ring: next is the earliest, prev the latest
	free  int32        // first unused node, linked by next; 0 for none
}

type node[K comparable, V any] struct {
	due        int64
	prev, next int32
	key        K
	value      V
}

// Len returns how many values the set holds.
func (s *Set[K, V]) Len() int { return len(s.index) }

// Add inserts value under key and reports whether it did: a key that is present
// keeps its value.
func (s *Set[K, V]) Add(key K, due int64, value V) bool {
	if s.index == nil {
		s.index = make(map[K]int32)
		s.nodes = make([]node[K, V], 1, 8)
	}
	if _, present := s.index[key]; present {
		return false
	}
	i := s.free
	if i != 0 {
		s.free = s.nodes[i].next
	} else {
		i = int32(len(s.nodes))
		s.nodes = append(s.nodes, node[K, V]{})
	}
	n := &s.nodes[i]
	n.due, n.key, n.value = due, key, value
	s.index[key] = i
	s.link(i)
	return true
}

// Get returns the value under key.
func (s *Set[K, V]) Get(key K) (value V, ok bool) {
	i, ok := s.index[key]
	if ok {
		value = s.nodes[i].value
	}
	return value, ok
}

// Move gives key another due time and reports whether the key is present.
func (s *Set[K, V]) Move(key K, due int64) bool {
	i, ok := s.index[key]
	if ok {
		s.unlink(i)
		s.nodes[i].due = due
		s.link(i)
	}
	return ok
}

// Remove takes key out and returns its value.
func (s *Set[K, V]) Remove(key K) (value V, ok bool) {
	i, ok := s.index[key]
	if ok {
		value = s.remove(i)
	}
	return value, ok
}

// Next returns the earliest due time; ok is false for an empty set.
func (s *Set[K, V]) Next() (due int64, ok bool) {
	if len(s.index) == 0 {
		return 0, false
	}
	return s.nodes[s.nodes[0].next].due, true
}

// PopDue removes and returns the value with the earliest due time if that is not
// after now.
func (s *Set[K, V]) PopDue(now int64) (value V, ok bool) {
	if due, any := s.Next(); !any || due > now {
		return value, false
	}
	return s.remove(s.nodes[0].next), true
}

// All walks the values in the order of their due times. The set must not change
// meanwhile.
func (s *Set[K, V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		if len(s.index) == 0 {
			return
		}
		for i := s.nodes[0].next; i != 0 && yield(s.nodes[i].value); i = s.nodes[i].next {
		}
	}
}

// Clear empties the set and releases its memory.
func (s *Set[K, V]) Clear() { *s = Set[K, V]{} }

// link puts node i behind the last one that is not due after it.
func (s *Set[K, V]) link(i int32) {
	after := s.nodes[0].prev
	for after != 0 && s.nodes[after].due > s.nodes[i].due {
		after = s.nodes[after].prev
	}
	before := s.nodes[after].next
	s.nodes[i].prev, s.nodes[i].next = after, before
	s.nodes[after].next, s.nodes[before].prev = i, i
}

func (s *Set[K, V]) unlink(i int32) {
	n := &s.nodes[i]
	s.nodes[n.prev].next, s.nodes[n.next].prev = n.next, n.prev
}

func (s *Set[K, V]) remove(i int32) V {
	s.unlink(i)
	n := &s.nodes[i]
	value := n.value
	delete(s.index, n.key)
	*n = node[K, V]{next: s.free}
	s.free = i
	return value
}
