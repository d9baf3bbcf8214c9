package main

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/protocol"
	"golang.org/x/sync/errgroup"
)

// The topic and channel that are well, and the size of their messages in bytes, by which
// they are told from others in the same channel.
const (
	healthyTopic   = "healthy"
	healthyChannel = "healthy"
	healthySize    = 200
)

// patience is how long messages may come behind the last one that was published.
const patience = 5 * time.Second

// A flow is a producer and a consumer, as nsqd's defaults make them.
type flow struct {
	rate     int // messages per second
	warmUp   time.Duration
	duration time.Duration
}

// run publishes for warmUp and duration, and returns how old the messages of the latter
// were when they came. All must come.
func (f flow) run(ctx context.Context, n *load.NSQD) (*load.Histogram, error) {
	consumer, err := n.Dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	if err := consumer.Subscribe(healthyTopic, healthyChannel); err != nil {
		return nil, err
	}
	producer, err := n.Dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer producer.Close()

	messages := int(float64(f.rate) * (f.warmUp + f.duration).Seconds())
	warm := int(float64(f.rate) * f.warmUp.Seconds())
	var ages load.Histogram
	var came atomic.Int64
	left := load.NewCountdown(math.MaxInt) // others' messages come as well: there is no number
	all := make(chan struct{})             // closed when all have come
	var g errgroup.Group
	g.Go(func() error {
		return consumer.Consume(100, left, func(data []byte) {
			if len(data) != protocol.MinMessageSize+healthySize {
				return
			}
			n := int(came.Add(1))
			if n > warm {
				ages.Add(load.Age(data))
			}
			if n == messages {
				close(all)
			}
		})
	})
	g.Go(func() error {
		defer left.Stop()
		err := producer.PublishPaced(load.Messages{Topic: healthyTopic, Size: healthySize}, messages, float64(f.rate))
		if err != nil {
			return err
		}
		select {
		case <-all:
			return nil
		case <-time.After(patience):
			return fmt.Errorf("%d of %d messages did not come", messages-int(came.Load()), messages)
		}
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &ages, nil
}
