package program

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is how large the heap may become before the garbage collector runs,
// in bytes, where the runtime would let it run at 4 MiB. Messages that only pass
// through leave a daemon with a megabyte of live heap and hundreds of megabytes of
// garbage a second: it collected 200 times a second, which was a fifth of its CPU
// time.
const heapFloor = 16 << 20

// floorHeap makes the collector wait for heapFloor, and beyond that leaves it at
// the runtime's default, twice the live heap. Where GOGC is set, the operator has
// decided otherwise.
func floorHeap() {
	if os.Getenv("GOGC") != "" {
		return
	}
	(&heapWatch{percent: 100}).adjust()
}

// heapWatch sets the collector's goal after each of its runs.
type heapWatch struct {
	percent int // in force: how much the heap may grow beyond what is live
}

// adjust sets the goal for the live heap as it is now, and watches for the next
// run of the collector: one unreachable object is found by every run.
func (w *heapWatch) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() != metrics.KindUint64 {
		return // not known to this runtime
	}
	// Setting it stops the world for a moment, so not for every small change.
	if p := growth(live[0].Value.Uint64()); p != w.percent {
		debug.SetGCPercent(p)
		w.percent = p
	}
	runtime.AddCleanup(new([16]byte), (*heapWatch).adjust, w)
}

// growth is by how many percent a live heap of that many bytes may grow, in steps
// of 100. At 400 the runtime's own least heap, 4 MiB at 100, is heapFloor.
func growth(live uint64) int {
	return 100 * min(max(int(heapFloor/max(live, 1))-1, 1), 4)
}
