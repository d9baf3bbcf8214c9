package nsqtofile

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/tool"
)

// A topic receives and writes the messages of one topic.
type topic struct {
	opts     *Options
	log      *slog.Logger
	meter    *tool.Meter
	consumer *nsq.Consumer
	messages chan *nsq.Message // what was received, for run
	hangup   chan struct{}     // capacity 1: close the file
	ended    chan struct{}     // closed when run has returned

	// Used only by run.
	writer   *writer
	pending  []*nsq.Message // written and not synced
	stopping bool
}

// newTopic sets a topic up: its files are in order, it is connected to at least one
// nsqd given, or asks nsqlookupd.
func newTopic(ctx context.Context, r *runner, name string) (*topic, error) {
	w, err := newWriter(r.opts, r.log, name)
	if err != nil {
		return nil, err
	}
	c, err := nsq.NewConsumer(name, r.opts.Channel, r.config)
	if err != nil {
		return nil, err
	}
	t := &topic{
		opts: r.opts, log: r.log, meter: r.meter, consumer: c, writer: w,
		messages: make(chan *nsq.Message, r.opts.MaxInFlight),
		hangup:   make(chan struct{}, 1),
		ended:    make(chan struct{}),
	}
	r.library.Consumer(c)
	c.SetLookupdHttpClient(r.lookupd)
	c.AddHandler(t)
	if err := w.recover(); err != nil {
		tool.Consumers{c}.Stop()
		return nil, err
	}
	missing, err := connect(c, &r.opts.Source)
	if err != nil {
		tool.Consumers{c}.Stop()
		return nil, err
	}
	for _, addr := range missing {
		r.group.Go(func() error {
			t.keepConnecting(ctx, addr, r.config.LookupdPollInterval)
			return nil
		})
	}
	return t, nil
}

// connect connects to the source. It returns the nsqds that could not be reached,
// or the first error if that is all of them.
func connect(c *nsq.Consumer, source *tool.Source) (missing []string, err error) {
	for _, addr := range source.NSQDTCPAddresses {
		if connectErr := c.ConnectToNSQD(addr); connectErr != nil {
			missing = append(missing, addr)
			if err == nil {
				err = connectErr
			}
		}
	}
	if err != nil && len(missing) == len(source.NSQDTCPAddresses) {
		return nil, err
	}
	return missing, c.ConnectToNSQLookupds(source.LookupdHTTPAddresses)
}

// keepConnecting connects to an nsqd that was not there at the start.
func (t *topic) keepConnecting(ctx context.Context, addr string, interval time.Duration) {
	for {
		t.log.Warn(t.writer.label + fmt.Sprintf("nsqd %s cannot be reached, trying again in %s", addr, interval))
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return
		}
		if err := t.consumer.ConnectToNSQD(addr); err == nil || ctx.Err() != nil {
			return // a connection that is lost later is the library's to make again
		}
	}
}

// HandleMessage gives a message to run, which answers it. After the end of run
// nobody does, and nsqd sends it again.
func (t *topic) HandleMessage(m *nsq.Message) error {
	m.DisableAutoResponse()
	select {
	case t.messages <- m:
	case <-t.ended:
	}
	return nil
}

// run writes messages until ctx has ended and everything received is written. After
// an error what is not synced stays unanswered.
func (t *topic) run(ctx context.Context) (err error) {
	defer close(t.ended)
	defer func() {
		if err == nil {
			return
		}
		if abandonErr := t.writer.abandon(); abandonErr != nil {
			t.log.Warn(t.writer.label + "closing the file failed, too: " + abandonErr.Error())
		}
		err = fmt.Errorf("%s%w", t.writer.label, err)
	}()
	ticker := time.NewTicker(t.opts.SyncInterval)
	defer ticker.Stop()
	stop := ctx.Done()
	for {
		var err error
		select {
		case m := <-t.messages:
			err = t.write(m)
		case now := <-ticker.C:
			if err = t.writer.tick(now); err == nil {
				err = t.sync()
			}
		case <-t.hangup:
			err = t.closeFile()
		case <-stop:
			stop, t.stopping = nil, true
			t.consumer.Stop()
			err = t.sync()
		case <-t.consumer.StopChan:
			return t.closeFile()
		}
		if err != nil {
			return err
		}
	}
}

// write writes a message, and syncs if it is time for that.
func (t *topic) write(m *nsq.Message) error {
	rotated, err := t.writer.write(time.Now(), m.Body)
	if err != nil {
		return err
	}
	t.pending = append(t.pending, m)
	t.meter.Add(len(m.Body))
	if rotated || len(t.pending) >= t.opts.MaxInFlight {
		return t.sync()
	}
	if len(t.messages) == 0 {
		runtime.Gosched() // more may have been received
	}
	switch {
	case len(t.messages) > 0:
		return nil
	case t.stopping || t.consumer.IsStarved():
		return t.sync()
	}
	return t.writer.flush()
}

// sync makes what was written durable, and finishes the messages, the last one
// first.
func (t *topic) sync() error {
	if len(t.pending) > 0 {
		t.writer.infof("syncing %d records to disk", len(t.pending))
	}
	if err := t.writer.sync(); err != nil {
		return err
	}
	for i := len(t.pending) - 1; i >= 0; i-- {
		t.pending[i].Finish()
		t.pending[i] = nil
	}
	t.pending = t.pending[:0]
	return nil
}

// closeFile syncs and closes the file; the next message or tick opens another one.
func (t *topic) closeFile() error {
	if err := t.sync(); err != nil {
		return err
	}
	return t.writer.close()
}
