// Command nsq_tail prints the messages of topics as they come.
package main

import (
	"context"
	"os"

	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/nsqtail"
)

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	opts := nsqtail.NewOptions()
	return tool.Command{
		Name:    "nsq_tail",
		Summary: "Prints the messages of topics to stdout as they come, one per line.",
		Examples: `  nsq_tail --lookupd-http-address=lookup.example:4161 --topic=orders
  nsq_tail --nsqd-tcp-address=127.0.0.1:4150 --topic=orders --topic=refunds --print-topic
  nsq_tail --nsqd-tcp-address=127.0.0.1:4150 --topic=orders -n 10 --json | jq .body`,
		Options: opts,
		Check:   opts.Check,
		Run:     func(ctx context.Context, env *tool.Env) error { return nsqtail.Run(ctx, opts, env) },
	}
}
