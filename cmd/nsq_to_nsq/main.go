// Command nsq_to_nsq publishes the messages of topics to other nsqds.
package main

import (
	"context"
	"os"

	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/nsqtonsq"
)

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	opts := nsqtonsq.NewOptions()
	return tool.Command{
		Name: "nsq_to_nsq",
		Summary: `Publishes the messages of topics to other nsqds. A message that cannot be published
comes again later, for ever unless --consumer-opt=max_attempts,<n> says otherwise.`,
		Examples: `  nsq_to_nsq --lookupd-http-address=lookup.example:4161 --topic=orders --destination-nsqd-tcp-address=far.example:4150
  nsq_to_nsq --nsqd-tcp-address=127.0.0.1:4150 --topic=orders --destination-topic=big_orders \
      --destination-nsqd-tcp-address=127.0.0.1:4150 --require-json-field=size --require-json-value=big`,
		Options: opts,
		Check:   opts.Check,
		Run:     func(ctx context.Context, env *tool.Env) error { return nsqtonsq.Run(ctx, opts, env) },
	}
}
