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

// A result is what a step has measured, in all rounds.
type result struct {
	step
	rates []float64 // messages delivered per second
	cpu   []float64 // µs of nsqd for each; empty where that is not measured
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
			if err := o.runOnce(ctx, r, slices.Concat(d.flags, certFlags)); err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	return results, nil
}

// runOnce starts an nsqd for one step.
func (o *options) runOnce(ctx context.Context, r *result, flags []string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not done after %v (--timeout)", o.Timeout))
	defer cancel()
	n, err := start(ctx, o.NSQD, r.procs, flags)
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
			r.rates = append(r.rates, f.Value)
		case scenario.CPU:
			r.cpu = append(r.cpu, f.Value)
		}
	}
	return nil
}

// start starts nsqd with so many CPUs; 0 for its own choice.
func start(ctx context.Context, path string, procs int, flags []string) (n *load.NSQD, err error) {
	if procs > 0 {
		const name = "GOMAXPROCS" // which the process inherits; ours has begun with another
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
	}
	return load.Start(ctx, path, "", flags...)
}

// median is the value in the middle, or the mean of the two there; 0 for none.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
