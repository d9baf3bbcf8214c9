// Command nsqd is the queue daemon: it takes messages from producers, keeps them,
// and delivers them to consumers.
package main

import (
	"log/slog"
	"os"

	"github.com/nsq-suite/nsq/internal/program"
	"github.com/nsq-suite/nsq/nsqd"
)

func main() { os.Exit(command().Main()) }

func command() program.Program[nsqd.Options] {
	return program.Program[nsqd.Options]{
		Name:     "nsqd",
		Defaults: nsqd.NewOptions,
		Settings: func(opts *nsqd.Options) program.Settings {
			return program.Settings{Log: opts.Options, ShutdownTimeout: opts.ShutdownTimeout}
		},
		Doubts: (*nsqd.Options).Doubts,
		New: func(opts *nsqd.Options, log *slog.Logger, level *slog.LevelVar) (program.Daemon[nsqd.Options], error) {
			opts.Logger, opts.Level = log, level
			return nsqd.New(opts)
		},
	}
}
