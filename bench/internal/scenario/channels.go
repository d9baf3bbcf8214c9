package scenario

import (
	"context"
	"fmt"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"golang.org/x/sync/errgroup"
)

// Channels publishes to a topic, and consumes all its channels at the same time. Its
// figures are per delivery.
type Channels struct {
	Target
	Topic     string `flag:"topic" group:"Load" usage:"topic to publish to and consume, which must not exist"`
	Messages  int    `flag:"messages" usage:"messages in all; each channel gets every one"`
	Size      int    `flag:"size" usage:"bytes of a message body"`
	Channels  int    `flag:"channels" usage:"channels of the topic"`
	Producers int    `flag:"producers" usage:"connections that publish"`
	Consumers int    `flag:"consumers" usage:"connections that consume, of each channel"`
	RDY       int    `flag:"rdy" usage:"messages in flight of one consumer, at most"`
	BatchSize int    `flag:"batch-size" usage:"messages per MPUB; 1 for PUB"`
	Window    int    `flag:"window" usage:"commands of a connection that nsqd has not answered, at most"`
}

// NewChannels returns Channels with defaults.
func NewChannels() *Channels {
	return &Channels{Target: newTarget(), Topic: "bench_channels", Messages: 100_000, Size: 200, Channels: 8,
		Producers: 1, Consumers: 1, RDY: 2500, BatchSize: 200, Window: 4}
}

// Check implements [Scenario].
func (c *Channels) Check() error {
	return atLeast(setting{"messages", c.Messages, 1}, setting{"size", c.Size, 1}, setting{"channels", c.Channels, 1},
		setting{"producers", c.Producers, 1}, setting{"consumers", c.Consumers, 1}, setting{"rdy", c.RDY, 1},
		setting{"batch-size", c.BatchSize, 1}, setting{"window", c.Window, 1})
}

// Scale implements [Scenario].
func (c *Channels) Scale(factor float64) { c.Messages = scaled(c.Messages, factor) }

// Topics implements [Scenario].
func (c *Channels) Topics() []string { return []string{c.Topic} }

// Run implements [Scenario].
func (c *Channels) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	producers, closeProducers, err := dialAll(ctx, n, c.Producers, load.BigBuffers)
	if err != nil {
		return nil, err
	}
	defer closeProducers()
	consumers, closeConsumers, err := dialAll(ctx, n, c.Channels*c.Consumers, load.BigBuffers)
	if err != nil {
		return nil, err
	}
	defer closeConsumers()
	for i, k := range consumers {
		if err := k.Subscribe(c.Topic, fmt.Sprintf("%s%d", channelName, i%c.Channels)); err != nil {
			return nil, err
		}
	}
	deliveries := c.Messages * c.Channels
	cost, err := n.Measure(func() error {
		var g errgroup.Group
		g.Go(func() error { return consume(cancel, consumers, c.RDY, deliveries) })
		g.Go(func() error {
			err := publish(producers, load.Messages{Topic: c.Topic, Size: c.Size, Batch: c.BatchSize}, c.Messages, c.Window)
			if err != nil {
				cancel(err)
			}
			return err
		})
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	return throughput(cost, deliveries), nil
}
