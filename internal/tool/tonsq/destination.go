package tonsq

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/nsq-suite/nsq/go-nsq"
)

// What may be published to a destination without being confirmed: window, counted
// in bytes, where a message costs messageCost besides its body.
const (
	window      = 8 << 20
	messageCost = 4 << 10
)

// A destination is one nsqd. Messages are published without waiting for the answer
// to the one before, and answered in order.
type destination struct {
	producer *nsq.Producer
	room     *semaphore.Weighted // of the window
	answers  chan *nsq.ProducerTransaction
	failed   context.CancelCauseFunc // told the first error of any destination

	collecting sync.WaitGroup

	mu        sync.Mutex // guards what follows
	confirmed int        // messages that are there
	offset    int64      // of the input: all before it is there
	broken    bool       // a message is not there, or nobody knows
}

func newDestination(producer *nsq.Producer, failed context.CancelCauseFunc) *destination {
	d := &destination{
		producer: producer,
		room:     semaphore.NewWeighted(window),
		answers:  make(chan *nsq.ProducerTransaction, 1024),
		failed:   failed,
	}
	d.collecting.Go(d.collect) // ends when stop closes answers
	return d
}

// publish publishes a piece, as soon as there is room.
func (d *destination) publish(ctx context.Context, topic string, p piece) error {
	cost := min(int64(len(p.body))+messageCost, window)
	if err := d.room.Acquire(ctx, cost); err != nil {
		return err
	}
	if err := d.producer.PublishAsync(topic, p.body, d.answers, p.end, cost); err != nil {
		d.room.Release(cost)
		return err
	}
	return nil
}

// collect takes the answers.
func (d *destination) collect() {
	for t := range d.answers {
		d.mu.Lock()
		if t.Error != nil {
			d.broken = true
			d.failed(t.Error)
		} else if d.confirmed++; !d.broken {
			d.offset = t.Args[0].(int64)
		}
		d.mu.Unlock()
		d.room.Release(t.Args[1].(int64))
	}
}

// stop waits for what is not confirmed yet, within the limits of Producer.Stop, and
// disconnects. Nothing may be published any more.
func (d *destination) stop() {
	d.producer.Stop()
	_ = d.room.Acquire(context.Background(), window) // everything has its answer, be it an error
	close(d.answers)
	d.collecting.Wait()
}

// report says how much of the input is there.
func (d *destination) report() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("%s has %d messages, and the first %d bytes of the input for certain", d.producer, d.confirmed, d.offset)
}
