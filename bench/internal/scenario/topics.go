package scenario

import (
	"context"
	"fmt"
	"net/http"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// Topics creates many topics with one channel and one message each, over HTTP, and
// restarts nsqd if it was started for this.
type Topics struct {
	Target
	Topic  string `flag:"topic" group:"Load" usage:"beginning of the topics' names, which must not exist"`
	Number int    `flag:"topics" usage:"topics"`
}

// NewTopics returns Topics with defaults.
func NewTopics() *Topics {
	return &Topics{Target: newTarget(), Topic: "bench_topics", Number: 2000}
}

// Check implements [Scenario].
func (t *Topics) Check() error { return atLeast(setting{"topics", t.Number, 1}) }

// Scale implements [Scenario].
func (t *Topics) Scale(factor float64) { t.Number = scaled(t.Number, factor) }

// Topics implements [Scenario].
func (t *Topics) Topics() []string { return numbered(t.Topic, t.Number) }

// numbered returns n names with this beginning.
func numbered(name string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s_%d", name, i)
	}
	return list
}

// Run implements [Scenario].
func (t *Topics) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	cost, err := n.Measure(func() error {
		for _, topic := range t.Topics() {
			if err := n.Create(ctx, topic, channelName); err != nil {
				return err
			}
			if err := n.Do(ctx, http.MethodPost, "/pub?topic="+topic, []byte("hello")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var f Figures
	f.add(Creates, float64(t.Number)/cost.Wall.Seconds())
	if cost.Measured {
		f.add(PerTopic, kibibytes(cost.Grown)/float64(t.Number))
	}
	if err := f.addIdle(ctx, n); err != nil {
		return nil, err
	}
	return f, f.addRestart(n)
}

// addRestart restarts nsqd, if it was started here.
func (f *Figures) addRestart(n *load.NSQD) error {
	if !n.CanRestart() {
		return nil
	}
	stop, start, err := n.Restart()
	if err == nil {
		f.add(StopTime, stop.Seconds())
		f.add(StartTime, start.Seconds())
	}
	return err
}
