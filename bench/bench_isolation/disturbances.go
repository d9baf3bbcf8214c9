package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// A disturbance is something that goes on in an nsqd.
type disturbance struct {
	name  string
	about string
	flags []string // of nsqd, beside those of all

	// start makes it ready, before the healthy flow begins. It returns what to do again
	// and again meanwhile; nil if it is there by itself.
	start func(*site) (turn func() error, err error)
}

// commonFlags are those of every nsqd: so little is kept in memory that a backlog is on
// disk soon.
var commonFlags = []string{"--mem-queue-size=1000"}

// big is the size of messages that fill the socket of who does not read, in bytes.
const big = 4 << 10

var disturbances = []disturbance{
	{"stalled-channel", "another channel of the topic has no consumer and goes to disk", nil, stalledChannel},
	{"stalled-elsewhere", "a consumer of another channel of the topic, RDY 2500, does not read", nil,
		func(s *site) (func() error, error) { return nil, stalledConsumer(s, "stalled") }},
	{"stalled-beside", "another consumer of the same channel, RDY 2500, does not read", nil,
		func(s *site) (func() error, error) { return nil, stalledConsumer(s, healthyChannel) }},
	{"disk", "another topic goes to disk", nil, toDisk},
	{"fsync", "another topic goes to disk, with an fsync for each MPUB", []string{"--sync-every=1"}, toDisk},
	{"huge", "messages of 1 MiB in another topic, consumed",
		nil, published(load.Messages{Size: 1 << 20}, 1)},
	{"huge-mpub", "MPUBs of 5 MB in another topic, consumed",
		nil, published(load.Messages{Size: 100_000, Batch: 50}, 50)},
	{"mpub", "MPUBs of 200 in another topic, consumed",
		nil, published(load.Messages{Size: 200, Batch: 200}, 2000)},
	{"polled", "/stats and /metrics asked for, 1,000 topics", nil, polled},
	{"deferred", "1,000 deferred messages due at once, consumed",
		nil, published(load.Messages{Size: 200, Defer: 50 * time.Millisecond}, 1000)},
	{"timeouts", "2,000 messages of another topic time out at once, every second", nil, timeouts},
	{"wide", "a topic with 1,000 channels", nil, wide},
	{"churn-clients", "consumers come and go", nil, churnClients},
	{"churn-topics", "topics with a channel come and go", nil, churnTopics},
}

func stalledChannel(s *site) (func() error, error) {
	if err := s.Create(s.ctx, healthyTopic, "stalled"); err != nil {
		return nil, err
	}
	return nil, s.publish(load.Messages{Topic: healthyTopic, Size: big, Batch: 100}, s.many(2000))
}

// stalledConsumer has a consumer of that channel that is sent more than its socket
// takes.
func stalledConsumer(s *site, channel string) error {
	if _, err := s.subscribe(healthyTopic, channel, 2500, load.BigBuffers); err != nil {
		return err
	}
	if err := s.publish(load.Messages{Topic: healthyTopic, Size: big, Batch: 100}, 2500); err != nil {
		return err
	}
	// From here on it must take nothing of the healthy flow.
	for before := int64(-1); ; {
		stats, err := s.Stats(s.ctx)
		if err != nil {
			return err
		}
		c, _, _ := stats.Channel(healthyTopic, channel)
		if c.InFlight == before {
			return nil
		}
		before = c.InFlight
		select {
		case <-time.After(stalled):
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// stalled is how long nothing more is sent to a consumer whose socket is full.
const stalled = 200 * time.Millisecond

// toDisk publishes to a topic that has more than memory takes and no channel.
func toDisk(s *site) (func() error, error) {
	m := load.Messages{Topic: "stored", Size: big, Batch: 100}
	if err := s.publish(m, s.many(1000)); err != nil {
		return nil, err
	}
	c, err := s.dial()
	return func() error { return c.Publish(m, 100, 1) }, err
}

// published publishes so many messages each turn, to a topic that is consumed.
func published(m load.Messages, messages int) func(*site) (func() error, error) {
	return func(s *site) (func() error, error) {
		m.Topic = "other"
		if err := s.consume(m.Topic, "channel"); err != nil {
			return nil, err
		}
		c, err := s.dial()
		return func() error { return c.Publish(m, messages, 100) }, err
	}
}

func polled(s *site) (func() error, error) {
	for i := range s.many(1000) {
		if err := s.Create(s.ctx, fmt.Sprintf("topic_%d", i), "channel"); err != nil {
			return nil, err
		}
	}
	return func() error {
		for _, path := range []string{"/stats?format=json", "/metrics"} {
			if err := s.Do(s.ctx, http.MethodGet, path, nil); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// timeouts has a consumer that reads and answers nothing.
func timeouts(s *site) (func() error, error) {
	c, err := s.subscribe("other", "channel", 2500, load.Identify{"msg_timeout": 1000})
	if err != nil {
		return nil, err
	}
	s.background(func() error {
		for {
			if _, _, err := c.ReadFrame(); err != nil {
				return err
			}
		}
	})
	return nil, s.publish(load.Messages{Topic: "other", Size: 200, Batch: 100}, s.many(2000))
}

// wide publishes to channels that drop what finds them full.
func wide(s *site) (func() error, error) {
	for i := range s.many(1000) {
		if err := s.Create(s.ctx, "wide", fmt.Sprintf("channel_%d#ephemeral", i)); err != nil {
			return nil, err
		}
	}
	c, err := s.dial()
	m := load.Messages{Topic: "wide", Size: 200, Batch: 10}
	return func() error { return c.Publish(m, 10, 1) }, err
}

func churnClients(s *site) (func() error, error) {
	return func() error {
		c, err := s.subscribe("other", "channel", 1, nil)
		if err == nil {
			c.Close()
		}
		return err
	}, nil
}

func churnTopics(s *site) (func() error, error) {
	return func() error {
		if err := s.Create(s.ctx, "fleeting", "channel"); err != nil {
			return err
		}
		return s.Delete(s.ctx, "fleeting")
	}, nil
}
