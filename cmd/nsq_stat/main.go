// Command nsq_stat prints the figures of one channel, summed over all nsqds that
// have it, one line per interval.
package main

import (
	"context"
	"os"

	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/nsqstat"
)

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	opts := nsqstat.NewOptions()
	return tool.Command{
		Name:    "nsq_stat",
		Summary: "Prints rates, depths and counters of one channel, summed over all nsqds that have it.",
		Examples: `  nsq_stat --lookupd-http-address=lookup.example:4161 --topic=orders --channel=billing
  nsq_stat --nsqd-http-address=127.0.0.1:4151 --topic=orders --channel=billing --count=1 --json`,
		Options: opts,
		Check:   opts.Check,
		Run:     func(ctx context.Context, env *tool.Env) error { return nsqstat.Run(ctx, opts, env) },
		Hangup:  tool.HangupEnds,
	}
}
