// Package nsqtail prints the messages of topics as they come. Source: tools spec,
// section 3.
package nsqtail

import (
	"errors"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Options are the options of nsq_tail.
type Options struct {
	Topics  []string `flag:"topic" cfg:"topics" group:"What to show" usage:"topic; required (may be given several times)"`
	Channel string   `flag:"channel" group:"What to show" usage:"channel (default: a new one, tail<6 digits>#ephemeral)"`

	// N is how many messages to print before the end, of all topics together; 0 or
	// less is endless.
	N           int  `flag:"n" group:"What to show" usage:"number of messages to show, all topics together; 0 for no end"`
	MaxInFlight int  `flag:"max-in-flight" group:"What to show" usage:"messages to receive before the first of them is shown, per topic"`
	PrintTopic  bool `flag:"print-topic" group:"What to show" usage:"put the topic before each message"`
	JSON        bool `flag:"json" group:"What to show" usage:"print a JSON object per message: topic, id, timestamp, attempts, nsqd, body (or body_base64 if that is not UTF-8)"`

	tool.Source
	tool.LogOptions
	tool.ProgressOptions
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		MaxInFlight:     200,
		LogOptions:      tool.LogOptions{LogLevel: logging.LevelInfo},
		ProgressOptions: tool.ProgressOptions{Progress: tool.Auto},
	}
}

// Check returns the first thing that is wrong. The client library checks names.
func (o *Options) Check() error {
	if err := o.Source.Check(); err != nil {
		return err
	}
	if len(o.Topics) == 0 {
		return errors.New("--topic required")
	}
	return nil
}
