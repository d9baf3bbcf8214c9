package nsqtonsq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/hostpool"
)

// Run publishes messages until ctx ends. Those that have been received by then are
// still published.
func Run(ctx context.Context, opts *Options, env *tool.Env) error {
	r, err := newRelay(opts, env)
	if err != nil {
		return err
	}
	config, err := opts.ConsumerOptions.ConfigForever("nsq_to_nsq", opts.MaxInFlight)
	if err != nil {
		return err
	}
	meterCtx, stopMeter := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.meter.Run(meterCtx) })
	defer running.Wait()
	defer stopMeter()
	for _, d := range r.destinations {
		running.Go(func() { r.respond(d) })
	}
	defer r.stop()

	var consumers tool.Consumers
	defer func() { consumers.Stop() }() // before the producers are stopped
	log := tool.NewLibraryLog(env, opts.LogLevel)
	for _, topic := range opts.Topics {
		c, err := nsq.NewConsumer(topic, opts.Channel, config)
		if err != nil {
			return err
		}
		consumers = append(consumers, c)
		log.Consumer(c)
		to := opts.DestinationTopic
		if to == "" {
			to = topic
		}
		c.AddConcurrentHandlers(nsq.HandlerFunc(func(m *nsq.Message) error { return r.handle(to, m) }), len(r.destinations))
		if err := opts.Source.Connect(c); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// A relay publishes what passes the filter.
type relay struct {
	opts         *Options
	pool         hostpool.Pool
	destinations []*destination
	all          *tool.Timings
	meter        *tool.Meter
	bad          *tool.Occasional // log of messages that are dropped
	quit         chan struct{}    // closed when all is answered
}

// A destination is one nsqd to publish to.
type destination struct {
	producer *nsq.Producer
	answers  chan *nsq.ProducerTransaction // their arguments: message, choice, start
	timings  *tool.Timings                 // of this one alone; nil if there is no other
}

func newRelay(opts *Options, env *tool.Env) (*relay, error) {
	r := &relay{
		opts:  opts,
		all:   tool.NewTimings(opts.StatusEvery, "[aggregate]", env.Log),
		meter: opts.NewMeter(env, "published", true),
		bad:   &tool.Occasional{Log: env.Log},
		quit:  make(chan struct{}),
	}
	config, err := opts.ProducerOptions.Config("nsq_to_nsq")
	if err != nil {
		return nil, err
	}
	log := tool.NewLibraryLog(env, opts.LogLevel)
	for _, addr := range opts.DestinationAddresses {
		producer, err := nsq.NewProducer(addr, config)
		if err != nil {
			return nil, fmt.Errorf("failed creating producer %w", err)
		}
		log.Producer(producer)
		d := &destination{producer: producer, answers: make(chan *nsq.ProducerTransaction, max(opts.MaxInFlight, 0))}
		if len(opts.DestinationAddresses) > 1 {
			d.timings = tool.NewTimings(opts.StatusEvery, "["+addr+"]", env.Log)
		}
		r.destinations = append(r.destinations, d)
	}
	n := len(r.destinations)
	switch opts.Mode {
	case "hostpool":
		r.pool = hostpool.NewHostPool(n)
	case "epsilon-greedy":
		r.pool = hostpool.NewEpsilonGreedy(n)
	case "round-robin":
		r.pool = hostpool.NewRoundRobin(n)
	default:
		env.Log.Printf("WARNING: --mode %q is not known, round-robin is used", opts.Mode)
		r.pool = hostpool.NewRoundRobin(n)
	}
	opts.warnOfLoop(env)
	return r, nil
}

// warnOfLoop warns of messages that would go back where they came from.
func (o *Options) warnOfLoop(env *tool.Env) {
	sameTopic := o.DestinationTopic == "" || slices.Contains(o.Topics, o.DestinationTopic)
	for _, addr := range o.DestinationAddresses {
		if sameTopic && slices.Contains(o.NSQDTCPAddresses, addr) {
			env.Log.Printf("WARNING: %s is source and destination of the same topic: its messages go round for ever", addr)
		}
	}
}

// handle publishes a message. Its answer is given by respond, or here if it cannot
// be published at all.
func (r *relay) handle(topic string, m *nsq.Message) error {
	body, ok, err := r.opts.Filter.apply(m.Body)
	switch {
	case errors.Is(err, errNotJSON):
		r.bad.Printf("ERROR: Unable to decode json: %.100q (%d bytes)", m.Body, len(m.Body))
	case err != nil:
		r.bad.Printf("ERROR: %s", err)
	}
	if !ok {
		return nil
	}
	m.DisableAutoResponse()
	choice := r.pool.Get()
	d := r.destinations[choice.Host]
	if err := d.producer.PublishAsync(topic, body, d.answers, m, choice, time.Now()); err != nil {
		choice.Done(err)
		m.Requeue(-1)
		return err // to be logged
	}
	return nil
}

// respond answers messages as the destination answers their publishes.
func (r *relay) respond(d *destination) {
	for {
		select {
		case t := <-d.answers:
			m, choice, start := t.Args[0].(*nsq.Message), t.Args[1].(hostpool.Choice), t.Args[2].(time.Time)
			choice.Done(t.Error)
			if t.Error == nil {
				m.Finish()
				r.meter.Add(len(m.Body))
			} else {
				m.Requeue(-1)
			}
			d.timings.Add(time.Since(start))
			r.all.Add(time.Since(start))
		case <-r.quit:
			return
		}
	}
}

// stop disconnects from the destinations. The consumers have stopped, so everything
// that they had received is answered.
func (r *relay) stop() {
	for _, d := range r.destinations {
		d.producer.Stop()
	}
	close(r.quit)
}
