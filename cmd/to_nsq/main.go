// Command to_nsq publishes what it reads from stdin, split at a delimiter.
package main

import (
	"context"
	"os"

	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/tonsq"
)

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	opts := tonsq.NewOptions()
	return tool.Command{
		Name:    "to_nsq",
		Summary: "Publishes what it reads from stdin, split at a delimiter, to every nsqd given.",
		Examples: `  to_nsq --nsqd-tcp-address=127.0.0.1:4150 --topic=lines < access.log
  echo one,two,three | to_nsq --nsqd-tcp-address=127.0.0.1:4150 --topic=words --delimiter=,
  to_nsq --nsqd-tcp-address=127.0.0.1:4150 --topic=lines --rate=100 < access.log`,
		Options: opts,
		Check:   opts.Check,
		Run:     func(ctx context.Context, env *tool.Env) error { return tonsq.Run(ctx, opts, env) },
	}
}
