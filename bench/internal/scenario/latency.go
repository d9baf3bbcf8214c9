package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"golang.org/x/sync/errgroup"
)

// Latency publishes at a pace that leaves nsqd time, and tells how long each message
// takes from the producer's write to the consumer's read. Both are clients as nsqd's
// defaults make them.
type Latency struct {
	Target
	Topic    string        `flag:"topic" group:"Load" usage:"topic to publish to and consume, which must not exist"`
	Rate     int           `flag:"rate" usage:"messages per second"`
	Duration time.Duration `flag:"duration" usage:"how long to publish"`
	Size     int           `flag:"size" usage:"bytes of a message body, at least 8"`
	RDY      int           `flag:"rdy" usage:"messages in flight, at most"`
}

// NewLatency returns a Latency with defaults.
func NewLatency() *Latency {
	return &Latency{Target: newTarget(), Topic: "bench_latency", Rate: 1000, Duration: 2 * time.Second, Size: 200, RDY: 100}
}

// Check implements [Scenario].
func (l *Latency) Check() error {
	if l.Duration < time.Millisecond {
		return errors.New("--duration must be at least 1ms")
	}
	return atLeast(setting{"rate", l.Rate, 1}, setting{"size", l.Size, 8}, setting{"rdy", l.RDY, 1})
}

// Scale implements [Scenario].
func (l *Latency) Scale(factor float64) {
	l.Duration = max(time.Millisecond, time.Duration(float64(l.Duration)*factor))
}

// Topics implements [Scenario].
func (l *Latency) Topics() []string { return []string{l.Topic} }

// Run implements [Scenario].
func (l *Latency) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients, closeAll, err := dialAll(ctx, n, 2, nil)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	producer, consumer := clients[0], clients[1]
	if err := consumer.Subscribe(l.Topic, channelName); err != nil {
		return nil, err
	}
	messages := max(1, int(float64(l.Rate)*l.Duration.Seconds()))
	var ages load.Histogram
	cost, err := n.Measure(func() error {
		var g errgroup.Group
		for _, work := range []func() error{
			func() error {
				return producer.PublishPaced(load.Messages{Topic: l.Topic, Size: l.Size}, messages, float64(l.Rate))
			},
			func() error {
				return consumer.Consume(l.RDY, load.NewCountdown(messages), func(data []byte) { ages.Add(load.Age(data)) })
			},
		} {
			g.Go(func() error {
				err := work()
				if err != nil {
					cancel(err)
				}
				return err
			})
		}
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	var f Figures
	f.add(P50, millis(ages.Quantile(0.5)))
	f.add(P99, millis(ages.Quantile(0.99)))
	f.add(P999, millis(ages.Quantile(0.999)))
	f.addCPU(cost, messages)
	f.add(Pace, float64(messages)/cost.Wall.Seconds())
	return f, nil
}
