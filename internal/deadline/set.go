// Package deadline keeps things that fall due: [Set] for things with a key that
// are mostly answered before they are due (messages in flight), [Heap] for things
// that wait until they are due (deferred messages).
//
// Due times are plain int64, in whatever unit and from whatever origin the caller
// chooses. Neither type has a lock: the owner guards it together with what must
// agree with it.
package deadline

import (
	"iter"
	"math/bits"
)

// A Set holds values by key and in the order of their due times.
//
// It is made for due times that come in nearly rising order, as they do when all
// are the same time ahead: adding, finding and removing take constant time, and
// an earlier due time costs a step per later one.
//
// Keys are found through a hash table of its own, which knows them by the number
// of their node: measured with message IDs, a built-in map takes more than twice as
// long per message.
type Set[K comparable, V any] struct {
	hash  func(K) uint64
	nodes []node[K, V] // nodes[0] is the root of the ring: next is the earliest, prev the latest
	free  int32        // first unused node, linked by next; 0 for none
	count int
	slots []int32 // hash table with linear probing: nodes, 0 for none; at most half full
	shift uint    // of a hash, to get a slot
}

type node[K comparable, V any] struct {
	due        int64
	prev, next int32
	key        K
	value      V
}

// NewSet returns an empty set. The upper bits of hash must be well mixed; keys are
// trusted not to be chosen so that their hashes collide.
func NewSet[K comparable, V any](hash func(K) uint64) Set[K, V] {
	return Set[K, V]{hash: hash}
}

// Len returns how many values the set holds.
func (s *Set[K, V]) Len() int { return s.count }

// Add inserts value under key and reports whether it did: a key that is present
// keeps its value.
func (s *Set[K, V]) Add(key K, due int64, value V) bool {
	if 2*(s.count+1) > len(s.slots) {
		s.grow()
	}
	slot, i := s.find(key)
	if i != 0 {
		return false
	}
	if i = s.free; i != 0 {
		s.free = s.nodes[i].next
	} else {
		i = int32(len(s.nodes))
		s.nodes = append(s.nodes, node[K, V]{})
	}
	n := &s.nodes[i]
	n.due, n.key, n.value = due, key, value
	s.slots[slot] = i
	s.count++
	s.link(i)
	return true
}

// Get returns the value under key.
func (s *Set[K, V]) Get(key K) (value V, ok bool) {
	_, i := s.find(key)
	if i != 0 {
		value = s.nodes[i].value
	}
	return value, i != 0
}

// Move gives key another due time and reports whether the key is present.
func (s *Set[K, V]) Move(key K, due int64) bool {
	_, i := s.find(key)
	if i != 0 {
		s.unlink(i)
		s.nodes[i].due = due
		s.link(i)
	}
	return i != 0
}

// Remove takes key out and returns its value.
func (s *Set[K, V]) Remove(key K) (value V, ok bool) {
	slot, i := s.find(key)
	if i == 0 {
		return value, false
	}
	return s.remove(slot, i), true
}

// Next returns the earliest due time; ok is false for an empty set.
func (s *Set[K, V]) Next() (due int64, ok bool) {
	if s.count == 0 {
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
	return s.Remove(s.nodes[s.nodes[0].next].key)
}

// All walks the values in the order of their due times. The set must not change
// meanwhile.
func (s *Set[K, V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		if s.count == 0 {
			return
		}
		for i := s.nodes[0].next; i != 0 && yield(s.nodes[i].value); i = s.nodes[i].next {
		}
	}
}

// Clear empties the set and releases its memory.
func (s *Set[K, V]) Clear() { *s = Set[K, V]{hash: s.hash} }

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

// find returns the node of key and its slot, or node 0 and the slot where key
// belongs.
func (s *Set[K, V]) find(key K) (slot int, i int32) {
	if len(s.slots) == 0 {
		return 0, 0
	}
	for slot = s.home(key); ; slot = (slot + 1) & (len(s.slots) - 1) {
		i = s.slots[slot]
		if i == 0 || s.nodes[i].key == key {
			return slot, i
		}
	}
}

// home is the slot where the search for key begins.
func (s *Set[K, V]) home(key K) int { return int(s.hash(key) >> s.shift) }

const minSlots = 16

// grow doubles the hash table.
func (s *Set[K, V]) grow() {
	if s.nodes == nil {
		s.nodes = make([]node[K, V], 1, minSlots/2+1)
	}
	size := max(2*len(s.slots), minSlots)
	s.slots = make([]int32, size)
	s.shift = uint(64 - bits.TrailingZeros(uint(size)))
	for i := s.nodes[0].next; i != 0; i = s.nodes[i].next {
		slot, _ := s.find(s.nodes[i].key)
		s.slots[slot] = i
	}
}

func (s *Set[K, V]) remove(slot int, i int32) V {
	s.vacate(slot)
	s.unlink(i)
	s.count--
	n := &s.nodes[i]
	value := n.value
	*n = node[K, V]{next: s.free}
	s.free = i
	return value
}

// vacate empties a slot. What follows it and could stand in it moves up, so that
// no search ends at the gap too early.
func (s *Set[K, V]) vacate(gap int) {
	mask := len(s.slots) - 1
	for slot := (gap + 1) & mask; s.slots[slot] != 0; slot = (slot + 1) & mask {
		home := s.home(s.nodes[s.slots[slot]].key)
		if (slot-home)&mask >= (slot-gap)&mask {
			s.slots[gap] = s.slots[slot]
			gap = slot
		}
	}
	s.slots[gap] = 0
}
