package tonsq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Run publishes the input to every destination until it ends, or ctx does. After
// the first message that a destination refuses it publishes no more, and says how
// much of the input each destination has.
func Run(ctx context.Context, opts *Options, env *tool.Env) error {
	producers, err := opts.producers(env)
	if err != nil {
		return err
	}
	// A message whose turn it is when ctx ends still goes to all destinations; the
	// end of healthy means that one has failed.
	healthy, failed := context.WithCancelCause(context.WithoutCancel(ctx))
	defer failed(nil)
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	context.AfterFunc(healthy, stopReading)

	destinations := make([]*destination, len(producers))
	for i, producer := range producers {
		destinations[i] = newDestination(producer, failed)
	}
	var limiter *limiter
	if opts.Rate >= 1 {
		env.Log.Printf("Throttling messages rate to max:%d/second", opts.Rate)
		limiter = newLimiter(opts.Rate)
	}
	meter := opts.NewMeter(env, "published", true)
	meterCtx, stopMeter := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { meter.Run(meterCtx) })

	pieces, readError := make(chan piece, 64), make(chan error, 1)
	go func() { // ends with the input, or with reading; nobody waits, since a read of a pipe cannot be interrupted
		defer close(pieces)
		readError <- read(reading, env.Stdin, opts.Delimiter[0], limiter, pieces)
	}()
	err = publishAll(reading, healthy, opts.Topic, destinations, pieces, meter)
	if err == nil && reading.Err() == nil {
		err = <-readError
	}
	for _, d := range destinations {
		d.stop()
	}
	stopMeter()
	running.Wait()
	if cause := context.Cause(healthy); cause != nil {
		err = cause
	}
	if err != nil {
		for _, d := range destinations {
			env.Log.Print(d.report())
		}
	}
	return err
}

// producers returns one producer for each address.
func (o *Options) producers(env *tool.Env) ([]*nsq.Producer, error) {
	config, err := o.ProducerOptions.Config("to_nsq")
	if err != nil {
		return nil, err
	}
	log := tool.NewLibraryLog(env, o.LogLevel)
	var producers []*nsq.Producer
	for _, addr := range slices.Compact(slices.Sorted(slices.Values(o.NSQDTCPAddresses))) {
		producer, err := nsq.NewProducer(addr, config)
		if err != nil {
			return nil, fmt.Errorf("failed to create nsq.Producer - %w", err)
		}
		log.Producer(producer)
		producers = append(producers, producer)
	}
	if len(producers) == 0 {
		return nil, errors.New("--nsqd-tcp-address required")
	}
	return producers, nil
}

// publishAll publishes the pieces until there are no more, or one of the contexts
// ends. The first one is published when all destinations are connected: one that is
// not there shall not leave the others with the beginning of the input.
func publishAll(reading, healthy context.Context, topic string, destinations []*destination, pieces <-chan piece, meter *tool.Meter) error {
	connected := false
	for {
		var p piece
		var ok bool
		select {
		case p, ok = <-pieces:
		case <-reading.Done():
		}
		if !ok {
			return nil
		}
		if !connected {
			for _, d := range destinations {
				if err := d.producer.Ping(); err != nil {
					return err
				}
			}
			connected = true
		}
		for _, d := range destinations {
			if err := d.publish(healthy, topic, p); err != nil {
				return err // that of the first failure, if it is not this one: Run knows
			}
		}
		meter.Add(len(p.body))
	}
}
