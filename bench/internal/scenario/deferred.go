package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// Deferred publishes many messages that are not due, and restarts nsqd if it was
// started for this.
type Deferred struct {
	Target
	Topic    string        `flag:"topic" group:"Load" usage:"topic to publish to, which must not exist"`
	Messages int           `flag:"messages" usage:"messages in all"`
	Size     int           `flag:"size" usage:"bytes of a message body"`
	Delay    time.Duration `flag:"delay" usage:"how long messages wait; nsqd has a limit, --max-req-timeout"`
	Window   int           `flag:"window" usage:"commands that nsqd has not answered, at most"`
}

// NewDeferred returns a Deferred with defaults.
func NewDeferred() *Deferred {
	return &Deferred{Target: newTarget(), Topic: "bench_deferred", Messages: 200_000, Size: 200, Delay: 59 * time.Minute, Window: 100}
}

// Check implements [Scenario].
func (d *Deferred) Check() error {
	if d.Delay < time.Millisecond {
		return errors.New("--delay must be at least 1ms")
	}
	return atLeast(setting{"messages", d.Messages, 1}, setting{"size", d.Size, 1}, setting{"window", d.Window, 1})
}

// Scale implements [Scenario].
func (d *Deferred) Scale(factor float64) { d.Messages = scaled(d.Messages, factor) }

// Topics implements [Scenario].
func (d *Deferred) Topics() []string { return []string{d.Topic} }

// Run implements [Scenario].
func (d *Deferred) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	if err := n.Create(ctx, d.Topic, channelName); err != nil {
		return nil, err
	}
	producer, err := n.Dial(ctx, load.BigBuffers)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	cost, err := n.Measure(func() error {
		return producer.Publish(load.Messages{Topic: d.Topic, Size: d.Size, Defer: d.Delay}, d.Messages, d.Window)
	})
	if err != nil {
		return nil, err
	}
	var f Figures
	f.add(Rate, float64(d.Messages)/cost.Wall.Seconds())
	f.addCPU(cost, d.Messages)
	if cost.Measured {
		f.add(PerMessage, float64(cost.Grown)/float64(d.Messages))
	}
	return f, f.addRestart(n)
}
