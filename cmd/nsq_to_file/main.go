// Command nsq_to_file writes the messages of topics to files.
package main

import (
	"context"
	"os"

	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/nsqtofile"
)

func main() { os.Exit(command().Main()) }

func command() tool.Command {
	opts := nsqtofile.NewOptions()
	return tool.Command{
		Name: "nsq_to_file",
		Summary: `Writes the messages of topics to files, one per line. A message is finished when it is
on disk. SIGHUP closes the files, and the next message opens others.`,
		Examples: `  nsq_to_file --lookupd-http-address=lookup.example:4161 --topic=orders --output-dir=/var/log/nsq
  nsq_to_file --lookupd-http-address=lookup.example:4161 --topic-pattern='^log\.' --gzip \
      --work-dir=/var/spool/nsq --output-dir=/var/log/nsq --filename-format='<TOPIC>/<DATETIME><REV>.log'
  nsq_to_file --nsqd-tcp-address=127.0.0.1:4150 --topic=orders --compression=zstd --rotate-size=100000000`,
		Options:    opts,
		CheckFirst: opts.CheckFirst,
		Check:      opts.Check,
		Run:        func(ctx context.Context, env *tool.Env) error { return nsqtofile.Run(ctx, opts, env) },
		Fatal:      func(env *tool.Env, err error) { nsqtofile.Fatal(opts, env, err) },
		Hangup:     tool.HangupIsSent,
	}
}
