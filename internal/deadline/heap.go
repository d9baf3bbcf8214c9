package deadline

import "iter"

// A Heap holds values in the order of their due times; those due at the same time
// come in no particular order. Adding and removing cost the logarithm of the
// length. The zero Heap is empty and ready to use.
//
// It lies in blocks, so that growing copies nothing: a heap of a million values
// never holds up its owner for the time it takes to move them, nor leaves outgrown
// arrays behind.
type Heap[V any] struct {
	blocks [][]item[V] // a heap of four children per node, which is shallower than two
	length int
	spare  []item[V] // the block that was emptied last, so that a length that sways costs nothing
}

type item[V any] struct {
	due   int64
	value V
}

const (
	children   = 4
	blockItems = 256
)

// Len returns how many values the heap holds.
func (h *Heap[V]) Len() int { return h.length }

func (h *Heap[V]) at(i int) *item[V] { return &h.blocks[i/blockItems][i%blockItems] }

// Add inserts value.
func (h *Heap[V]) Add(due int64, value V) {
	moving := item[V]{due, value}
	i := h.length
	h.appendItem(moving)
	for i > 0 {
		parent := (i - 1) / children
		p := h.at(parent)
		if p.due <= due {
			break
		}
		*h.at(i) = *p
		i = parent
	}
	*h.at(i) = moving
}

// Next returns the earliest due time; ok is false for an empty heap.
func (h *Heap[V]) Next() (due int64, ok bool) {
	if h.length == 0 {
		return 0, false
	}
	return h.blocks[0][0].due, true
}

// PopDue removes and returns the value with the earliest due time if that is not
// after now.
func (h *Heap[V]) PopDue(now int64) (value V, ok bool) {
	if due, any := h.Next(); !any || due > now {
		return value, false
	}
	value = h.blocks[0][0].value
	if moving := h.removeLast(); h.length > 0 {
		h.sink(moving)
	}
	return value, true
}

// All walks the values with their due times in no particular order. The heap
// must not change meanwhile.
func (h *Heap[V]) All() iter.Seq2[int64, V] {
	return func(yield func(int64, V) bool) {
		for _, block := range h.blocks {
			for _, it := range block {
				if !yield(it.due, it.value) {
					return
				}
			}
		}
	}
}

// Clear empties the heap and releases its memory.
func (h *Heap[V]) Clear() { *h = Heap[V]{} }

// sink finds the place of moving from the root on, which is vacant.
func (h *Heap[V]) sink(moving item[V]) {
	i := 0
	for {
		first := i*children + 1
		if first >= h.length {
			break
		}
		least, child := first, h.at(first)
		for c := first + 1; c < min(first+children, h.length); c++ {
			if other := h.at(c); other.due < child.due {
				least, child = c, other
			}
		}
		if child.due >= moving.due {
			break
		}
		*h.at(i) = *child
		i = least
	}
	*h.at(i) = moving
}

// appendItem adds an item at the end. The first block grows as an array does, for
// most heaps are short.
func (h *Heap[V]) appendItem(it item[V]) {
	last := len(h.blocks) - 1
	switch {
	case last >= 0 && len(h.blocks[last]) < blockItems:
		h.blocks[last] = append(h.blocks[last], it)
	case last < 0:
		h.blocks = append(h.blocks, []item[V]{it})
	default:
		block := h.spare
		h.spare = nil
		if block == nil {
			block = make([]item[V], 0, blockItems)
		}
		h.blocks = append(h.blocks, append(block, it))
	}
	h.length++
}

// removeLast takes the item at the end away.
func (h *Heap[V]) removeLast() item[V] {
	last := len(h.blocks) - 1
	block := h.blocks[last]
	it := block[len(block)-1]
	block[len(block)-1] = item[V]{}
	block = block[:len(block)-1]
	h.blocks[last] = block
	if len(block) == 0 && last > 0 {
		h.spare = block
		h.blocks[last] = nil
		h.blocks = h.blocks[:last]
	}
	h.length--
	return it
}
