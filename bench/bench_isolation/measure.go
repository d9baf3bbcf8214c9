package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/tool"
	"golang.org/x/sync/errgroup"
)

// A place is where the disturbance is.
type place int

// The places: nowhere, in another nsqd, in the same one, and there as fast as it can.
const (
	quiet place = iota
	beside
	inside
	full
	places
)

func (p place) String() string { return [...]string{"quiet", "beside", "inside", "full"}[p] }

// A result is what was measured with one disturbance.
type result struct {
	disturbance
	samples [places]sample
}

// A sample is of all rounds.
type sample struct {
	p50, p99 []float64 // ms
	cpu      []float64 // of the nsqd that is disturbed, in CPUs; empty where that is not measured
}

// measure measures the flow with a disturbance in all places by turns.
func (o *options) measure(ctx context.Context, env *tool.Env, d disturbance) (*result, error) {
	r := &result{disturbance: d}
	for round := range o.Rounds {
		for i := range places {
			p := (i + place(round)) % places
			if env.ShowProgress {
				env.Screen.Show(fmt.Sprintf("%s, round %d of %d: %v", d.name, round+1, o.Rounds, p))
			}
			if err := o.runOnce(ctx, d, p, &r.samples[p]); err != nil {
				return nil, fmt.Errorf("%v: %w", p, err)
			}
		}
	}
	return r, nil
}

// runOnce measures the flow once.
func (o *options) runOnce(ctx context.Context, d disturbance, p place, into *sample) (err error) {
	measured, err := o.start(ctx, d, "measured")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, measured.Stop()) }()
	disturbed := measured
	if p == beside {
		if disturbed, err = o.start(ctx, d, "beside"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, disturbed.Stop()) }()
	}

	if p != quiet {
		disturber, startErr := o.startDisturber(ctx, d, disturbed, p)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, disturber.stop()) }()
	}
	return o.sample(ctx, measured, disturbed, into)
}

// start starts an nsqd.
func (o *options) start(ctx context.Context, d disturbance, name string) (*load.NSQD, error) {
	dataPath := ""
	if o.DataPath != "" {
		dataPath = filepath.Join(o.DataPath, name)
		if err := errors.Join(os.RemoveAll(dataPath), os.Mkdir(dataPath, 0o777)); err != nil {
			return nil, err
		}
	}
	return load.Start(ctx, o.NSQD, dataPath, slices.Concat(commonFlags, d.flags)...)
}

// sample lets the flow run, another one in the nsqd beside if there is one, and notes
// what came out.
func (o *options) sample(ctx context.Context, measured, disturbed *load.NSQD, into *sample) error {
	f := flow{rate: o.Rate, warmUp: o.Duration / 4, duration: o.Duration}
	var ages *load.Histogram
	cost, err := disturbed.Measure(func() error {
		var g errgroup.Group
		if disturbed != measured {
			g.Go(func() error {
				_, err := f.run(ctx, disturbed)
				return err
			})
		}
		g.Go(func() (err error) {
			ages, err = f.run(ctx, measured)
			return err
		})
		return g.Wait()
	})
	if err != nil {
		return err
	}
	into.p50 = append(into.p50, millis(ages.Quantile(0.5)))
	into.p99 = append(into.p99, millis(ages.Quantile(0.99)))
	if cost.Measured {
		into.cpu = append(into.cpu, cost.CPU.Seconds()/cost.Wall.Seconds())
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
