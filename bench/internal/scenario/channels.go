package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"golang.org/x/sync/errgroup"
)

// Channels publishes to topics, and consumes all their channels at the same time. Its
// figures are per delivery.
type Channels struct {
	Target
	Topic     string `flag:"topic" group:"Load" usage:"topic to publish to and consume, which must not exist"`
	Number    int    `flag:"topics" usage:"topics that take turns; with several, a number is added to the name"`
	Messages  int    `flag:"messages" usage:"messages in all; each channel of a topic gets all of that topic"`
	Size      int    `flag:"size" usage:"bytes of a message body"`
	Channels  int    `flag:"channels" usage:"channels of each topic"`
	Producers int    `flag:"producers" usage:"connections that publish"`
	Consumers int    `flag:"consumers" usage:"connections that consume, of each channel"`
	RDY       int    `flag:"rdy" usage:"messages in flight of one consumer, at most"`
	BatchSize int    `flag:"batch-size" usage:"messages per MPUB; 1 for PUB"`
	Window    int    `flag:"window" usage:"commands of a connection that nsqd has not answered, at most"`
	Layer     string `flag:"layer" usage:"what all clients ask for: tls, snappy or deflate; empty for nothing"`
}

// layers are what clients may ask for.
var layers = map[string]load.Identify{"": nil, "tls": load.OverTLS, "snappy": load.OverSnappy, "deflate": load.OverDeflate}

// NewChannels returns Channels with defaults.
func NewChannels() *Channels {
	return &Channels{Target: newTarget(), Topic: "bench_channels", Number: 1, Messages: 100_000, Size: 200, Channels: 8,
		Producers: 1, Consumers: 1, RDY: 2500, BatchSize: 200, Window: 4}
}

// Check implements [Scenario].
func (c *Channels) Check() error {
	_, known := layers[c.Layer]
	switch {
	case !known:
		return fmt.Errorf("--layer %q is not known", c.Layer)
	case (c.Layer == "snappy" || c.Layer == "deflate") && c.Number*c.Channels*c.Consumers > 1:
		return errors.New("--layer: with a compression there must be one consumer in all")
	}
	return atLeast(setting{"messages", c.Messages, 1}, setting{"size", c.Size, 1},
		setting{"channels", c.Channels, 1}, setting{"producers", c.Producers, 1}, setting{"consumers", c.Consumers, 1},
		setting{"rdy", c.RDY, 1}, setting{"batch-size", c.BatchSize, 1}, setting{"window", c.Window, 1}, setting{"topics", c.Number, 1})
}

// Scale implements [Scenario].
func (c *Channels) Scale(factor float64) { c.Messages = scaled(c.Messages, factor) }

// Topics implements [Scenario].
func (c *Channels) Topics() []string {
	if c.Number == 1 {
		return []string{c.Topic}
	}
	return numbered(c.Topic, c.Number)
}

// Run implements [Scenario].
func (c *Channels) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	identify := maps.Clone(load.BigBuffers)
	maps.Copy(identify, layers[c.Layer])
	consumers, closeConsumers, err := c.subscribe(ctx, n, identify)
	if err != nil {
		return nil, err
	}
	defer closeConsumers()
	producers, closeProducers, err := dialAll(ctx, n, c.Producers, identify)
	if err != nil {
		return nil, err
	}
	defer closeProducers()
	if err := n.Settle(ctx); err != nil {
		return nil, err
	}
	deliveries := c.Messages * c.Channels
	cost, err := n.Measure(func() error {
		var g errgroup.Group
		g.Go(func() error { return consume(cancel, consumers, c.RDY, deliveries) })
		g.Go(func() error {
			err := c.publish(producers)
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

// subscribe connects the consumers of all channels.
func (c *Channels) subscribe(ctx context.Context, n *load.NSQD, identify load.Identify) ([]*load.Conn, func(), error) {
	list, closeAll, err := dialAll(ctx, n, c.Number*c.Channels*c.Consumers, identify)
	if err != nil {
		return nil, nil, err
	}
	topics := c.Topics()
	for i, consumer := range list {
		channel := fmt.Sprintf("%s%d", channelName, i/c.Number%c.Channels)
		if err := consumer.Subscribe(topics[i%c.Number], channel); err != nil {
			closeAll()
			return nil, nil, err
		}
	}
	return list, closeAll, nil
}

// publish shares the messages out among the producers, each of which begins with
// another of the topics.
func (c *Channels) publish(producers []*load.Conn) error {
	m := load.Messages{Size: c.Size, Batch: c.BatchSize}
	topics := c.Topics()
	var g errgroup.Group
	for i, p := range producers {
		first := i * len(topics) / len(producers)
		turns := slices.Concat(topics[first:], topics[:first])
		g.Go(func() error { return p.PublishInTurn(turns, m, share(c.Messages, i, len(producers)), c.Window) })
	}
	return g.Wait()
}
