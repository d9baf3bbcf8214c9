package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"golang.org/x/sync/errgroup"
)

// A Scenario is one kind of work for an nsqd.
type Scenario interface {
	// Check reports a setting that is out of range, by the name of its flag.
	Check() error

	// Scale multiplies how much there is to do.
	Scale(factor float64)

	// Topics are the names of all topics that Run uses.
	Topics() []string

	// Run does the work and returns what it took. It leaves its topics behind.
	Run(ctx context.Context, n *load.NSQD) (Figures, error)

	// where returns the flags that say where nsqd is.
	where() *Target
}

// A Kind says what a figure is.
type Kind struct {
	Name   string
	Unit   string
	Higher bool // the higher the better; else the lower
}

// The kinds of figures.
var (
	Rate       = Kind{"rate", "msg/s", true}
	CPU        = Kind{"CPU", "µs/msg", false}
	Peak       = Kind{"peak memory", "MiB", false}
	Pace       = Kind{"pace kept", "msg/s", true}
	P50        = Kind{"p50", "ms", false}
	P99        = Kind{"p99", "ms", false}
	P999       = Kind{"p99.9", "ms", false}
	Connects   = Kind{"rate", "conn/s", true}
	PerConn    = Kind{"memory", "KiB/conn", false}
	Creates    = Kind{"rate", "topics/s", true}
	PerTopic   = Kind{"memory", "KiB/topic", false}
	PerMessage = Kind{"memory", "B/msg", false}
	IdleCPU    = Kind{"idle CPU", "%", false}
	StopTime   = Kind{"stop", "s", false}
	StartTime  = Kind{"start", "s", false}
)

// A Figure is one thing that was measured.
type Figure struct {
	Kind
	Value float64
}

// Figures are what a run has measured, in the order in which they are told. What could
// not be measured is not among them.
type Figures []Figure

func (f *Figures) add(kind Kind, value float64) { *f = append(*f, Figure{kind, value}) }

// throughput is what it took to move n messages.
func throughput(cost load.Cost, n int) Figures {
	var f Figures
	f.add(Rate, float64(n)/cost.Wall.Seconds())
	f.addCPU(cost, n)
	if cost.Measured {
		f.add(Peak, mebibytes(cost.Peak))
	}
	return f
}

func (f *Figures) addCPU(cost load.Cost, n int) {
	if cost.Measured {
		f.add(CPU, float64(cost.CPU.Nanoseconds())/1000/float64(n))
	}
}

// Median is the value in the middle, or the mean of the two there; 0 for none.
func Median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func mebibytes(n int64) float64      { return float64(n) / (1 << 20) }
func kibibytes(n int64) float64      { return float64(n) / (1 << 10) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// idle is how long nsqd is watched while it has nothing to do.
const idle = time.Second

// addIdle watches nsqd do nothing.
func (f *Figures) addIdle(ctx context.Context, n *load.NSQD) error {
	if n.PID == 0 {
		return nil
	}
	if err := n.Settle(ctx); err != nil {
		return err
	}
	cost, err := n.Measure(func() error {
		select {
		case <-time.After(idle):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err == nil && cost.Measured {
		f.add(IdleCPU, 100*cost.CPU.Seconds()/cost.Wall.Seconds())
	}
	return err
}

// share returns how many of n are for number i of k, so that all are for somebody.
func share(n, i, k int) int { return n*(i+1)/k - n*i/k }

// scaled returns n times factor, at least 1.
func scaled(n int, factor float64) int { return max(1, int(float64(n)*factor)) }

// dialAll connects k times.
func dialAll(ctx context.Context, n *load.NSQD, k int, identify load.Identify) (list []*load.Conn, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range list {
			c.Close()
		}
	}
	for range k {
		c, err := n.Dial(ctx, identify)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		list = append(list, c)
	}
	return list, closeAll, nil
}

// publish shares n messages out among the connections, at the same time.
func publish(list []*load.Conn, m load.Messages, n, window int) error {
	var g errgroup.Group
	for i, c := range list {
		g.Go(func() error { return c.Publish(m, share(n, i, len(list)), window) })
	}
	return g.Wait()
}

// consume lets all the connections consume until they have got n messages together.
// If one fails, cancel must end the others.
func consume(cancel context.CancelCauseFunc, list []*load.Conn, rdy, n int) error {
	left := load.NewCountdown(n)
	var g errgroup.Group
	for _, c := range list {
		g.Go(func() error {
			err := c.Consume(rdy, left, nil)
			if err != nil {
				cancel(err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%d of %d messages did not come: %w", left.Left(), n, err)
	}
	return nil
}

// A setting is the value of a flag, and the least that it may be.
type setting struct {
	flag         string
	value, least int
}

// atLeast reports the first setting that is too small.
func atLeast(settings ...setting) error {
	for _, s := range settings {
		if s.value < s.least {
			return fmt.Errorf("--%s must be at least %d", s.flag, s.least)
		}
	}
	return nil
}
