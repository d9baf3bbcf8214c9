// Package nsqtonsq publishes the messages of topics to other nsqds. Source: tools
// spec, section 7.
package nsqtonsq

import (
	"errors"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Options are the options of nsq_to_nsq.
type Options struct {
	Topics      []string `flag:"topic" cfg:"topics" group:"Messages" usage:"topic; required (may be given several times)"`
	Channel     string   `flag:"channel" group:"Messages" usage:"channel"`
	MaxInFlight int      `flag:"max-in-flight" group:"Messages" usage:"messages to receive before the first of them is answered, per topic"`
	tool.Source

	DestinationTopic     string        `flag:"destination-topic" group:"Destination" usage:"topic to publish to (default: that of the message)"`
	DestinationAddresses []string      `flag:"destination-nsqd-tcp-address" cfg:"destination_nsqd_tcp_addresses" group:"Destination" usage:"<addr>:<port> of an nsqd to publish to; required (may be given several times)"`
	Mode                 string        `flag:"mode" group:"Destination" usage:"how to choose among several nsqds: hostpool (in turn, without those that fail), round-robin, epsilon-greedy (the fastest)"`
	ProducerOptions      tool.Settings `flag:"producer-opt" cfg:"producer_opts" group:"Destination" usage:"setting of the client library, as write_timeout,5s or tls_v1 (may be given several times)"`

	Filter

	StatusEvery int `flag:"status-every" group:"Messages to the operator" usage:"publishes from one line of statistics to the next; 0 for none"`
	tool.LogOptions
	tool.ProgressOptions
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Channel:         "nsq_to_nsq",
		MaxInFlight:     200,
		Mode:            "hostpool",
		StatusEvery:     250,
		LogOptions:      tool.LogOptions{LogLevel: logging.LevelInfo},
		ProgressOptions: tool.ProgressOptions{Progress: tool.Auto},
	}
}

// Check returns the first thing that is wrong.
func (o *Options) Check() error {
	if len(o.Topics) == 0 || o.Channel == "" {
		return errors.New("--topic and --channel are required")
	}
	for _, topic := range o.Topics {
		if !nsq.IsValidTopicName(topic) {
			return errors.New("--topic is invalid")
		}
	}
	if o.DestinationTopic != "" && !nsq.IsValidTopicName(o.DestinationTopic) {
		return errors.New("--destination-topic is invalid")
	}
	if !nsq.IsValidChannelName(o.Channel) {
		return errors.New("--channel is invalid")
	}
	if err := o.Source.Check(); err != nil {
		return err
	}
	if len(o.DestinationAddresses) == 0 {
		return errors.New("--destination-nsqd-tcp-address required")
	}
	return nil
}
