package deadline

import "iter"

// A Heap holds values in the order of their due times; those due at the same time
// come in no particular order. Adding and removing cost the logarithm of the
// length. The zero Heap is empty and ready to use.
type Heap[V any] struct {
	items []item[V] // a heap of four children per node, which is shallower than two
}

type item[V any] struct {
	due   int64
	value V
}

const children = 4

// Len returns how many values the heap holds.
func (h *Heap[V]) Len() int { return len(h.items) }

// Add inserts value.
func (h *Heap[V]) Add(due int64, value V) {
	h.items = append(h.items, item[V]{due, value})
	i := len(h.items) - 1
	moving := h.items[i]
	for i > 0 {
		parent := (i - 1) / children
		if h.items[parent].due <= moving.due {
			break
		}
		h.items[i] = h.items[parent]
		i = parent
	}
	h.items[i] = moving
}

// Next returns the earliest due time; ok is false for an empty heap.
func (h *Heap[V]) Next() (due int64, ok bool) {
	if len(h.items) == 0 {
		return 0, false
	}
	return h.items[0].due, true
}

// PopDue removes and returns the value with the earliest due time if that is not
// after now.
func (h *Heap[V]) PopDue(now int64) (value V, ok bool) {
	if due, any := h.Next(); !any || due > now {
		return value, false
	}
	value = h.items[0].value
	last := len(h.items) - 1
	moving := h.items[last]
	h.items[last] = item[V]{}
	h.items = h.items[:last]
	if last > 0 {
		h.sink(moving)
	}
	h.shrink()
	return value, true
}

// All walks the values with their due times in no particular order. The heap
// must not change meanwhile.
func (h *Heap[V]) All() iter.Seq2[int64, V] {
	return func(yield func(int64, V) bool) {
		for _, it := range h.items {
			if !yield(it.due, it.value) {
				return
			}
		}
	}
}

// Clear empties the heap and releases its memory.
func (h *Heap[V]) Clear() { h.items = nil }

// sink finds the place of moving from the root on, which is vacant.
func (h *Heap[V]) sink(moving item[V]) {
	i := 0
	for {
		first := i*children + 1
		if first >= len(h.items) {
			break
		}
		least := first
		for c := first + 1; c < min(first+children, len(h.items)); c++ {
			if h.items[c].due < h.items[least].due {
				least = c
			}
		}
		if h.items[least].due >= moving.due {
			break
		}
		h.items[i] = h.items[least]
		i = least
	}
	h.items[i] = moving
}

// shrink gives memory back when three quarters of it lie idle.
func (h *Heap[V]) shrink() {
	if c := cap(h.items); c > 1024 && len(h.items) < c/4 {
		h.items = append(make([]item[V], 0, c/2), h.items...)
	}
}
