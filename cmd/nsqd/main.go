// Command nsqd is the queue daemon: it takes messages from producers, keeps them,
// and delivers them to consumers.
package main

import (
	"log/slog"
	"os"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/program"
	"github.com/nsq-suite/nsq/nsqd"
)

func main() { os.Exit(command().Main()) }

func command() program.Program {
	opts := nsqd.NewOptions()
	return program.Program{
		Name:    "nsqd",
		Options: opts,
		Logging: func() (string, logging.Level) { return opts.LogPrefix, opts.LogLevel },
		New: func(log *slog.Logger) (program.Daemon, error) {
			opts.Logger = log
			return nsqd.New(opts)
		},
	}
}
