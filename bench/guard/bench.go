package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// A bench is the daemons that loads are put on.
type bench struct {
	memory *load.NSQD // with room for all messages
	disk   *load.NSQD // with room for none
	null   *load.NSQD
	topics int // so far
}

// How often a load is measured: at least so often where CPU time is compared; and
// where costs are too high, so often before that is believed.
const (
	leastRounds = 3
	mostRounds  = 10
)

// lowest measures the row's load and returns its costs, the lowest of each, as what
// else the machine does only adds to them. nsqd and the null server take turns.
func (b *bench) lowest(ctx context.Context, r row) (costs, error) {
	var low costs
	least, limit := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for round := 1; ; round++ {
		if r.on == memoryNull {
			cpu, err := b.measureNull(ctx, r)
			if err != nil {
				return costs{}, fmt.Errorf("null server: %w", err)
			}
			limit = min(limit, cpu)
		}
		got, cpu, err := b.measure(ctx, r)
		if err != nil {
			return costs{}, err
		}
		if round == 1 {
			low = got
		}
		low = low.lower(got)
		least = min(least, cpu)
		if r.on == memoryNull && limit > 0 {
			low.cpu = float64(least) / float64(limit)
		}
		if r.on != memoryNull || round >= leastRounds {
			if round == mostRounds || r.check(low) == nil {
				return low, nil
			}
		}
	}
}

// measureNull puts the row's load on the null server and returns its CPU time.
func (b *bench) measureNull(ctx context.Context, r row) (time.Duration, error) {
	s := b.session(ctx, b.null, r)
	defer s.close()
	if err := r.load(s); err != nil {
		return 0, err
	}
	cost, err := b.null.Measure(s.run)
	return cost.CPU, err
}

// measure puts the row's load on its nsqd. It returns the costs but that of CPU time,
// and the CPU time.
func (b *bench) measure(ctx context.Context, r row) (costs, time.Duration, error) {
	nsqd := b.memory
	if r.on == disk {
		nsqd = b.disk
	}
	s := b.session(ctx, nsqd, r)
	defer s.close()
	if err := r.load(s); err != nil {
		return costs{}, 0, err
	}
	first, err := readMemStats(ctx, nsqd)
	if err != nil {
		return costs{}, 0, err
	}
	before, err := readMemStats(ctx, nsqd)
	if err != nil {
		return costs{}, 0, err
	}
	cost, err := nsqd.Measure(s.run)
	if err != nil {
		return costs{}, 0, err
	}
	after, err := readMemStats(ctx, nsqd)
	if err != nil {
		return costs{}, 0, err
	}
	// Reading costs something too: as much as it did before.
	grown := after.since(before).since(before.since(first))
	return grown.costs(r.messages), cost.CPU, nsqd.Delete(ctx, s.topic)
}

// session returns a session with a topic of its own.
func (b *bench) session(ctx context.Context, n *load.NSQD, r row) *session {
	b.topics++
	return &session{ctx: ctx, nsqd: n, topic: fmt.Sprint("guard", b.topics), n: r.messages}
}
