// Command nsqlookupd is the directory daemon: nsqds register their topics and
// channels with it, consumers and tools ask it over HTTP who has them.
package main

import (
	"log/slog"
	"os"

	"github.com/nsq-suite/nsq/internal/program"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

func main() { os.Exit(command().Main()) }

func command() program.Program[nsqlookupd.Options] {
	return program.Program[nsqlookupd.Options]{
		Name:     "nsqlookupd",
		Defaults: nsqlookupd.NewOptions,
		Settings: func(opts *nsqlookupd.Options) program.Settings {
			return program.Settings{Log: opts.Options, ShutdownTimeout: opts.ShutdownTimeout}
		},
		New: func(opts *nsqlookupd.Options, log *slog.Logger, level *slog.LevelVar) (program.Daemon[nsqlookupd.Options], error) {
			opts.Logger, opts.Level = log, level
			return nsqlookupd.New(opts)
		},
	}
}
