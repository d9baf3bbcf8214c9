package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/tool"
)

// A Target says which nsqd to put under load: one that runs, or one to start.
type Target struct {
	TCPAddr  string   `flag:"nsqd-tcp-address" group:"The nsqd under load" usage:"where it listens for clients"`
	HTTPAddr string   `flag:"nsqd-http-address" usage:"where it listens for HTTP"`
	PID      int      `flag:"nsqd-pid" usage:"its process, if it is on this machine: CPU and memory are measured then, on Linux"`
	Path     string   `flag:"nsqd" value:"path" usage:"start this nsqd instead, on free ports and with an empty data directory, and measure it"`
	Flags    []string `flag:"nsqd-flag" value:"flag" usage:"flag for the nsqd that is started, such as --mem-queue-size=0 (may be given several times)"`
}

func newTarget() Target {
	return Target{TCPAddr: "127.0.0.1:4150", HTTPAddr: "127.0.0.1:4151"}
}

func (t *Target) where() *Target { return t }

// reach starts nsqd, or connects to the one that runs.
func (t *Target) reach(ctx context.Context) (*load.NSQD, error) {
	if t.Path != "" {
		return load.Start(ctx, t.Path, "", t.Flags...)
	}
	return load.Connect(t.TCPAddr, t.HTTPAddr, t.PID), nil
}

// Command is the program with this name that runs s once.
func Command(name, summary, examples string, s Scenario) tool.Command {
	return tool.Command{
		Name:     name,
		Summary:  summary,
		Examples: examples,
		Options:  s,
		Check: func() error {
			if t := s.where(); t.Path == "" && len(t.Flags) > 0 {
				return errors.New("--nsqd-flag is of no use without --nsqd")
			}
			return s.Check()
		},
		Run: func(ctx context.Context, env *tool.Env) (err error) {
			n, err := s.where().reach(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, n.Stop()) }()
			figures, err := RunAndClean(ctx, n, s)
			if err != nil {
				return err
			}
			return figures.print(env)
		},
	}
}

// RunAndClean runs s on an nsqd that may have other work: it refuses to use topics
// that exist, and deletes those it has used.
func RunAndClean(ctx context.Context, n *load.NSQD, s Scenario) (figures Figures, err error) {
	stats, err := n.Stats(ctx)
	if err != nil {
		return nil, err
	}
	topics := s.Topics()
	for _, t := range stats.Topics {
		if slices.Contains(topics, t.Name) {
			return nil, fmt.Errorf("nsqd has a topic %s, which this would delete: choose another --topic", t.Name)
		}
	}
	defer func() { err = errors.Join(err, clean(ctx, n, topics)) }()
	return s.Run(ctx, n)
}

// clean deletes the topics that exist, even if ctx has ended.
func clean(ctx context.Context, n *load.NSQD, topics []string) error {
	ctx = context.WithoutCancel(ctx)
	stats, err := n.Stats(ctx)
	if err != nil {
		return err
	}
	for _, t := range stats.Topics {
		if slices.Contains(topics, t.Name) {
			err = errors.Join(err, n.Delete(ctx, t.Name))
		}
	}
	return err
}

// print writes one line per figure.
func (f Figures) print(env *tool.Env) error {
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	measured := false
	for _, figure := range f {
		measured = measured || figure.Kind == CPU || strings.HasPrefix(figure.Unit, "KiB")
		fmt.Fprintf(w, "%s\t%s\t%s\n", figure.Name, Format(figure.Value), figure.Unit)
	}
	if !measured {
		fmt.Fprintf(w, "CPU, memory\tnot measured\t\n")
	}
	return w.Flush()
}

// Format prints a value with three digits or so, in thousands or millions where it is
// large.
func Format(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
