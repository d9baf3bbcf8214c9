// Bench measures an nsqd with all the programs bench_*, a number of rounds each, and
// prints the medians as a table. It starts nsqd anew for every run. With another
// nsqd, and with the null server, each round runs all of them one after the other, so
// that what else the machine does meets them alike.
//
//	bench [-nsqd build/nsqd] [-ref /path/to/another/nsqd] [-run regexp] [-n 3] [-json file] [-svg file] ...
//
//	scenarios.go  what is measured
//	rounds.go     how: one run, and all of them in turns
//	report.go     what came out, as JSON
//	limits.go     what the machine can do at most
//	table.go      … as a table
//	chart.go      … as a picture
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
	NSQD     string `flag:"nsqd" value:"path" group:"What is measured" usage:"the nsqd to measure"`
	Ref      string `flag:"ref" value:"path" usage:"another nsqd to compare it with"`
	Null     string `flag:"null" value:"path" usage:"the null server, which says what the machine can do; empty for none"`
	TCPAddr  string `flag:"nsqd-tcp-address" usage:"measure, instead of one that is started, the nsqd that listens here for clients ..."`
	HTTPAddr string `flag:"nsqd-http-address" usage:"... and here for HTTP"`
	PID      int    `flag:"nsqd-pid" usage:"its process, if it is on this machine: CPU and memory are measured then, on Linux"`

	Run     string        `flag:"run" value:"regexp" group:"How" usage:"scenarios to run"`
	Rounds  int           `flag:"n" usage:"rounds; medians are told"`
	Scale   float64       `flag:"scale" usage:"how much there is to do, as a multiple of what is in the list"`
	Timeout time.Duration `flag:"timeout" usage:"how long one run may take"`
	List    bool          `flag:"list" usage:"print the scenarios, each as the program that runs it alone, and exit"`

	JSON string `flag:"json" value:"path" group:"Results" usage:"file for the figures of all rounds"`
	SVG  string `flag:"svg" value:"path" usage:"file for a picture of the medians"`

	scenarios []entry // those that Run matches; set by check
}

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	o := &options{NSQD: "build/nsqd", Null: "build/bench/null", Run: ".", Rounds: 3, Scale: 1, Timeout: time.Minute}
	return tool.Command{
		Name:    "bench",
		Summary: "Measures an nsqd, alone or beside another one, and prints the medians of a number of\nrounds as a table.",
		Examples: `  bench
  bench --run='pub|latency' --n=9 --ref=/usr/local/bin/nsqd
  bench --nsqd-tcp-address=10.0.0.1:4150 --nsqd-http-address=10.0.0.1:4151 --null=`,
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
	case (o.TCPAddr == "") != (o.HTTPAddr == ""):
		return errors.New("--nsqd-tcp-address and --nsqd-http-address go together")
	case o.PID != 0 && o.TCPAddr == "":
		return errors.New("--nsqd-pid is of no use without --nsqd-tcp-address")
	}
	for _, e := range scenarios {
		if pattern.MatchString(e.name) {
			o.scenarios = append(o.scenarios, e)
		}
	}
	if len(o.scenarios) == 0 {
		return fmt.Errorf("--run: no scenario matches %s", o.Run)
	}
	if o.List {
		return nil
	}
	return o.checkPrograms()
}

// checkPrograms reports a missing program before anything is measured.
func (o *options) checkPrograms() error {
	programs := []struct{ flag, path string }{{"ref", o.Ref}, {"null", o.Null}}
	if o.TCPAddr == "" {
		programs = append(programs, struct{ flag, path string }{"nsqd", o.NSQD})
	}
	for _, p := range programs {
		if p.path == "" && p.flag != "nsqd" {
			continue
		}
		if _, err := os.Stat(p.path); err != nil {
			return fmt.Errorf("--%s (make build compiles nsqd and the null server): %w", p.flag, err)
		}
	}
	return nil
}

func (o *options) run(ctx context.Context, env *tool.Env) error {
	if o.List {
		return printList(env.Stdout, o.scenarios)
	}
	report, err := o.measure(ctx, env)
	if _, printErr := fmt.Fprint(env.Stdout, report.table()); printErr != nil {
		err = errors.Join(err, printErr)
	}
	for _, file := range []struct {
		path   string
		encode func() ([]byte, error)
	}{{o.JSON, report.json}, {o.SVG, report.chart}} {
		if file.path != "" {
			err = errors.Join(err, write(file.path, file.encode))
		}
	}
	return err
}

// write puts what encode returns into a file.
func write(path string, encode func() ([]byte, error)) error {
	data, err := encode()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
