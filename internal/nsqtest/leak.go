package nsqtest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// leakWait is how long goroutines may take to end after the test's last step.
const leakWait = 5 * time.Second

var leakChecks atomic.Int64

// NoLeaks fails the test if, at its end, a goroutine is still there that was
// started after this call by the test's goroutine or by one of its goroutines.
// Goroutines are told apart by a profiler label, which they inherit, so tests
// that run in parallel do not disturb each other. Call it before whatever
// registers the cleanups that end the goroutines.
func NoLeaks(t testing.TB) { noLeaks(t, leakWait) }

func noLeaks(t testing.TB, wait time.Duration) {
	label := fmt.Sprintf("%s#%d", t.Name(), leakChecks.Add(1))
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("nsqtest", label)))
	t.Cleanup(func() {
		pprof.SetGoroutineLabels(context.Background()) // not counting this one
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for deadline := time.Now().Add(wait); ; <-ticker.C {
			left := labelled(t, label)
			if left == "" {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("goroutines left behind:\n%s", left)
				return
			}
		}
	})
}

// labelled returns the stacks of all goroutines with the label.
func labelled(t testing.TB, label string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatalf("list goroutines: %v", err)
	}
	mark := fmt.Sprintf("# labels: {%q:%q}", "nsqtest", label)
	var found []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, mark) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}
