package program

import (
	"runtime/debug"
	"slices"
	"testing"
)

// What is returned, and when: an entry per look, 10 seconds apart.
func TestMemoryWatch(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		kept     []uint64 // MiB at each look
		busy     []int    // looks before which the collector ran
		live     uint64   // MiB that an attempt leaves
		attempts []int
	}{
		"a backlog that was consumed":        {kept: []uint64{0, 600, 600, 600, 20, 20}, busy: []int{1, 2}, live: 20, attempts: []int{3}},
		"little memory":                      {kept: slices.Repeat([]uint64{63}, 20)},
		"a backlog that stays":               {kept: slices.Repeat([]uint64{600}, 24), live: 600, attempts: []int{0, 1, 3, 7, 13, 19}},
		"one that is consumed later":         {kept: slices.Repeat([]uint64{600}, 9), live: 20, attempts: []int{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		"never quiet":                        {kept: slices.Repeat([]uint64{600}, 5), busy: []int{0, 1, 2, 3, 4}, live: 20},
		"messages again after some attempts": {kept: slices.Repeat([]uint64{600}, 12), busy: []int{8}, live: 600, attempts: []int{0, 1, 3, 7, 9, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			var w memoryWatch
			var attempts []int
			cycles := uint64(0)
			for i, kept := range test.kept {
				if slices.Contains(test.busy, i) {
					cycles++
				}
				before := heapState{cycles, kept * mib}
				if w.look(before) {
					attempts = append(attempts, i)
					cycles++
					w.returned(before, heapState{cycles, test.live * mib})
				}
			}
			if !slices.Equal(attempts, test.attempts) {
				t.Errorf("attempts at %d, want %d", attempts, test.attempts)
			}
		})
	}
}

// The runtime's figures are what the decision takes them for.
func TestReadHeap(t *testing.T) {
	debug.FreeOSMemory()
	before := readHeap()
	memory := make([]byte, 2*worthReturning)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	with := readHeap()
	if with.kept < before.kept+uint64(len(memory))*3/4 {
		t.Errorf("%d bytes kept, %d before %d were allocated", with.kept, before.kept, len(memory))
	}
	memory = nil
	debug.FreeOSMemory()
	after := readHeap()
	if after.kept > before.kept+worthReturning || after.cycles <= with.cycles {
		t.Errorf("%+v after %+v", after, with)
	}
}
