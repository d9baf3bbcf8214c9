package scenario

import (
	"context"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/suite"
)

// A Reader drains a channel that was filled before.
type Reader struct {
	Target
	Topic       string `flag:"topic" group:"Load" usage:"topic to fill and drain, which must not exist"`
	Messages    int    `flag:"messages" usage:"messages in all"`
	Size        int    `flag:"size" usage:"bytes of a message body"`
	Connections int    `flag:"connections" usage:"consumers, all of one channel"`
	RDY         int    `flag:"rdy" usage:"messages in flight of one consumer, at most"`
}

// NewReader returns a Reader with defaults.
func NewReader() *Reader {
	return &Reader{Target: newTarget(), Topic: "bench_reader", Messages: 400_000, Size: 200, Connections: 4, RDY: 2500}
}

// Check implements [Scenario].
func (r *Reader) Check() error {
	return atLeast(setting{"messages", r.Messages, 1}, setting{"size", r.Size, 1}, setting{"connections", r.Connections, 1},
		setting{"rdy", r.RDY, 1})
}

// Scale implements [Scenario].
func (r *Reader) Scale(factor float64) { r.Messages = scaled(r.Messages, factor) }

// Topics implements [Scenario].
func (r *Reader) Topics() []string { return []string{r.Topic} }

// Run implements [Scenario].
func (r *Reader) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := r.fill(ctx, n); err != nil {
		return nil, err
	}
	consumers, closeAll, err := dialAll(ctx, n, r.Connections, load.BigBuffers)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	for _, c := range consumers {
		if err := c.Subscribe(r.Topic, channelName); err != nil {
			return nil, err
		}
	}
	if err := n.Settle(ctx); err != nil {
		return nil, err
	}
	cost, err := n.Measure(func() error { return consume(cancel, consumers, r.RDY, r.Messages) })
	if err != nil {
		return nil, err
	}
	return throughput(cost, r.Messages), nil
}

// channelName is the channel, where there is one.
const channelName = "channel"

// fill publishes, and waits until all messages are in the channel.
func (r *Reader) fill(ctx context.Context, n *load.NSQD) error {
	if err := n.Create(ctx, r.Topic, channelName); err != nil {
		return err
	}
	producer, err := n.Dial(ctx, load.BigBuffers)
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := producer.Publish(load.Messages{Topic: r.Topic, Size: r.Size, Batch: 200}, r.Messages, 4); err != nil {
		return err
	}
	if n.IsNull() {
		return nil
	}
	return suite.Poll(ctx, "nsqd to have all messages in the channel", func() (bool, error) {
		stats, err := n.Stats(ctx)
		c, inTopic, found := stats.Channel(r.Topic, channelName)
		return found && inTopic == 0 && c.Depth == int64(r.Messages), err
	})
}
