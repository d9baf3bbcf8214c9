package nsq

import (
	"context"
	"math/rand/v2"
	"time"
)

// sleepContext waits for d; it is false if ctx ends before.
func sleepContext(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jittered returns d with up to half of it taken off at random.
func jittered(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*float64(d)/2)
}
