// Package program is what the commands of the daemons have in common: from flags
// to options, from signals to a context, from errors to an exit code.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/version"
)

// A Daemon serves until its context ends, and then stops cleanly.
type Daemon interface {
	Run(context.Context) error
}

// A Program is one daemon as a command.
type Program struct {
	Name string

	// Options points to a struct with the tags of package config and the
	// defaults.
	Options any

	// Logging returns what the resolved options say of the log.
	Logging func() (prefix string, level logging.Level)

	// New makes the daemon from the resolved options. Its error is printed after
	// "failed to instantiate <name> - ".
	New func(log *slog.Logger) (Daemon, error)
}

// Main runs the program with the command line and the signals of the process:
// SIGINT and SIGTERM stop it, further ones change nothing, and the end of the
// terminal (SIGHUP) does not end a daemon. It returns the exit code.
func (p Program) Main() int {
	floorHeap()
	signal.Ignore(syscall.SIGHUP)
	// The context stays subscribed to the signals until the end.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return p.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// Run is the program without its surroundings. It returns the exit code: 0
// after an end of ctx, --version or --help, 1 after a failure, 2 for a mistake on
// the command line. Source: HTTP and operations spec, sections 9.1 and 12.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := config.NewFlagSet(p.Name, p.Options)
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
		fmt.Fprintln(stdout, version.String(p.Name))
		return 0
	}
	warnings, err := config.Load(p.Options, fs, *path)
	if err != nil {
		return p.fail(stderr, err.Error())
	}
	prefix, level := p.Logging()
	log := logging.New(stderr, prefix, level)
	for _, w := range warnings {
		log.Warn(w)
	}
	if fs.NArg() > 0 {
		log.Warn("arguments from here on are ignored: " + strings.Join(fs.Args(), " "))
	}
	daemon, err := p.New(log)
	if err != nil {
		return p.fail(stderr, fmt.Sprintf("failed to instantiate %s - %s", p.Name, err))
	}
	if err := daemon.Run(ctx); err != nil {
		return p.fail(stderr, err.Error())
	}
	return 0
}

func (p Program) fail(stderr io.Writer, text string) int {
	logging.Fatal(stderr, p.Name, text)
	return 1
}
