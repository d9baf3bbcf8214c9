// Command nsqlookupd is the directory daemon: nsqds register their topics and
// channels with it, consumers and tools ask it over HTTP who has them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/version"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

const program = "nsqlookupd"

func main() {
	// The end of a terminal does not end the daemon, as under nohup.
	signal.Ignore(syscall.SIGHUP)
	// The context stays subscribed to the signals: a second one changes nothing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without its surroundings. It returns the exit code: 0
// after an end of ctx, --version or --help, 1 after a failure, 2 for a mistake
// on the command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := nsqlookupd.NewOptions()
	if err != nil {
		return fail(stderr, err.Error())
	}
	fs := config.NewFlagSet(program, opts)
	fs.SetOutput(stderr)
	showVersion := fs.Bool("version", false, "print the version and exit")
	path := fs.String("config", "", "`path` to a TOML file")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *showVersion {
		fmt.Fprintln(stdout, version.String(program))
		return 0
	}
	warnings, err := config.Load(opts, fs, *path)
	if err != nil {
		return fail(stderr, err.Error())
	}
	opts.Logger = logging.New(stderr, opts.LogPrefix, opts.LogLevel)
	for _, w := range warnings {
		opts.Logger.Warn(w)
	}
	if fs.NArg() > 0 {
		opts.Logger.Warn("arguments from here on are ignored: " + strings.Join(fs.Args(), " "))
	}
	l, err := nsqlookupd.New(opts)
	if err != nil {
		return fail(stderr, "failed to instantiate nsqlookupd - "+err.Error())
	}
	if err := l.Run(ctx); err != nil {
		return fail(stderr, err.Error())
	}
	return 0
}

func fail(stderr io.Writer, text string) int {
	logging.Fatal(stderr, program, text)
	return 1
}
