package main

import (
	"errors"
	"fmt"
	"math"
)

// A row is a load, and what it was last measured to cost. The program prints what is
// to replace that when nsqd has become better.
type row struct {
	name     string
	messages int
	load     func(*session) error
	on       target
	now      costs
}

// A target is a daemon that a load is put on.
type target int

const (
	memory     target = iota // nsqd with a large memory queue
	memoryNull               // … whose CPU time is compared with that of the null server
	disk                     // nsqd that queues on disk
)

var table = []row{ //                                                                    allocations, B allocated, B kept, GC/100k, CPU/null
	{"PUB from 8 connections, queued", 8_000, publishOneByOne, memoryNull, costs{3.1, 390, 358, 0, 1.2}},
	{"PUB, 100 at a time, queued", 100_000, publish(1), memoryNull, costs{0.040, 210, 210, 1, 1.8}},
	{"MPUB of 200, queued", 200_000, publish(200), memoryNull, costs{0.029, 210, 210, 1, 3.5}},
	{"DPUB, 100 at a time, deferred", 50_000, publishDeferred, memory, costs{0.051, 211, 212, 1, 0}},
	{"HTTP /pub from 8 connections, queued", 2_000, publishHTTP, memoryNull, costs{28, 2780, 328, 0, 1.2}},
	{"a backlog, delivered and finished", 200_000, drain, memoryNull, costs{0.004, 6, -207, 0, 2.0}},
	{"PUB, 100 at a time, delivered and finished", 100_000, through(1, 1), memoryNull, costs{0.049, 220, 4, 1, 1.8}},
	{"MPUB of 200, delivered and finished", 200_000, through(200, 1), memoryNull, costs{0.033, 217, 3, 1.5, 2.8}},
	{"MPUB of 200, to 8 channels", 50_000, through(200, 8), memoryNull, costs{0.082, 335, 50, 2, 2.4}},
	{"MPUB of 200, queued on disk", 100_000, publish(200), disk, costs{0.053, 215, 3, 1, 0}},
	{"a backlog on disk, delivered and finished", 100_000, drain, disk, costs{0.073, 322, 6, 2, 0}},
}

// limits are how each of the costs is named, and how much more than what was measured
// is too much: so many times as much, and what is added to that because some of it
// does not depend on the number of messages. What is kept is the same each time; how
// much is done at once, and so what that allocates, depends a little on what else the
// machine does, and CPU time does so a lot.
var limits = []struct {
	name  string
	of    func(costs) float64
	slack float64
	plus  float64
}{
	{"allocations", func(c costs) float64 { return c.allocations }, 1.5, 0.02},
	{"bytes allocated", func(c costs) float64 { return c.allocated }, 1.5, 20},
	{"bytes kept", func(c costs) float64 { return c.kept }, 1.2, 20},
	{"garbage collections in 100,000 messages", func(c costs) float64 { return c.collections }, 1.5, 3},
	{"of the null server's CPU time", func(c costs) float64 { return c.cpu }, 2, 0},
}

// check returns an error for each of the costs that is too high. CPU time that was not
// measured, now or when the row was written, is not.
func (r row) check(got costs) error {
	var errs []error
	for _, l := range limits {
		before, now := l.of(r.now), l.of(got)
		if before == 0 && l.plus == 0 {
			continue // never measured
		}
		most := before + math.Abs(before)*(l.slack-1) + l.plus
		if now > most {
			errs = append(errs, fmt.Errorf("%s: %.3g %s, at most %.3g allowed, %.3g before", r.name, now, l.name, most, before))
		}
	}
	return errors.Join(errs...)
}
