package scenario

import (
	"context"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// Connections subscribes many consumers that then have nothing to do.
type Connections struct {
	Target
	Topic       string `flag:"topic" group:"Load" usage:"topic to consume, which must not exist"`
	Connections int    `flag:"connections" usage:"consumers, all of one channel"`
}

// NewConnections returns Connections with defaults.
func NewConnections() *Connections {
	return &Connections{Target: newTarget(), Topic: "bench_connections", Connections: 2000}
}

// Check implements [Scenario].
func (c *Connections) Check() error { return atLeast(setting{"connections", c.Connections, 1}) }

// Scale implements [Scenario].
func (c *Connections) Scale(factor float64) { c.Connections = scaled(c.Connections, factor) }

// Topics implements [Scenario].
func (c *Connections) Topics() []string { return []string{c.Topic} }

// Run implements [Scenario].
func (c *Connections) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	var list []*load.Conn
	defer func() {
		for _, k := range list {
			k.Close()
		}
	}()
	cost, err := n.Measure(func() error {
		for range c.Connections {
			k, err := n.Dial(ctx, nil)
			if err != nil {
				return err
			}
			list = append(list, k)
			if err := k.Subscribe(c.Topic, channelName); err != nil {
				return err
			}
			if err := k.Ready(1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var f Figures
	f.add(Connects, float64(c.Connections)/cost.Wall.Seconds())
	if cost.Measured {
		f.add(PerConn, kibibytes(cost.Grown)/float64(c.Connections))
	}
	return f, f.addIdle(ctx, n)
}
