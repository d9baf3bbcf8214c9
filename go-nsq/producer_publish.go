package nsq

import (
	"context"
	"sync/atomic"
	"time"
)

// Publisher is what publishes: a Producer, or a ProducerPool. It is for those
// who want to put something else in their place.
type Publisher interface {
	Publish(topic string, body []byte) error
	MultiPublish(topic string, body [][]byte) error
	DeferredPublish(topic string, delay time.Duration, body []byte) error
	PublishAsync(topic string, body []byte, doneChan chan *ProducerTransaction, args ...interface{}) error
	MultiPublishAsync(topic string, body [][]byte, doneChan chan *ProducerTransaction, args ...interface{}) error
	DeferredPublishAsync(topic string, delay time.Duration, body []byte, doneChan chan *ProducerTransaction,
		args ...interface{}) error
	PublishWithContext(ctx context.Context, topic string, body []byte) error
	MultiPublishWithContext(ctx context.Context, topic string, body [][]byte) error
	DeferredPublishWithContext(ctx context.Context, topic string, delay time.Duration, body []byte) error
	PublishAsyncWithContext(ctx context.Context, topic string, body []byte, doneChan chan *ProducerTransaction,
		args ...interface{}) error
	MultiPublishAsyncWithContext(ctx context.Context, topic string, body [][]byte,
		doneChan chan *ProducerTransaction, args ...interface{}) error
	DeferredPublishAsyncWithContext(ctx context.Context, topic string, delay time.Duration, body []byte,
		doneChan chan *ProducerTransaction, args ...interface{}) error
	Stop()
}

// Ping connects if need be and sends nsqd a NOP, to which there is no answer:
// nil means that we are connected and the bytes were accepted.
func (w *Producer) Ping() error {
	return w.PingWithContext(context.Background())
}

