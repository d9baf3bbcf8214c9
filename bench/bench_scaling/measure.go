package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/bench/internal/scenario"
	"github.com/nsq-suite/nsq/internal/tool"
)

// A result is what a step has measured.
type result struct {
	step
	nsqd, limit series
}

// A series is what was measured in all rounds, of nsqd or the null server.
type series struct {
	rates []float64 // messages delivered per second
	cpu   []float64 // µs of the server for each; empty where that is not measured
}

// measure runs all steps of a dimension, round by round: what else the machine does
// meets them alike. The first that fails ends it.
func (o *options) measure(ctx context.Context, env *tool.Env, d dimension) ([]*result, error) {
	certFlags, remove, err := certificate()
	if err != nil {
		return nil, err
	}
	defer remove()
	var results []*result
	for _, s := range d.steps {
		c := *s.load // the table stays as it is
		c.Scale(o.Scale)
		s.load = &c
		results = append(results, &result{step: s})
	}
	for round := range o.Rounds {
		for _, r := range results {
			if env.ShowProgress {
				env.Screen.Show(fmt.Sprintf("%s %s, round %d of %d", d.name, r.name, round+1, o.Rounds))
			}
			start := func(ctx context.Context) (*load.NSQD, error) {
				return load.Start(ctx, o.NSQD, "", slices.Concat(d.flags, certFlags)...)
			}
			if err := o.runOnce(ctx, r, &r.nsqd, start); err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			if o.Null == "" || !d.limit {
				continue
			}
			start = func(ctx context.Context) (*load.NSQD, error) { return load.StartNull(ctx, o.Null) }
			if err := o.runOnce(ctx, r, &r.limit, start); err != nil {
				return nil, fmt.Errorf("%s, null server: %w", r.name, err)
			}
		}
	}
	return results, nil
}

// runOnce runs one step on a server that start starts for it.
func (o *options) runOnce(ctx context.Context, r *result, into *series, start func(context.Context) (*load.NSQD, error)) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not done after %v (--timeout)", o.Timeout))
	defer cancel()
	n, err := withProcs(r.procs, func() (*load.NSQD, error) { return start(ctx) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	figures, err := r.load.Run(ctx, n)
	if err != nil {
		return err
	}
	for _, f := range figures {
		switch f.Kind {
		case scenario.Rate:
			into.rates = append(into.rates, f.Value)
		case scenario.CPU:
			into.cpu = append(into.cpu, f.Value)
		}
	}
	return nil
}

// withProcs lets start start a server that may use so many CPUs; 0 for its own choice.
func withProcs(procs int, start func() (*load.NSQD, error)) (n *load.NSQD, err error) {
	if procs == 0 {
		return start()
	}
	const name = "GOMAXPROCS" // which the server inherits; we have begun with another
	former, found := os.LookupEnv(name)
	if err := os.Setenv(name, strconv.Itoa(procs)); err != nil {
		return nil, err
	}
	defer func() {
		if found {
			err = errors.Join(err, os.Setenv(name, former))
		} else {
			err = errors.Join(err, os.Unsetenv(name))
		}
	}()
	return start()
}
