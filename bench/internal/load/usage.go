package load

import (
	"context"
	"fmt"
	"time"
)

// A Usage is what a process has used. Where that is not known, Measured is false and
// the rest zero.
type Usage struct {
	Measured bool
	CPU      time.Duration // of all its threads, in user mode and in the system
	Memory   int64         // resident now, in bytes
	Peak     int64         // resident at most since the process began, in bytes
}

// Usage returns what nsqd's process has used until now. It is not measured if PID is
// 0 or the system is not Linux.
func (n *NSQD) Usage() (Usage, error) {
	if n.PID == 0 {
		return Usage{}, nil
	}
	u, err := processUsage(n.PID)
	if err != nil {
		return Usage{}, n.explain(fmt.Errorf("measure process %d: %w", n.PID, err))
	}
	return u, nil
}

// What Settle takes for rest: so little CPU time in each of two spans in a row.
const (
	restSpan = 50 * time.Millisecond
	restCPU  = 500 * time.Microsecond
)

// Settle waits until nsqd's process does hardly anything, for two seconds at most: a
// garbage collection, say, that was begun by what came before is not part of what is
// measured next. It returns at once if the process is not measured.
func (n *NSQD) Settle(ctx context.Context) error {
	last, err := n.Usage()
	for quiet, i := 0, 0; err == nil && last.Measured && quiet < 2 && i < 40; i++ {
		select {
		case <-time.After(restSpan):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var now Usage
		now, err = n.Usage()
		if quiet++; now.CPU-last.CPU > restCPU {
			quiet = 0
		}
		last = now
	}
	return err
}

// A Cost is what something took.
type Cost struct {
	Wall time.Duration
	Usage
	Grown int64 // bytes of resident memory at the end more than before
}

// Measure calls f and returns its cost: the wall time, and of nsqd's process the CPU
// time of that span and the memory at its end.
func (n *NSQD) Measure(f func() error) (Cost, error) {
	before, err := n.Usage()
	if err != nil {
		return Cost{}, err
	}
	start := time.Now()
	if err := f(); err != nil {
		return Cost{}, err
	}
	cost := Cost{Wall: time.Since(start)}
	if cost.Usage, err = n.Usage(); err != nil {
		return Cost{}, err
	}
	cost.CPU -= before.CPU
	cost.Grown = cost.Memory - before.Memory
	return cost, nil
}
