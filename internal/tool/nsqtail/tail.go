package nsqtail

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Run prints messages until there are as many as asked for, or ctx ends.
func Run(ctx context.Context, opts *Options, env *tool.Env) error {
	maxInFlight := opts.MaxInFlight
	if opts.N > 0 {
		maxInFlight = min(maxInFlight, opts.N)
	}
	// Showing a message does not fail: one that comes for the sixth time is shown, too.
	config, err := opts.ConsumerOptions.ConfigForever("nsq_tail", maxInFlight)
	if err != nil {
		return err
	}
	channel := opts.Channel
	if channel == "" {
		channel = fmt.Sprintf("tail%06d#ephemeral", rand.IntN(999999))
	}
	p := &printer{opts: opts, out: env.Stdout, meter: opts.NewMeter(env, "shown", env.OutputIsFile), done: make(chan struct{})}
	meterCtx, stopMeter := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.meter.Run(meterCtx) })
	defer running.Wait()
	defer stopMeter()

	var consumers tool.Consumers
	defer func() { consumers.Stop() }()
	log := tool.NewLibraryLog(env, opts.LogLevel)
	for _, topic := range opts.Topics {
		env.Log.Printf("Adding consumer for topic: %s", topic)
		c, err := nsq.NewConsumer(topic, channel, config)
		if err != nil {
			return err
		}
		consumers = append(consumers, c)
		log.Consumer(c)
		c.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error { return p.print(topic, m) }))
		if err := opts.Source.Connect(c); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
	case <-p.done:
	}
	for _, c := range consumers {
		c.Stop()
	}
	p.giveBack()
	consumers.Stop()
	return p.failure()
}

// A printer prints the messages of all topics.
type printer struct {
	opts  *Options
	meter *tool.Meter
	done  chan struct{} // closed when there is nothing more to print

	mu      sync.Mutex // guards what follows; held for one Write
	out     io.Writer
	line    []byte // for reuse
	printed int
	ended   bool           // done is closed
	surplus []*nsq.Message // came after that
	stopped bool           // nsqd sends no more
	err     error
}

// print prints one message with one Write. What comes after the last one to print
// goes back to nsqd for others.
func (p *printer) print(topic string, m *nsq.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		p.surplusLocked(m)
		return nil
	}
	var err error
	if p.line, err = p.opts.appendLine(p.line[:0], topic, m); err == nil {
		_, err = p.out.Write(p.line)
	}
	if err != nil {
		p.err = fmt.Errorf("ERROR: failed to write to os.Stdout - %w", err)
		p.endLocked()
		p.surplusLocked(m)
		return nil
	}
	p.meter.Add(len(m.Body))
	if p.printed++; p.printed == p.opts.N {
		p.endLocked()
	}
	return nil
}

func (p *printer) endLocked() {
	p.ended = true
	close(p.done)
}

// surplusLocked keeps a message that is not shown until nsqd has been told to send
// no more: it would come back at once, again and again, and each time as another
// attempt.
func (p *printer) surplusLocked(m *nsq.Message) {
	m.DisableAutoResponse()
	if p.stopped {
		m.RequeueWithoutBackoff(0)
		return
	}
	p.surplus = append(p.surplus, m)
}

// giveBack gives back to nsqd what is not shown. The Consumers have been stopped.
func (p *printer) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, m := range p.surplus {
		m.RequeueWithoutBackoff(0)
	}
	p.surplus = nil
}

func (p *printer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// A record is the JSON form of a message.
type record struct {
	Topic      string    `json:"topic"`
	ID         string    `json:"id"`
	Timestamp  time.Time `json:"timestamp"` // when nsqd got the message
	Attempts   uint16    `json:"attempts"`
	NSQD       string    `json:"nsqd"`
	Body       *string   `json:"body,omitempty"`
	BodyBase64 []byte    `json:"body_base64,omitempty"`
}

// appendLine appends what is printed for a message.
func (o *Options) appendLine(line []byte, topic string, m *nsq.Message) ([]byte, error) {
	if !o.JSON {
		if o.PrintTopic {
			line = append(append(line, topic...), " | "...)
		}
		return append(append(line, m.Body...), '\n'), nil
	}
	r := record{Topic: topic, ID: string(m.ID[:]), Timestamp: time.Unix(0, m.Timestamp).UTC(), Attempts: m.Attempts, NSQD: m.NSQDAddress}
	if body := string(m.Body); utf8.ValidString(body) {
		r.Body = &body
	} else {
		r.BodyBase64 = m.Body
	}
	text, err := json.Marshal(r)
	return append(append(line, text...), '\n'), err
}
