package load

import (
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
