package main

import (
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"golang.org/x/sync/errgroup"
)

const topic = "bench"

// batch is how many messages an MPUB has.
const batch = 200

// stall is how long no message may arrive before a measurement is given up.
const stall = 30 * time.Second

// A load is one thing to measure.
type load struct {
	name  string
	share int // it has so many times fewer messages than a fast one
	run   func(*trial) error
}

var loads = []load{
	{"Publish", 20, func(t *trial) error { return t.publish(1) }},
	{"Publish, 32 goroutines", 2, func(t *trial) error { return t.publish(32) }},
	{"PublishAsync", 1, (*trial).publishAsync},
	{"MultiPublish of 100", 1, (*trial).multiPublish},
	{"consume, 1 handler", 1, func(t *trial) error { return t.consume(1) }},
	{"consume, 16 handlers", 1, func(t *trial) error { return t.consume(16) }},
}

// A trial is one measurement of n messages.
type trial struct {
	ctx  context.Context
	addr string
	n    int
	body []byte

	took, cpu time.Duration // the result
}

// time measures f.
func (t *trial) time(f func() error) error {
	start, cpu := time.Now(), cpuTime()
	err := f()
	t.took, t.cpu = time.Since(start), cpuTime()-cpu
	return err
}

// producer returns a connected producer.
func (t *trial) producer() (*nsq.Producer, error) {
	w, err := nsq.NewProducer(t.addr, nsq.NewConfig())
	if err != nil {
		return nil, err
	}
	w.SetLogger(log.Default(), nsq.LogLevelError)
	return w, w.PingWithContext(t.ctx)
}

func (t *trial) publish(goroutines int) error {
	w, err := t.producer()
	if err != nil {
		return err
	}
	defer w.Stop()
	return t.time(func() error {
		var left atomic.Int64
		left.Store(int64(t.n))
		g, ctx := errgroup.WithContext(t.ctx)
		for range goroutines {
			g.Go(func() error {
				for left.Add(-1) >= 0 && ctx.Err() == nil {
					if err := w.Publish(topic, t.body); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
}

func (t *trial) publishAsync() error {
	w, err := t.producer()
	if err != nil {
		return err
	}
	defer w.Stop()
	return t.time(func() error {
		done := make(chan *nsq.ProducerTransaction, 1000)
		var g errgroup.Group
		g.Go(func() error {
			for range t.n {
				if result := <-done; result.Error != nil {
					return result.Error
				}
			}
			return nil
		})
		for range t.n {
			if err := w.PublishAsync(topic, t.body, done); err != nil {
				done <- &nsq.ProducerTransaction{Error: err} // ends the receiver
				break
			}
		}
		return g.Wait()
	})
}

func (t *trial) multiPublish() error {
	w, err := t.producer()
	if err != nil {
		return err
	}
	defer w.Stop()
	return t.time(func() error { return t.fill(w) })
}

// fill publishes all messages in batches.
func (t *trial) fill(w *nsq.Producer) error {
	bodies := make([][]byte, batch)
	for i := range bodies {
		bodies[i] = t.body
	}
	for left := t.n; left > 0; left -= batch {
		if err := w.MultiPublishWithContext(t.ctx, topic, bodies[:min(left, batch)]); err != nil {
			return err
		}
	}
	return nil
}

// consume measures from the connect to the last message.
func (t *trial) consume(handlers int) error {
	w, err := t.producer()
	if err != nil {
		return err
	}
	err = t.fill(w)
	w.Stop()
	if err != nil {
		return err
	}
	config := nsq.NewConfig()
	config.MaxInFlight = 2500
	r, err := nsq.NewConsumer(topic, "bench", config)
	if err != nil {
		return err
	}
	r.SetLogger(log.Default(), nsq.LogLevelError)
	defer func() {
		r.Stop()
		<-r.StopChan
	}()
	var got atomic.Int64
	all := make(chan struct{})
	r.AddConcurrentHandlers(nsq.HandlerFunc(func(*nsq.Message) error {
		if got.Add(1) == int64(t.n) {
			close(all)
		}
		return nil
	}), handlers)
	return t.time(func() error {
		if err := r.ConnectToNSQD(t.addr); err != nil {
			return err
		}
		return wait(t.ctx, all, &got)
	})
}

// wait waits for all, as long as got grows.
func wait(ctx context.Context, all <-chan struct{}, got *atomic.Int64) error {
	ticker := time.NewTicker(stall)
	defer ticker.Stop()
	for last := int64(0); ; {
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			now := got.Load()
			if now == last {
				return fmt.Errorf("messages are missing: %d have come", now)
			}
			last = now
		}
	}
}
