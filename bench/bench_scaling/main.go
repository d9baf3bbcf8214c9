// Bench_scaling measures whether the cost of a message stays the same while there is
// more of something: topics, channels, producers, consumers, bytes, messages in flight,
// CPUs.
//
//	bench_scaling [-nsqd build/nsqd] [-null build/bench/null] [-run regexp] [-n 5] ...
//
//	dimensions.go  what there is more of, step by step
//	measure.go     all steps of a dimension in turns, some rounds
//	cliffs.go      which steps make a message more expensive than they may
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
	"github.com/nsq-suite/nsq/internal/tool"
)

// options are the flags.
type options struct {
	NSQD    string        `flag:"nsqd" value:"path" usage:"the nsqd to measure"`
	Null    string        `flag:"null" value:"path" usage:"the null server, which says what the machine can do; empty for none"`
	Run     string        `flag:"run" value:"regexp" usage:"dimensions to measure, by name"`
	Rounds  int           `flag:"n" usage:"rounds; medians are told"`
	Scale   float64       `flag:"scale" usage:"how many messages there are, as a multiple of what is usual"`
	Timeout time.Duration `flag:"timeout" usage:"how long one step may take"`

	dimensions []dimension // those that Run matches; set by check
}

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	o := &options{NSQD: "build/nsqd", Null: "build/bench/null", Run: ".", Rounds: 5, Scale: 1, Timeout: time.Minute}
	return tool.Command{
		Name: "bench_scaling",
		Summary: "Measures what a message costs nsqd with more and more topics, channels, producers,\n" +
			"consumers, bytes, messages in flight and CPUs, and marks where it costs more than\n" +
			"1.3 times as much though there is only ten times as much of them. Where the null\n" +
			"server's cost grows like that, sockets are what it takes.",
		Examples: `  bench_scaling
  bench_scaling --nsqd=/usr/local/bin/nsqd --run='^topics$|consumers' --n=9`,
		Options: o,
		Check:   o.check,
		Run:     o.run,
	}
}

func (o *options) check() error {
	pattern, err := scenario.Selection(o.Run, o.Rounds, o.Scale)
	switch {
	case err != nil:
		return err
	case o.Timeout <= 0:
		return errors.New("--timeout must be above 0")
	}
	for _, d := range dimensions {
		if pattern.MatchString(d.name) {
			o.dimensions = append(o.dimensions, d)
		}
	}
	if len(o.dimensions) == 0 {
		return fmt.Errorf("--run: no dimension matches %s", o.Run)
	}
	return nil
}

func (o *options) run(ctx context.Context, env *tool.Env) error {
	var errs []error
	for _, d := range o.dimensions {
		results, err := o.measure(ctx, env, d)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, err))
		}
		if ctx.Err() != nil {
			break // the results are of some steps only
		}
		if len(results) > 0 {
			if _, err := fmt.Fprintf(env.Stdout, "%s: %s\n\n%s\n", d.name, d.about, table(d, results)); err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}
