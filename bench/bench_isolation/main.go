// Bench_isolation measures whether what goes on elsewhere in an nsqd delays the messages
// of a topic and channel that are well: a thousand messages a second, whose time from PUB
// to the consumer is measured alone and beside one disturbance after the other.
//
//	bench_isolation [-nsqd build/nsqd] [-run regexp] [-n 5] [-share 0.5] ...
//
//	disturbances.go  what goes on elsewhere
//	site.go          … on one nsqd, as fast as is allowed
//	disturber.go     … from a process of its own, whose work delays no measurement
//	flow.go          the messages that are measured
//	measure.go       all of it in turns, some rounds
//	table.go         what came out
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
	"github.com/nsq-suite/nsq/internal/tool"
)

// options are the flags.
type options struct {
	NSQD     string        `flag:"nsqd" value:"path" usage:"the nsqd to measure"`
	DataPath string        `flag:"data-path" value:"path" usage:"directory for its data, on the disk that is to be slow or small; it must be empty (default: a temporary one)"`
	Run      string        `flag:"run" value:"regexp" usage:"disturbances to measure, by name"`
	Rounds   int           `flag:"n" usage:"rounds; medians are told"`
	Duration time.Duration `flag:"duration" usage:"how long one measurement takes"`
	Rate     int           `flag:"rate" usage:"messages per second that are measured"`
	Share    float64       `flag:"share" usage:"how much CPU nsqd may need while it is disturbed, in CPUs"`
	Scale    float64       `flag:"scale" usage:"how many topics, channels and messages disturb, as a multiple of what is usual"`

	// Of the process that disturbs, which this program starts itself as.
	Disturb  string `flag:"disturb" value:"name" group:"Instead, make a disturbance until stdin ends" usage:"the disturbance"`
	TCPAddr  string `flag:"nsqd-tcp-address" usage:"where the nsqd listens for clients"`
	HTTPAddr string `flag:"nsqd-http-address" usage:"where it listens for HTTP"`
	PID      int    `flag:"nsqd-pid" usage:"its process"`

	disturbances []disturbance // those that are to be measured, or made; set by check
	self         string        // the path of this program; empty to find it out
}

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	o := &options{NSQD: "build/nsqd", Run: ".", Rounds: 5, Duration: 2 * time.Second, Rate: 1000, Share: 0.5, Scale: 1}
	return tool.Command{
		Name: "bench_isolation",
		Summary: "Measures how long the messages of one topic take while nsqd is busy with others: the\n" +
			"p50 and p99 in quiet, with the disturbance in another nsqd beside, which says what the\n" +
			"machine makes of it, and with the disturbance in the same nsqd, which may be twice that.",
		Examples: `  bench_isolation
  bench_isolation --run='huge|fsync' --n=9 --share=0.3
  bench_isolation --run=disk --data-path=/mnt/slow/empty`,
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
	case o.Duration < time.Millisecond:
		return errors.New("--duration must be at least 1ms")
	case o.Rate < 1:
		return errors.New("--rate must be at least 1")
	case !(o.Share > 0):
		return errors.New("--share must be above 0")
	}
	for _, d := range disturbances {
		if d.name == o.Disturb || o.Disturb == "" && pattern.MatchString(d.name) {
			o.disturbances = append(o.disturbances, d)
		}
	}
	if len(o.disturbances) == 0 {
		return fmt.Errorf("no disturbance is called %s", cmp.Or(o.Disturb, o.Run))
	}
	if o.self == "" {
		o.self, err = exec.LookPath(os.Args[0])
	}
	return err
}

func (o *options) run(ctx context.Context, env *tool.Env) error {
	if o.Disturb != "" {
		return o.disturb(ctx, env)
	}
	var results []*result
	var errs []error
	for _, d := range o.disturbances {
		r, err := o.measure(ctx, env, d)
		if ctx.Err() != nil {
			errs = append(errs, errors.New("interrupted"))
			break
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, err))
			continue
		}
		results = append(results, r)
	}
	if len(results) > 0 {
		if _, err := fmt.Fprint(env.Stdout, table(results)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
