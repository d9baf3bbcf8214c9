package main

import (
	"context"
	"math"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"golang.org/x/sync/errgroup"
)

// A site is an nsqd with a disturbance. What is connected there ends with ctx.
type site struct {
	*load.NSQD
	ctx   context.Context
	fail  context.CancelCauseFunc // ends ctx
	scale float64
	work  errgroup.Group // what goes on until ctx ends
}

// many is how many there are of something of which there are usually n.
func (s *site) many(n int) int { return max(1, int(float64(n)*s.scale)) }

// background lets f run until ctx ends. An error before that ends ctx.
func (s *site) background(f func() error) {
	s.work.Go(func() error {
		if err := f(); err != nil && s.ctx.Err() == nil {
			s.fail(err)
		}
		return nil
	})
}

// dial connects a client that is made for throughput.
func (s *site) dial() (*load.Conn, error) { return s.Dial(s.ctx, load.BigBuffers) }

// publish publishes n messages from a connection of its own.
func (s *site) publish(m load.Messages, n int) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Publish(m, n, 4)
}

// subscribe connects a consumer that has said RDY n, and reads nothing by itself.
func (s *site) subscribe(topic, channel string, rdy int, identify load.Identify) (*load.Conn, error) {
	c, err := s.Dial(s.ctx, identify)
	if err == nil {
		err = c.Subscribe(topic, channel)
	}
	if err == nil {
		err = c.Ready(rdy)
	}
	return c, err
}

// consume lets a consumer finish all that comes to a channel.
func (s *site) consume(topic, channel string) error {
	c, err := s.subscribe(topic, channel, 0, load.BigBuffers)
	if err != nil {
		return err
	}
	left := load.NewCountdown(math.MaxInt)
	context.AfterFunc(s.ctx, left.Stop)
	s.background(func() error { return c.Consume(2500, left, nil) })
	return nil
}

// repeat takes turns until ctx ends, so often that nsqd needs no more than share CPUs.
// Where that is not measured, so much of the time is spent on turns.
func (s *site) repeat(turn func() error, share float64) error {
	start := time.Now()
	first, err := s.Usage()
	if err != nil {
		return err
	}
	var used time.Duration
	for s.ctx.Err() == nil {
		began := time.Now()
		if err := turn(); err != nil {
			return err
		}
		if now, err := s.Usage(); err != nil {
			return err
		} else if now.Measured {
			used = now.CPU - first.CPU
		} else {
			used += time.Since(began)
		}
		due := time.Duration(float64(used) / share)
		select {
		case <-time.After(time.Until(start.Add(due))):
		case <-s.ctx.Done():
		}
	}
	return nil
}
