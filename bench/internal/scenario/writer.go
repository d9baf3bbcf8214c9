package scenario

import (
	"context"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// A Writer publishes, to a topic without channels, where messages stay.
type Writer struct {
	Target
	Topic       string `flag:"topic" group:"Load" usage:"topic to publish to, which must not exist"`
	Messages    int    `flag:"messages" usage:"messages in all"`
	Size        int    `flag:"size" usage:"bytes of a message body"`
	Connections int    `flag:"connections" usage:"connections that publish"`
	BatchSize   int    `flag:"batch-size" usage:"messages per MPUB; 1 for PUB"`
	Window      int    `flag:"window" usage:"commands of a connection that nsqd has not answered, at most"`
}

// NewWriter returns a Writer with defaults.
func NewWriter() *Writer {
	return &Writer{Target: newTarget(), Topic: "bench_writer", Messages: 200_000, Size: 200, Connections: 4, BatchSize: 1, Window: 100}
}

// Check implements [Scenario].
func (w *Writer) Check() error {
	return atLeast(setting{"messages", w.Messages, 1}, setting{"size", w.Size, 1}, setting{"connections", w.Connections, 1},
		setting{"batch-size", w.BatchSize, 1}, setting{"window", w.Window, 1})
}

// Scale implements [Scenario].
func (w *Writer) Scale(factor float64) { w.Messages = scaled(w.Messages, factor) }

// Topics implements [Scenario].
func (w *Writer) Topics() []string { return []string{w.Topic} }

// Run implements [Scenario].
func (w *Writer) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	producers, closeAll, err := dialAll(ctx, n, w.Connections, load.BigBuffers)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	cost, err := n.Measure(func() error {
		return publish(producers, load.Messages{Topic: w.Topic, Size: w.Size, Batch: w.BatchSize}, w.Messages, w.Window)
	})
	if err != nil {
		return nil, err
	}
	return throughput(cost, w.Messages), nil
}
