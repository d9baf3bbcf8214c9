// Package tonsq publishes what it reads, split at a delimiter. Source: tools spec,
// section 4.
package tonsq

import (
	"errors"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Options are the options of to_nsq.
type Options struct {
	Topic            string        `flag:"topic" group:"Destination" usage:"topic to publish to; required"`
	NSQDTCPAddresses []string      `flag:"nsqd-tcp-address" cfg:"nsqd_tcp_addresses" group:"Destination" usage:"<addr>:<port> of an nsqd; every message goes to each of them (may be given several times)"`
	ProducerOptions  tool.Settings `flag:"producer-opt" cfg:"producer_opts" group:"Destination" usage:"setting of the client library, as write_timeout,5s or tls_v1 (may be given several times)"`

	Delimiter string `flag:"delimiter" group:"Input" usage:"byte between messages"`
	Rate      int64  `flag:"rate" group:"Input" usage:"messages per second at most; 0 for no limit"`

	tool.LogOptions
	tool.ProgressOptions
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Delimiter:       "\n",
		LogOptions:      tool.LogOptions{LogLevel: logging.LevelInfo},
		ProgressOptions: tool.ProgressOptions{Progress: tool.Auto},
	}
}

// Check returns the first thing that is wrong; Run checks the destinations.
func (o *Options) Check() error {
	switch {
	case o.Topic == "":
		return errors.New("--topic required")
	case len(o.Delimiter) != 1:
		return errors.New("--delimiter must be a single byte")
	}
	return nil
}
