// Package nsqstat polls nsqds for the figures of one channel and prints a line per
// interval. Source: tools spec, section 2.
package nsqstat

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/tool"
)

// Options are the options of nsq_stat.
type Options struct {
	Topic   string `flag:"topic" group:"What to show" usage:"topic; required"`
	Channel string `flag:"channel" group:"What to show" usage:"channel; required"`

	Interval time.Duration `flag:"interval" group:"What to show" usage:"time between polls"`
	Count    Count         `flag:"count" group:"What to show" usage:"number of lines to print; endless if not given"`
	JSON     bool          `flag:"json" group:"What to show" usage:"print a JSON object per line"`

	NSQDHTTPAddresses    []string `flag:"nsqd-http-address" cfg:"nsqd_http_addresses" group:"Source" usage:"<addr>:<port> of an nsqd (may be given several times)"`
	LookupdHTTPAddresses []string `flag:"lookupd-http-address" cfg:"lookupd_http_addresses" group:"Source" usage:"<addr>:<port> of an nsqlookupd (may be given several times)"`
	tool.HTTPLimits
	tool.TLSOptions
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Interval:   2 * time.Second,
		HTTPLimits: tool.HTTPLimits{ConnectTimeout: 2 * time.Second, RequestTimeout: 5 * time.Second},
	}
}

// A Count is a number that may be missing. It is a [flag.Value].
type Count struct {
	N     int32
	Given bool
}

// Set reads a decimal number.
func (c *Count) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return err
	}
	*c = Count{N: int32(n), Given: true}
	return nil
}

func (c *Count) String() string {
	if !c.Given {
		return ""
	}
	return strconv.Itoa(int(c.N))
}

// Check returns the first thing that is wrong.
func (o *Options) Check() error {
	hasScheme := func(addresses []string) bool {
		for _, addr := range addresses {
			if strings.HasPrefix(addr, "http") {
				return true
			}
		}
		return false
	}
	switch {
	case o.Topic == "" || o.Channel == "":
		return errors.New("--topic and --channel are required")
	case o.Interval <= 0:
		return errors.New("--interval should be positive")
	}
	if err := o.HTTPLimits.Check(); err != nil {
		return err
	}
	switch {
	case o.Count.Given && o.Count.N <= 0:
		return errors.New("--count should be positive")
	case len(o.NSQDHTTPAddresses) == 0 && len(o.LookupdHTTPAddresses) == 0:
		return errors.New("--nsqd-http-address or --lookupd-http-address required")
	case len(o.NSQDHTTPAddresses) > 0 && len(o.LookupdHTTPAddresses) > 0:
		return errors.New("use --nsqd-http-address or --lookupd-http-address not both")
	case hasScheme(o.NSQDHTTPAddresses):
		return errors.New("--nsqd-http-address error - address should not contain scheme")
	case hasScheme(o.LookupdHTTPAddresses):
		return errors.New("--lookupd-http-address error - address should not contain scheme")
	}
	return nil
}
