// Command nsq_to_http makes an HTTP request of each message of a channel.
package main

import (
	"context"
	"os"

	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/nsqtohttp"
)

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	opts := nsqtohttp.NewOptions()
	return tool.Command{
		Name: "nsq_to_http",
		Summary: `Makes an HTTP request of each message of a channel. A message whose request fails
comes again later, for ever unless --consumer-opt=max_attempts,<n> says otherwise.`,
		Examples: `  nsq_to_http --lookupd-http-address=lookup.example:4161 --topic=orders --post=https://hook.example/orders
  nsq_to_http --nsqd-tcp-address=127.0.0.1:4150 --topic=orders --get='http://hook.example/?order=%s' --sample=0.1
  nsq_to_http --config=to_http.cfg --header='Authorization: Bearer secret' --content-type=application/json`,
		Options: opts,
		Check:   opts.Check,
		Run:     func(ctx context.Context, env *tool.Env) error { return nsqtohttp.Run(ctx, opts, env) },
	}
}
