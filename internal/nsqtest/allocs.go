package nsqtest

import "testing"

// AllocatesAtMost fails the test if f allocates memory more than most times, on
// average of many calls, rounded down. What other goroutines allocate meanwhile counts
// too.
//
// Under the race detector f is called all the same, but nothing is counted: a
// [sync.Pool] forgets there, at random, what it has been given.
func AllocatesAtMost(t testing.TB, most float64, what string, f func()) {
	t.Helper()
	got := testing.AllocsPerRun(1000, f)
	if got > most && !RaceDetector {
		t.Errorf("%s: %v allocations, want at most %v", what, got, most)
	}
}