// PingWithContext is Ping, given up with the error of ctx when that ends.
func (w *Producer) PingWithContext(ctx context.Context) error {
	if w.stopFlag.Load() {
		return ErrStopped
	}
	if atomic.LoadInt32(&w.state) != StateConnected {
		if err := w.connect(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.guard.Lock()
	conn := w.conn
	w.guard.Unlock()
	return conn.WriteCommand(Nop())
}

// Publish publishes body to topic and waits for nsqd's answer. An error is
// that of the dial, ErrIdentify, ErrProtocol, ErrNotConnected or ErrStopped;
// LastError may tell more about the last but one.
// What nsqd is certain to refuse (an invalid topic, an empty body) is not sent:
// it would cost the connection. nil is an empty body.
func (w *Producer) Publish(topic string, body []byte) error {
	return w.PublishWithContext(context.Background(), topic, body)
}

// PublishWithContext is Publish, given up with the error of ctx when that ends.
// A publish that is not written by then is withdrawn; nsqd may have stored one
// that is.
func (w *Producer) PublishWithContext(ctx context.Context, topic string, body []byte) error {
	if err := checkPublish(topic, body); err != nil {
		return w.refuse(err)
	}
	return w.sendCommand(ctx, Publish(topic, body))
}

// MultiPublish publishes several messages to topic at once, all or none, and
// waits for nsqd's answer. Errors are those of Publish.
func (w *Producer) MultiPublish(topic string, body [][]byte) error {
	return w.MultiPublishWithContext(context.Background(), topic, body)
}

// MultiPublishWithContext is to MultiPublish what PublishWithContext is to
// Publish.
func (w *Producer) MultiPublishWithContext(ctx context.Context, topic string, body [][]byte) error {
	cmd, err := multiPublish(topic, body)
	if err != nil {
		return w.refuse(err)
	}
	return w.sendCommand(ctx, cmd)
}

// DeferredPublish publishes body to topic, to be delivered after delay (whole
// milliseconds, at most nsqd's --max-req-timeout), and waits for nsqd's answer.
// Errors are those of Publish.
func (w *Producer) DeferredPublish(topic string, delay time.Duration, body []byte) error {
	return w.DeferredPublishWithContext(context.Background(), topic, delay, body)
}

// DeferredPublishWithContext is to DeferredPublish what PublishWithContext is
// to Publish.
func (w *Producer) DeferredPublishWithContext(ctx context.Context, topic string, delay time.Duration,
	body []byte) error {
	if err := checkDeferredPublish(topic, delay, body); err != nil {
		return w.refuse(err)
	}
	return w.sendCommand(ctx, DeferredPublish(topic, delay, body))
}

// PublishAsync publishes body to topic without waiting for nsqd's answer. If it
// returns nil, exactly one transaction with the outcome and args is sent on
// doneChan, in the order of publishing; nil discards it. body must not be
// changed before.
//
// doneChan need not be drained at once, but it must be drained: with 10,000
// outcomes outstanding on it publishing with it blocks.
func (w *Producer) PublishAsync(topic string, body []byte, doneChan chan *ProducerTransaction,
	args ...interface{}) error {
	return w.PublishAsyncWithContext(context.Background(), topic, body, doneChan, args...)
}

// PublishAsyncWithContext is PublishAsync, given up with the error of ctx when
// that ends before the publish could be queued. Afterwards ctx has no effect.
func (w *Producer) PublishAsyncWithContext(ctx context.Context, topic string, body []byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	if err := checkPublish(topic, body); err != nil {
		return w.sendRejectedAsync(ctx, err, doneChan, args)
	}
	return w.sendCommandAsync(ctx, Publish(topic, body), doneChan, args)
}

// MultiPublishAsync is MultiPublish in the manner of PublishAsync: one
// transaction for all messages.
func (w *Producer) MultiPublishAsync(topic string, body [][]byte, doneChan chan *ProducerTransaction,
	args ...interface{}) error {
	return w.MultiPublishAsyncWithContext(context.Background(), topic, body, doneChan, args...)
}

// MultiPublishAsyncWithContext is to MultiPublishAsync what
// PublishAsyncWithContext is to PublishAsync.
func (w *Producer) MultiPublishAsyncWithContext(ctx context.Context, topic string, body [][]byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	cmd, err := multiPublish(topic, body)
	if err != nil {
		return w.sendRejectedAsync(ctx, err, doneChan, args)
	}
	return w.sendCommandAsync(ctx, cmd, doneChan, args)
}

// DeferredPublishAsync is DeferredPublish in the manner of PublishAsync.
func (w *Producer) DeferredPublishAsync(topic string, delay time.Duration, body []byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	return w.DeferredPublishAsyncWithContext(context.Background(), topic, delay, body, doneChan, args...)
}

// DeferredPublishAsyncWithContext is to DeferredPublishAsync what
// PublishAsyncWithContext is to PublishAsync.
func (w *Producer) DeferredPublishAsyncWithContext(ctx context.Context, topic string, delay time.Duration,
	body []byte, doneChan chan *ProducerTransaction, args ...interface{}) error {
	if err := checkDeferredPublish(topic, delay, body); err != nil {
		return w.sendRejectedAsync(ctx, err, doneChan, args)
	}
	return w.sendCommandAsync(ctx, DeferredPublish(topic, delay, body), doneChan, args)
}

// multiPublish returns the command, or the error that nsqd would answer.
func multiPublish(topic string, body [][]byte) (*Command, error) {
	if err := checkMultiPublish(topic, body); err != nil {
		return nil, err
	}
	return MultiPublish(topic, body)
}

// refuse returns err, what nsqd would say, unless nobody would ask it.
func (w *Producer) refuse(err error) error {
	if w.stopFlag.Load() {
		return ErrStopped
	}
	return err
}

func (w *Producer) sendCommand(ctx context.Context, cmd *Command) error {
	_, err := w.send(ctx, cmd)
	return err
}

// send queues cmd and waits for the answer. uncertain says of an error that
// nsqd may have done what cmd says.
func (w *Producer) send(ctx context.Context, cmd *Command) (uncertain bool, err error) {
	doneChan, ok := w.doneChans.Get().(chan *ProducerTransaction)
	if !ok {
		doneChan = make(chan *ProducerTransaction, 1)
	}
	t := &ProducerTransaction{cmd: cmd, doneChan: doneChan}
	if err := w.sendTransaction(ctx, t); err != nil {
		w.doneChans.Put(doneChan)
		return false, err
	}
	if ctx.Done() == nil {
		<-doneChan // cheaper than a select
	} else {
		select {
		case <-doneChan:
		case <-ctx.Done():
			if w.transactionChan.withdraw(t, ctx.Err()) {
				return false, ctx.Err()
			}
			select {
			case <-doneChan: // just in time
			default:
				return true, ctx.Err() // the outcome still comes, and stays in doneChan
			}
		}
	}
	w.doneChans.Put(doneChan)
	return t.Uncertain(), t.Error
}

func (w *Producer) sendCommandAsync(ctx context.Context, cmd *Command, doneChan chan *ProducerTransaction,
	args []interface{}) error {
	return w.sendTransaction(ctx, &ProducerTransaction{cmd: cmd, doneChan: doneChan, Args: args})
}

// sendRejectedAsync gives doneChan the error in its turn, as if nsqd had sent it.
func (w *Producer) sendRejectedAsync(ctx context.Context, err error, doneChan chan *ProducerTransaction,
	args []interface{}) error {
	return w.sendTransaction(ctx, &ProducerTransaction{Error: err, doneChan: doneChan, Args: args})
}

// sendTransaction queues t for the router of a connection, made if need be.
func (w *Producer) sendTransaction(ctx context.Context, t *ProducerTransaction) error {
	if err := w.deliveries.waitForRoom(ctx, t.doneChan); err != nil {
		return err
	}
	for range maxConnectAttempts {
		if w.stopFlag.Load() {
			return ErrStopped
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if atomic.LoadInt32(&w.state) != StateConnected {
			if err := w.connect(ctx); err != nil {
				return err
			}
		}
		if taken, err := w.transactionChan.put(ctx, t); taken || err != nil {
			return err
		}
	}
	return ErrNotConnected
}
