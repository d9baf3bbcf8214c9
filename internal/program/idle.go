package program

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// lookEvery is the time between looks at the memory, and so how long the
	// collector must have had nothing to do.
	lookEvery = 10 * time.Second
	// longestWait bounds the time between attempts of which the last was in vain.
	longestWait = time.Minute
	// worthReturning is from how many bytes on the heap is looked after.
	worthReturning = 64 << 20
)

// returnIdleMemory returns memory to the system while the daemon is quiet, and
// returns a function that ends that.
//
// A backlog that is consumed leaves its memory to the collector, which runs when new
// messages need some. When none come it runs after two minutes, and what it frees
// goes back to the system over several more.
func returnIdleMemory() (stop func()) {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		var w memoryWatch
		for {
			select {
			case <-ticker.C:
				if now := readHeap(); w.look(now) {
					debug.FreeOSMemory()
					w.returned(now, readHeap())
				}
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		watch.Wait()
	}
}

// A heapState is what the runtime says of its heap.
type heapState struct {
	cycles uint64 // runs of the collector so far
	kept   uint64 // bytes that the system does not have back
}

func readHeap() heapState {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	values := make([]uint64, len(samples))
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 { // not so if this runtime does not know it
			values[i] = s.Value.Uint64()
		}
	}
	return heapState{cycles: values[0], kept: values[1] + values[2] + values[3]}
}

// A memoryWatch decides when memory is returned: when the collector has had nothing
// to do since the last look. Finding out whether there is something to return costs a
// collection, so it looks less often after one that was in vain.
type memoryWatch struct {
	cycles uint64        // at the last look
	wait   time.Duration // still, before the next attempt
	pause  time.Duration // after the last attempt
}

// look is called every lookEvery, and reports whether memory is to be returned now.
func (w *memoryWatch) look(now heapState) bool {
	quiet := now.cycles == w.cycles
	w.cycles = now.cycles
	if !quiet {
		w.wait, w.pause = 0, 0
		return false
	}
	w.wait = max(w.wait-lookEvery, 0)
	return now.kept >= worthReturning && w.wait == 0
}

// returned is told what an attempt has changed.
func (w *memoryWatch) returned(before, after heapState) {
	w.cycles = after.cycles
	if after.kept < before.kept-before.kept/8 {
		w.pause = lookEvery
	} else {
		w.pause = min(max(2*w.pause, lookEvery), longestWait)
	}
	w.wait = w.pause
}
