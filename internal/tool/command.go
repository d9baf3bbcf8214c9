package tool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/version"
)

// A Command is one tool as a command.
type Command struct {
	Name     string
	Summary  string // what it does, in a sentence or two, for --help
	Examples string // lines of shell, for --help

	// Options points to a struct with the tags of package config and the
	// defaults.
	Options any

	// CheckFirst, if not nil, checks the arguments behind the flags and what else
	// must be right even for --version. Other commands ignore such arguments.
	CheckFirst func(args []string) error

	// Check checks the options.
	Check func() error

	// Run does the work until that is done or ctx ends, which is a normal end.
	Run func(ctx context.Context, env *Env) error

	// Fatal prints why Run failed, if that is not to be a line of Env.Log.
	Fatal func(env *Env, err error)

	// Hangup is what SIGHUP does; by default it ends the process.
	Hangup Hangup
}

// Hangup says what SIGHUP does.
type Hangup int

// What SIGHUP does: it ends the process by the signal, ends it as SIGTERM does, or
// is sent to Env.Hangup.
const (
	HangupKills Hangup = iota
	HangupEnds
	HangupIsSent
)

// An Env is what a command takes from its surroundings.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer

	// Screen is stderr. Log prints lines to it.
	Screen *Screen
	Log    *log.Logger

	Hangup <-chan os.Signal // nil unless the command asked for it

	// ShowProgress says whether there is somebody to look at progress, as far as
	// stderr can tell. OutputIsFile says that stdout is a regular file.
	ShowProgress bool
	OutputIsFile bool

	name string
}

// Main runs the command with the command line, the streams and the signals of the
// process, and returns the exit code. SIGINT and SIGTERM end ctx; further ones
// change nothing.
func (c Command) Main() int {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if c.Hangup == HangupEnds {
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	env := NewEnv(c.Name, os.Stdin, os.Stdout, os.Stderr)
	env.ShowProgress = isTerminal(os.Stderr)
	if info, err := os.Stdout.Stat(); err == nil {
		env.OutputIsFile = info.Mode().IsRegular()
	}
	if c.Hangup == HangupIsSent {
		hangup := make(chan os.Signal, 1) // one that is waiting stands for all that follow
		signal.Notify(hangup, syscall.SIGHUP)
		env.Hangup = hangup
	}
	return c.Execute(ctx, env, os.Args[1:])
}

// NewEnv returns the surroundings of the program with this name.
func NewEnv(name string, stdin io.Reader, stdout, stderr io.Writer) *Env {
	screen := &Screen{w: stderr}
	return &Env{Stdin: stdin, Stdout: stdout, Screen: screen, Log: log.New(screen, "", log.LstdFlags), name: name}
}

// Execute is the command without its process. It returns the exit code.
func (c Command) Execute(ctx context.Context, env *Env, args []string) int {
	fs := config.NewFlagSet(c.Name, c.Options)
	fs.SetOutput(env.Screen)
	showVersion := fs.Bool("version", false, "print the version and exit")
	path := fs.String("config", "", "`path` to a TOML file with these options, _ for each - in their names")
	strict := fs.Bool("strict-config", false, config.StrictUsage)
	c.extendUsage(fs)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *showVersion && c.CheckFirst == nil {
		return c.version(env)
	}
	warnings, err := c.load(fs, *path, *strict)
	if err != nil {
		return c.fail(env, err)
	}
	if c.CheckFirst != nil {
		if err := c.CheckFirst(fs.Args()); err != nil {
			return c.fail(env, err)
		}
	}
	if *showVersion {
		return c.version(env)
	}
	for _, w := range warnings {
		env.Log.Print("WARNING: " + w)
	}
	if err := c.Check(); err != nil {
		return c.fail(env, err)
	}
	err = c.Run(ctx, env)
	env.Screen.Show("")
	switch {
	case err == nil:
		return 0
	case c.Fatal != nil:
		c.Fatal(env, err)
		return 1
	}
	return c.fail(env, err)
}

// load fills the options from flags, file and defaults. What it warns of is an error
// if strict; so are arguments behind the flags then, of which no tool takes any.
func (c Command) load(fs *flag.FlagSet, path string, strict bool) (warnings []string, err error) {
	warnings, err = config.Load(c.Options, fs, path)
	switch {
	case err != nil:
		return nil, err
	case !strict:
		return warnings, nil
	case c.CheckFirst == nil: // which else says it in its words
		warnings = append(warnings, config.StrayArguments(fs)...)
	}
	return nil, config.Strict(warnings)
}

// extendUsage puts the summary before and the examples behind what --help says.
func (c Command) extendUsage(fs *flag.FlagSet) {
	flags := fs.Usage
	fs.Usage = func() {
		flags()
		fmt.Fprintf(fs.Output(), "\n%s\n\nExamples:\n\n%s\n", c.Summary, c.Examples)
	}
}

func (c Command) version(env *Env) int {
	fmt.Fprintf(env.Stdout, "%s v%s\n", c.Name, version.Number)
	return 0
}

func (c Command) fail(env *Env, err error) int {
	env.Log.Print(err)
	return 1
}
