// Package program is what the commands of the daemons have in common: from flags
// to options, from signals to a context, from errors to an exit code, and what
// systemd is told.
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
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/version"
)

// A Daemon is what a program runs. O are its options. All methods but Run may be
// called at any time, from other goroutines than that of Run.
type Daemon[O any] interface {
	// Run serves until the context ends, and then stops cleanly. It is called once.
	Run(context.Context) error

	// Ready is closed when clients are served.
	Ready() <-chan struct{}

	// Reload takes over what differs in opts and can be changed while the daemon
	// runs, the log level among it, and reads again the files that options name.
	// After an error nothing has changed.
	Reload(opts *O) error

	// Remaining says in a few words what a stop is waiting for.
	Remaining() string
}

// A Drainer is a [Daemon] that can be told to stop once its work is done.
type Drainer interface {
	// Terminate is told of a SIGTERM. Where that means to drain, it begins a drain,
	// at the end of which Run returns, and returns true. It returns false where the
	// daemon is to stop now: also during a drain.
	Terminate() (draining bool)

	// Stopping is closed when Run has begun to stop, for whatever reason.
	Stopping() <-chan struct{}
}

// A Program is one daemon as a command.
type Program[O any] struct {
	Name string

	// Defaults returns new options, a struct with the tags of package config.
	Defaults func() *O

	// Settings returns what the options say to the program itself.
	Settings func(*O) Settings

	// Doubts returns what in the options is allowed and probably a mistake: a
	// warning, or with --strict-config the end. It may be nil.
	Doubts func(*O) []string

	// New makes the daemon from the resolved options. level is the level of log.
	// Its error is printed after "failed to instantiate <name> - ".
	New func(opts *O, log *slog.Logger, level *slog.LevelVar) (Daemon[O], error)
}

// Settings are what the options of a daemon say to its program.
type Settings struct {
	Log logging.Options

	// ShutdownTimeout is how long Run may take to return after the end of its
	// context; 0 is for ever. Then the process ends in the midst of it.
	ShutdownTimeout time.Duration
}

// A Process is what a program takes from its surroundings.
type Process struct {
	Args           []string // without the name of the program
	Stdout, Stderr io.Writer
	Reload         <-chan os.Signal // what comes here makes the program reload
	Terminate      <-chan os.Signal // what comes here makes it stop, or a [Drainer] drain
}

// Main runs the program with the command line and the signals of the process:
// SIGINT and SIGTERM stop it, the latter perhaps after a drain, and further ones
// change nothing; SIGHUP makes it reload. It returns the exit code.
func (p Program[O]) Main() int {
	floorHeap()
	defer returnIdleMemory()()
	reload, terminate := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	signal.Notify(terminate, syscall.SIGTERM)
	// The context stays subscribed to the signal until the end.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return p.Run(ctx, Process{os.Args[1:], os.Stdout, os.Stderr, reload, terminate})
}

// Run is the program without its surroundings. It returns the exit code: 0
// after an end of ctx, --version or --help, 1 after a failure, 2 for a mistake on
// the command line. Source: HTTP and operations spec, sections 9.1 and 12.
func (p Program[O]) Run(ctx context.Context, proc Process) int {
	opts, line, err := p.parse(proc.Args, proc.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if line.version {
		fmt.Fprintln(proc.Stdout, version.String(p.Name))
		return 0
	}
	warnings, err := p.load(opts, line)
	settings := p.Settings(opts)
	if err != nil {
		settings.Log.Fatal(proc.Stderr, p.Name, err.Error())
		return 1
	}
	log, level := settings.Log.Logger(proc.Stderr)
	for _, w := range warnings {
		log.Warn(w)
	}
	daemon, err := p.New(opts, log, level)
	if err != nil {
		settings.Log.Fatal(proc.Stderr, p.Name, fmt.Sprintf("failed to instantiate %s - %s", p.Name, err))
		return 1
	}
	r := running[O]{program: p, daemon: daemon, proc: proc, log: log}
	if err := r.run(ctx, settings.ShutdownTimeout); err != nil {
		settings.Log.Fatal(proc.Stderr, p.Name, err.Error())
		return 1
	}
	return 0
}

// A commandLine is the flags, parsed.
type commandLine struct {
	flags           *flag.FlagSet
	path            string // of the TOML file
	version, strict bool
}

// parse reads the command line. What is wrong with it is printed to output, and so
// is the usage.
func (p Program[O]) parse(args []string, output io.Writer) (opts *O, line commandLine, err error) {
	opts = p.Defaults()
	line.flags = config.NewFlagSet(p.Name, opts)
	line.flags.SetOutput(output)
	line.flags.BoolVar(&line.version, "version", false, "print the version and exit")
	line.flags.StringVar(&line.path, "config", "", "`path` to a TOML file")
	line.flags.BoolVar(&line.strict, "strict-config", false, config.StrictUsage)
	return opts, line, line.flags.Parse(args)
}

// load fills opts from flags, file and defaults. What it warns of is an error with
// --strict-config.
func (p Program[O]) load(opts *O, line commandLine) (warnings []string, err error) {
	if warnings, err = config.Load(opts, line.flags, line.path); err != nil {
		return nil, err
	}
	warnings = append(warnings, config.StrayArguments(line.flags)...)
	if p.Doubts != nil {
		warnings = append(warnings, p.Doubts(opts)...)
	}
	if line.strict {
		return nil, config.Strict(warnings)
	}
	return warnings, nil
}
