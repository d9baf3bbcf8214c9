// nsqd is the NSQ queue daemon.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/version"
	"github.com/nsq-suite/nsq/nsqd"
)

const program = "nsqd"

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 0 after a clean stop, 1 if the daemon could not
// start or had to stop, 2 for a bad command line.
func run(args []string) int {
	opts := nsqd.NewOptions()
	fs := config.NewFlagSet(program, opts)
	showVersion := fs.Bool("version", false, "print version and exit")
	file := fs.String("config", "", "path to a TOML file")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *showVersion {
		fmt.Println(version.String(program))
		return 0
	}
	warnings, err := config.Load(opts, fs, *file)
	if err != nil {
		return fatal(err.Error())
	}
	var level slog.LevelVar
	level.Set(opts.LogLevel.Level())
	opts.Logger = logging.New(os.Stderr, opts.LogPrefix, &level)
	for _, w := range warnings {
		opts.Logger.Warn(w)
	}
	if rest := fs.Args(); len(rest) > 0 {
		opts.Logger.Warn("arguments after the first word that is no flag have no effect: " + strings.Join(rest, " "))
	}

	daemon, err := nsqd.New(opts)
	if err != nil {
		return fatal("failed to instantiate nsqd - " + err.Error())
	}
	// Signals that come while the daemon stops change nothing: it stops within
	// a bound of its own.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
	}()
	if err := daemon.Run(ctx); err != nil {
		return fatal(err.Error())
	}
	return 0
}

func fatal(text string) int {
	logging.Fatal(os.Stderr, program, text)
	return 1
}
