package lookup

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"
)

// A Producer is an nsqd as it announces itself.
type Producer struct {
	BroadcastAddress string `json:"broadcast_address"`
	HTTPPort         int    `json:"http_port"`
}

// HTTPAddress returns host:port of the HTTP listener; an IPv6 address is in
// brackets.
func (p Producer) HTTPAddress() string {
	return net.JoinHostPort(p.BroadcastAddress, strconv.Itoa(p.HTTPPort))
}

// Producers returns the nsqds that any of the nsqlookupds names for the topic, in
// the order in which they are first named. The error joins those of the
// nsqlookupds that did not answer; one that does not know the topic is a
// [StatusError] with code 404.
func (c *Client) Producers(ctx context.Context, addresses []string, topic string) ([]Producer, error) {
	lists, errs := each(addresses, func(addr string) ([]Producer, error) {
		var answer struct {
			Producers []Producer `json:"producers"`
		}
		err := c.get(ctx, root(addr)+"/lookup?topic="+url.QueryEscape(topic), &answer)
		return answer.Producers, err
	})
	var producers []Producer
	known := map[Producer]bool{}
	for _, list := range lists {
		for _, p := range list {
			if !known[p] {
				known[p] = true
				producers = append(producers, p)
			}
		}
	}
	return producers, errors.Join(errs...)
}

// Info returns how the nsqd at addr announces itself.
func (c *Client) Info(ctx context.Context, addr string) (Producer, error) {
	var p Producer
	err := c.get(ctx, root(addr)+"/info", &p)
	return p, err
}

// A TopicStats is what an nsqd says of one topic.
type TopicStats struct {
	Topic    string         `json:"topic_name"`
	Channels []ChannelStats `json:"channels"`

	// Started is when nsqd was started, in seconds since 1970, 0 if it does not say.
	// The counters of its channels started from 0 then.
	Started int64 `json:"-"`
}

// A ChannelStats is what an nsqd says of one channel.
type ChannelStats struct {
	Channel      string `json:"channel_name"`
	Depth        int64  `json:"depth"`
	BackendDepth int64  `json:"backend_depth"`
	InFlight     int64  `json:"in_flight_count"`
	Deferred     int64  `json:"deferred_count"`
	Requeues     int64  `json:"requeue_count"`
	Timeouts     int64  `json:"timeout_count"`
	Messages     int64  `json:"message_count"`
	Clients      int64  `json:"client_count"`
	Paused       bool   `json:"paused"`
}

// TopicStats asks the nsqds for the topic, and returns what those said that have it,
// by address. The error joins those of the nsqds that did not answer.
func (c *Client) TopicStats(ctx context.Context, addresses []string, topic string) (map[string]TopicStats, error) {
	answers, errs := each(addresses, func(addr string) (stats []TopicStats, err error) {
		var answer struct {
			StartTime int64        `json:"start_time"`
			Topics    []TopicStats `json:"topics"`
		}
		err = c.get(ctx, root(addr)+"/stats?format=json&include_clients=false&topic="+url.QueryEscape(topic), &answer)
		for _, t := range answer.Topics {
			if t.Topic == topic {
				t.Started = answer.StartTime
				stats = append(stats, t)
			}
		}
		return stats, err
	})
	byAddress := map[string]TopicStats{}
	for i, stats := range answers {
		if len(stats) > 0 {
			byAddress[addresses[i]] = stats[0]
		}
	}
	return byAddress, errors.Join(errs...)
}
