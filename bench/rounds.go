package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/bench/internal/scenario"
	"github.com/nsq-suite/nsq/internal/tool"
)

// A subject is one of the things that are measured side by side.
type subject string

// The subjects.
const (
	ours  subject = "nsqd"
	other subject = "ref"
	most  subject = "limit"
)

// measure runs all scenarios, each round by round with the subjects by turns. What
// fails is missing in the report, and told in the error.
func (o *options) measure(ctx context.Context, env *tool.Env) (*report, error) {
	r := &report{Time: time.Now(), Machine: thisMachine(), Before: loadAverage(), Rounds: o.Rounds, Scale: o.Scale, NSQD: o.NSQD, Ref: o.Ref}
	defer func() { r.After = loadAverage() }()
	if o.TCPAddr != "" {
		r.NSQD = o.TCPAddr
	}
	var errs []error
	for i, e := range o.scenarios {
		if o.TCPAddr != "" && e.aboutFlags() {
			env.Log.Printf("%s is not measured: it is about an nsqd with %v", e.name, e.flags)
			continue
		}
		result := newResult(e)
		failed := map[subject]bool{} // it would fail again, and say so
		for round := range o.Rounds {
			for _, s := range o.subjects(e, round) {
				if failed[s] {
					continue
				}
				if env.ShowProgress {
					env.Screen.Show(fmt.Sprintf("%s (%d of %d), round %d of %d: %s", e.name, i+1, len(o.scenarios), round+1, o.Rounds, s))
				}
				figures, err := o.runOnce(ctx, e, s)
				if ctx.Err() != nil {
					return r, errors.Join(append(errs, errors.New("interrupted"))...)
				}
				if err != nil {
					failed[s] = true
					errs = append(errs, fmt.Errorf("%s, %s: %w", e.name, s, err))
					continue
				}
				result.add(s, figures)
			}
		}
		r.Scenarios = append(r.Scenarios, result)
	}
	return r, errors.Join(errs...)
}

// subjects are what is measured in scenario e. Another one is first in each round.
func (o *options) subjects(e entry, round int) []subject {
	list := []subject{ours}
	if o.Ref != "" {
		list = append(list, other)
	}
	if e.limit != nil && o.Null != "" {
		list = append(list, most)
	}
	first := round % len(list)
	return append(list[first:len(list):len(list)], list[:first]...)
}

// runOnce runs a scenario once.
func (o *options) runOnce(ctx context.Context, e entry, on subject) (figures scenario.Figures, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not done after %v (--timeout)", o.Timeout))
	defer cancel()
	s, err := e.scenario(o.Scale)
	if err != nil {
		return nil, err
	}
	path := o.NSQD
	switch {
	case on == most:
		return e.limit(ctx, o, s)
	case on == other:
		path = o.Ref
	case o.TCPAddr != "":
		return scenario.RunAndClean(ctx, load.Connect(o.TCPAddr, o.HTTPAddr, o.PID), s)
	}
	n, err := load.Start(ctx, path, "", e.flags...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	return s.Run(ctx, n)
}
