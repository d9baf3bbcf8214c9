package nsqstat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/lookup"
)

// A sample is what the nsqds said of the channel at one time.
type sample struct {
	when  time.Time
	nsqds map[string]nsqdSample // by address
}

type nsqdSample struct {
	started int64 // seconds since 1970, 0 if not known
	lookup.ChannelStats
}

// A poller asks the nsqds for samples. Its methods do not overlap.
type poller struct {
	opts   *Options
	client *lookup.Client
	warn   func(text string) // told what keeps a sample from being complete
	names  map[string]string // how nsqds announce themselves, by the address given; filled as they answer
}

// poll takes a sample. Daemons that do not answer are warned of, unless none does:
// that is an error, as is a channel that nobody has.
func (p *poller) poll(ctx context.Context) (sample, error) {
	addresses := p.opts.NSQDHTTPAddresses
	if len(p.opts.LookupdHTTPAddresses) > 0 {
		var err error
		if addresses, err = p.discover(ctx); err != nil {
			return sample{}, err
		}
	}
	stats, err := p.client.TopicStats(ctx, addresses, p.opts.Topic)
	s := sample{when: time.Now(), nsqds: map[string]nsqdSample{}}
	if err != nil {
		if failed := joined(err); len(failed) == len(addresses) {
			what := "nsqd stats"
			if len(p.opts.NSQDHTTPAddresses) > 0 {
				what = "topic producers"
			}
			return s, fmt.Errorf("ERROR: failed to get %s - failed to query any nsqd: %s", what, list(failed))
		}
		p.warn(list(joined(err)))
	}
	if len(stats) == 0 {
		return s, fmt.Errorf("ERROR: failed to get nsqd stats - failed to query any nsqd: none of %s has topic(%s)",
			strings.Join(addresses, ", "), p.opts.Topic)
	}
	p.identify(ctx, addresses, stats)
	for addr, t := range stats {
		for _, c := range t.Channels {
			if c.Channel == p.opts.Channel {
				s.nsqds[addr] = nsqdSample{t.Started, c}
			}
		}
	}
	if len(s.nsqds) == 0 {
		return s, fmt.Errorf("ERROR: failed to find channel(%s) in stats metadata for topic(%s)", p.opts.Channel, p.opts.Topic)
	}
	return s, nil
}

// discover asks the nsqlookupds for the addresses of nsqds.
func (p *poller) discover(ctx context.Context) ([]string, error) {
	producers, err := p.client.Producers(ctx, p.opts.LookupdHTTPAddresses, p.opts.Topic)
	if err != nil {
		failed := joined(err)
		if len(failed) == len(p.opts.LookupdHTTPAddresses) {
			return nil, errors.New("ERROR: failed to get topic producers - failed to query any nsqlookupd: " + list(failed))
		}
		var serious []error
		for _, err := range failed {
			// Not to know a topic is nothing unusual while others do.
			if status, ok := errors.AsType[*lookup.StatusError](err); !ok || status.Code != http.StatusNotFound {
				serious = append(serious, err)
			}
		}
		p.warn(list(serious))
	}
	if len(producers) == 0 {
		return nil, fmt.Errorf("ERROR: failed to get nsqd stats - failed to query any nsqd: nsqlookupd knows no nsqd with topic(%s)", p.opts.Topic)
	}
	addresses := make([]string, len(producers))
	for i, producer := range producers {
		addresses[i] = producer.HTTPAddress()
	}
	return addresses, nil
}

// identify drops the stats of all but one of the addresses that lead to the same
// nsqd: names may be given by hand.
func (p *poller) identify(ctx context.Context, addresses []string, stats map[string]lookup.TopicStats) {
	if len(p.opts.NSQDHTTPAddresses) < 2 {
		return
	}
	seen := map[string]bool{}
	for _, addr := range addresses {
		if _, ok := stats[addr]; !ok {
			continue
		}
		if p.names[addr] == "" {
			if info, err := p.client.Info(ctx, addr); err == nil && info.BroadcastAddress != "" {
				p.names[addr] = info.HTTPAddress()
			} else {
				p.names[addr] = addr
			}
		}
		if name := p.names[addr]; seen[name] {
			delete(stats, addr)
		} else {
			seen[name] = true
		}
	}
}

// joined returns the errors that errors.Join has joined.
func joined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return nil
}

// list prints errors one per line.
func list(errs []error) string {
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = err.Error()
		if status, ok := errors.AsType[*lookup.StatusError](err); ok {
			lines[i] = status.Response()
		}
	}
	return strings.Join(lines, "\n")
}
