package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"golang.org/x/sync/errgroup"
)

const (
	topic   = "soak"
	channel = "soak"

	// window is how many messages of one producer wait for nsqd's OK at most.
	window = 1000

	// stall is how long no message may arrive before the load gives up.
	stall = 30 * time.Second
)

// A load is messages published and consumed at the same time, all in one topic
// and one channel.
type load struct {
	messages  int // in all
	size      int // of a body in bytes, at least 8
	producers int // connections that publish
	consumers int // connections that consume
	batch     int // messages per MPUB; 0 for pipelined PUBs
	inFlight  int // of one consumer at most
}

// An account says what became of the messages of a load.
type account struct {
	published, finished, duplicates, damaged int64
	missing                                  int
	publishing, consuming                    time.Duration // from the common start
}

func (a account) String() string {
	return fmt.Sprintf("published %d in %.2f s (%.0f msg/s), finished %d in %.2f s (%.0f msg/s): missing %d, duplicates %d, damaged %d",
		a.published, a.publishing.Seconds(), float64(a.published)/a.publishing.Seconds(),
		a.finished, a.consuming.Seconds(), float64(a.finished)/a.consuming.Seconds(),
		a.missing, a.duplicates, a.damaged)
}

// balanced reports whether each message was finished exactly once, unchanged.
func (a account) balanced() bool {
	return a.missing == 0 && a.duplicates == 0 && a.damaged == 0 && a.published == a.finished
}

// A book counts the deliveries of each message; any consumer may write to it.
type book struct {
	load       load
	deliveries []atomic.Uint32 // by number of the message
	fillers    [256][]byte     // by last byte of the number

	finished, duplicates, damaged atomic.Int64

	complete chan struct{} // closed when every message has come
}

func newBook(l load) *book {
	b := &book{load: l, deliveries: make([]atomic.Uint32, l.messages), complete: make(chan struct{})}
	for i := range b.fillers {
		b.fillers[i] = bytes.Repeat([]byte{byte(i)}, l.size-8)
	}
	return b
}

// body returns the body of message number n: 8 bytes with the number, then its
// last byte over and over.
func (b *book) body(n int) []byte {
	body := binary.BigEndian.AppendUint64(make([]byte, 0, b.load.size), uint64(n))
	return append(body, b.fillers[byte(n)]...)
}

// HandleMessage books a delivery, as nsq.Handler.
func (b *book) HandleMessage(m *nsq.Message) error {
	if len(m.Body) != b.load.size {
		b.damaged.Add(1)
		return nil
	}
	n := binary.BigEndian.Uint64(m.Body)
	if n >= uint64(b.load.messages) || !bytes.Equal(m.Body[8:], b.fillers[byte(n)]) {
		b.damaged.Add(1)
		return nil
	}
	if b.deliveries[n].Add(1) > 1 {
		b.duplicates.Add(1)
		return nil
	}
	if b.finished.Add(1) == int64(b.load.messages) {
		close(b.complete)
	}
	return nil
}

// run publishes to and consumes from the nsqd at addr until every message has
// come, nothing comes any more, or ctx ends. The account is valid with an error,
// too. Clients log to logger.
func (l load) run(ctx context.Context, addr string, logger *log.Logger) (account, error) {
	b := newBook(l)
	consumers, err := b.consume(addr, logger)
	defer func() {
		for _, consumer := range consumers {
			consumer.Stop()
		}
		for _, consumer := range consumers {
			<-consumer.StopChan
		}
	}()
	if err != nil {
		return account{}, err
	}

	start := time.Now()
	var a account
	if err = b.publish(ctx, addr, logger); err == nil {
		a.published, a.publishing = int64(l.messages), time.Since(start)
		err = b.await(ctx)
	}
	a.consuming = time.Since(start)
	a.finished, a.duplicates, a.damaged = b.finished.Load(), b.duplicates.Load(), b.damaged.Load()
	for i := range b.deliveries {
		if b.deliveries[i].Load() == 0 {
			a.missing++
		}
	}
	return a, err
}

// consume connects the consumers; on error it returns those made so far.
func (b *book) consume(addr string, logger *log.Logger) ([]*nsq.Consumer, error) {
	var consumers []*nsq.Consumer
	for range b.load.consumers {
		config := nsq.NewConfig()
		config.MaxInFlight = b.load.inFlight
		config.MaxAttempts = 0 // give nothing up
		consumer, err := nsq.NewConsumer(topic, channel, config)
		if err != nil {
			return consumers, fmt.Errorf("consume: %w", err)
		}
		consumers = append(consumers, consumer)
		consumer.SetLogger(logger, nsq.LogLevelError)
		consumer.AddHandler(b)
		if err := consumer.ConnectToNSQD(addr); err != nil {
			return consumers, fmt.Errorf("consume: %w", err)
		}
	}
	return consumers, nil
}

// publish returns when nsqd has confirmed every message.
func (b *book) publish(ctx context.Context, addr string, logger *log.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range b.load.producers {
		first := b.load.messages * i / b.load.producers
		end := b.load.messages * (i + 1) / b.load.producers
		group.Go(func() error {
			producer, err := nsq.NewProducer(addr, nsq.NewConfig())
			if err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			producer.SetLogger(logger, nsq.LogLevelError)
			defer producer.Stop()
			if b.load.batch > 0 {
				err = b.publishBatches(ctx, producer, first, end)
			} else {
				err = b.publishPipelined(ctx, producer, first, end)
			}
			if err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// publishPipelined sends one PUB per message and up to window of them ahead of
// their OKs.
func (b *book) publishPipelined(ctx context.Context, producer *nsq.Producer, first, end int) error {
	results := make(chan *nsq.ProducerTransaction, window)
	waiting := 0
	for n := first; n < end || waiting > 0; {
		if n < end && waiting < window {
			if err := producer.PublishAsync(topic, b.body(n), results); err != nil {
				return err
			}
			n++
			waiting++
			continue
		}
		select {
		case result := <-results:
			if result.Error != nil {
				return result.Error
			}
			waiting--
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (b *book) publishBatches(ctx context.Context, producer *nsq.Producer, first, end int) error {
	for n := first; n < end; n += b.load.batch {
		bodies := make([][]byte, 0, b.load.batch)
		for m := n; m < min(n+b.load.batch, end); m++ {
			bodies = append(bodies, b.body(m))
		}
		if err := producer.MultiPublish(topic, bodies); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// await waits until every message has come, or none has for the time of stall.
func (b *book) await(ctx context.Context) error {
	ticker := time.NewTicker(stall)
	defer ticker.Stop()
	for before := b.finished.Load(); ; {
		select {
		case <-b.complete:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			now := b.finished.Load()
			if now == before {
				return fmt.Errorf("consume: nothing came for %v", stall)
			}
			before = now
		}
	}
}
