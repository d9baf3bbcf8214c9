// Command nsqlookupd is the directory daemon: nsqds register their topics and
// channels with it, consumers and tools ask it over HTTP who has them.
package main

import (
	"log/slog"
	"os"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/program"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

func main() { os.Exit(command().Main()) }

func command() program.Program {
	opts := nsqlookupd.NewOptions()
	return program.Program{
		Name:    "nsqlookupd",
		Options: opts,
		Logging: func() (string, logging.Level) { return opts.LogPrefix, opts.LogLevel },
		New: func(log *slog.Logger) (program.Daemon, error) {
			opts.Logger = log
			return nsqlookupd.New(opts)
		},
	}
}
