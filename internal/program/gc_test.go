package program

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 400, 1 << 20: 400, 3 << 20: 400, 4 << 20: 300, 5 << 20: 200, 8 << 20: 100, 16 << 20: 100, 1 << 40: 100,
	} {
		if got := growth(live); got != want {
			t.Errorf("live heap of %d bytes: %d %%, want %d %%", live, got, want)
		}
	}
}

// A daemon with little in memory collects seldom, and one with much as the runtime
// does by default.
func TestFloorHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(100)
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	until := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); percent() != want; runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatalf("%d %%, want %d %%", percent(), want)
			}
		}
	}
	floorHeap()
	until(400)
	much := make([]byte, 2*heapFloor)
	until(100)
	runtime.KeepAlive(much)
	until(400)
}

func TestFloorHeapLeavesGOGCAlone(t *testing.T) {
	t.Setenv("GOGC", "50")
	before := debug.SetGCPercent(50)
	defer debug.SetGCPercent(before)
	floorHeap()
	runtime.GC()
	if got := debug.SetGCPercent(50); got != 50 {
		t.Errorf("%d %%", got)
	}
}
