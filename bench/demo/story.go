package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/suite"
)

const (
	topic    = "lines"
	archive  = "archive" // a channel consumed all the time
	report   = "report"  // a channel whose consumer is stuck when nsqd is stopped
	heldMax  = 10        // messages it holds unanswered then
	memQueue = 50        // so that the rest of a backlog is on disk

	shortDelay = 200 * time.Millisecond // over before the first round ends
	longDelay  = 4 * time.Second        // not over when nsqd is stopped
)

var channels = []string{archive, report}

// A story is one run of the demo: its daemons, clients and books.
type story struct {
	env   suite.Env
	lines [][]byte
	log   *log.Logger

	lookupd, nsqd *suite.Daemon
	consumers     []*nsq.Consumer
	books         map[string]*book // by channel
	published     map[string]int   // by body
}

func newStory(env suite.Env, lines [][]byte, clientLog io.Writer) *story {
	return &story{
		env:       env,
		lines:     lines,
		log:       log.New(clientLog, "[clients] ", log.LstdFlags|log.Lmicroseconds),
		books:     map[string]*book{archive: newBook(archive), report: newBook(report)},
		published: map[string]int{},
	}
}

// tell runs the story from the first process to the balance.
func (s *story) tell(ctx context.Context) error {
	var err error
	if s.lookupd, err = s.env.StartLookupd(ctx, "127.0.0.1:0", "127.0.0.1:0"); err != nil {
		return err
	}
	if err := s.startNSQD(ctx); err != nil {
		return err
	}
	say("started", "nsqlookupd %s, nsqd %s", s.lookupd.TCPAddr, s.nsqd.TCPAddr)
	// Without channels the messages would wait in the topic and all go to the
	// channel that comes first.
	if err := s.createChannels(ctx); err != nil {
		return err
	}
	say("metrics", "http://%s/metrics for Prometheus, while this lasts", s.nsqd.HTTPAddr)
	if err := s.firstRound(ctx); err != nil {
		return err
	}
	if err := s.restart(ctx); err != nil {
		return err
	}
	if err := s.lastRound(ctx); err != nil {
		return err
	}
	return s.balance(ctx)
}

func (s *story) startNSQD(ctx context.Context) (err error) {
	s.nsqd, err = s.env.StartNSQD(ctx, "127.0.0.1:0", "127.0.0.1:0", s.lookupd.TCPAddr,
		"--broadcast-address=127.0.0.1", fmt.Sprintf("--mem-queue-size=%d", memQueue))
	return err
}

func (s *story) createChannels(ctx context.Context) error {
	if err := s.nsqd.Post(ctx, "/topic/create", "topic", topic); err != nil {
		return err
	}
	for _, channel := range channels {
		if err := s.nsqd.Post(ctx, "/channel/create", "topic", topic, "channel", channel); err != nil {
			return err
		}
	}
	return s.awaitLookup(ctx)
}

// awaitLookup waits until nsqlookupd knows this nsqd for the topic with both
// channels, and says so.
func (s *story) awaitLookup(ctx context.Context) error {
	type producer struct {
		Address string   `json:"broadcast_address"`
		TCPPort int      `json:"tcp_port"`
		Topics  []string `json:"topics"`
	}
	var lookup struct {
		Channels  []string   `json:"channels"`
		Producers []producer `json:"producers"`
	}
	var nodes struct {
		Producers []producer `json:"producers"`
	}
	here := func(p producer) bool { return fmt.Sprintf("%s:%d", p.Address, p.TCPPort) == s.nsqd.TCPAddr }
	err := suite.Poll(ctx, "nsqlookupd to list the topic", func() (bool, error) {
		if err := s.lookupd.GetJSON(ctx, "/nodes", &nodes); err != nil {
			return false, err
		}
		if len(nodes.Producers) != 1 || len(nodes.Producers[0].Topics) != 1 || !here(nodes.Producers[0]) {
			return false, nil
		}
		if err := s.lookupd.GetJSON(ctx, "/lookup", &lookup, "topic", topic); err != nil {
			return false, err
		}
		return len(lookup.Producers) == 1 && here(lookup.Producers[0]) && len(lookup.Channels) == len(channels), nil
	})
	if err != nil {
		return err
	}
	say("lookup", "topic %q on %s, channels %q; %d node", topic, s.nsqd.TCPAddr, lookup.Channels, len(nodes.Producers))
	return nil
}

// consume subscribes to the channel through nsqlookupd: at most inFlight
// messages at a time, handled by concurrency goroutines.
func (s *story) consume(channel string, handler nsq.Handler, concurrency, inFlight int) (*nsq.Consumer, error) {
	config := nsq.NewConfig()
	config.LookupdPollInterval = 50 * time.Millisecond
	config.LookupdPollJitter = 0
	config.MaxInFlight = inFlight
	config.MaxAttempts = 0 // give nothing up: the books would not balance
	consumer, err := nsq.NewConsumer(topic, channel, config)
	if err != nil {
		return nil, fmt.Errorf("consume channel %q: %w", channel, err)
	}
	s.consumers = append(s.consumers, consumer)
	consumer.SetLogger(s.log, nsq.LogLevelInfo)
	consumer.AddConcurrentHandlers(handler, concurrency)
	if err := consumer.ConnectToNSQLookupd(s.lookupd.HTTPAddr); err != nil {
		return nil, fmt.Errorf("consume channel %q: %w", channel, err)
	}
	return consumer, nil
}

// publishAll publishes every line once, the deferred ones with the delay.
func (s *story) publishAll(delay time.Duration) (mix, error) {
	producer, err := nsq.NewProducer(s.nsqd.TCPAddr, nsq.NewConfig())
	if err != nil {
		return mix{}, fmt.Errorf("publish: %w", err)
	}
	producer.SetLogger(s.log, nsq.LogLevelInfo)
	defer producer.Stop()
	sent, err := publish(producer, topic, s.lines, delay)
	if err != nil {
		return sent, err
	}
	for _, line := range s.lines {
		s.published[string(line)]++
	}
	return sent, nil
}

// firstRound publishes to two busy channels and waits until both are empty.
func (s *story) firstRound(ctx context.Context) error {
	if _, err := s.consume(archive, s.books[archive], 1, 200); err != nil {
		return err
	}
	worker, err := s.consume(report, s.books[report], 1, 200)
	if err != nil {
		return err
	}
	start := time.Now()
	sent, err := s.publishAll(shortDelay)
	if err != nil {
		return err
	}
	say("published", "%d messages: %v", sent.total(), sent)
	for _, channel := range channels {
		book := s.books[channel]
		if err := s.await(ctx, book, sent.total()); err != nil {
			return err
		}
		prompt := sent.total() - sent.deferred
		say("consumed", "%d messages on %q: %s msg/s", sent.total(), channel, thousands(book.rate(start, 0, prompt)))
	}
	worker.Stop()
	select {
	case <-worker.StopChan:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop consumer of %q: %w", report, context.Cause(ctx))
	}
}

// restart publishes again while the consumer of one channel takes a few
// messages and answers none, then stops nsqd and starts it on the same data.
func (s *story) restart(ctx context.Context) error {
	held := min(heldMax, len(s.lines))
	release := make(chan struct{})
	holder, err := s.consume(report, nsq.HandlerFunc(func(m *nsq.Message) error {
		s.books[report].hold()
		<-release
		return nil
	}), held, held)
	if err != nil {
		close(release)
		return err
	}
	where, err := s.stopBusyNSQD(ctx, held)
	// Its connection is gone: what it answers now reaches nobody, and nsqd
	// must deliver those messages again.
	holder.Stop()
	close(release)
	if err != nil {
		return err
	}
	say("stopped", "nsqd exited with 0; %q had %d queued, %d in flight, %d deferred",
		report, where.Depth, where.InFlight, where.Deferred)
	if err := s.startNSQD(ctx); err != nil {
		return err
	}
	say("restarted", "nsqd %s, same data", s.nsqd.TCPAddr)
	return s.awaitLookup(ctx)
}

// stopBusyNSQD publishes the second round, waits until held messages are in
// flight and the archive channel has taken its share, and stops nsqd. It
// returns where the report's messages were.
func (s *story) stopBusyNSQD(ctx context.Context, held int) (where suite.ChannelStats, err error) {
	sent, err := s.publishAll(longDelay)
	if err != nil {
		return where, err
	}
	say("published", "%d messages: %v", sent.total(), sent)
	err = suite.Poll(ctx, "the messages to reach the channels", func() (bool, error) {
		busy, topicDepth, err := s.channelStats(ctx, archive)
		if err != nil {
			return false, err
		}
		where, _, err = s.channelStats(ctx, report)
		prompt := int64(min(held, sent.total()-sent.deferred))
		return topicDepth == 0 && busy.Depth == 0 && busy.InFlight == 0 && where.InFlight >= prompt, err
	})
	if err != nil {
		return where, err
	}
	return where, s.nsqd.Stop(suite.StopTimeout)
}

func (s *story) channelStats(ctx context.Context, channel string) (suite.ChannelStats, int64, error) {
	var stats suite.Stats
	if err := s.nsqd.GetJSON(ctx, "/stats", &stats, "format", "json", "topic", topic); err != nil {
		return suite.ChannelStats{}, 0, err
	}
	found, topicDepth, ok := stats.Channel(topic, channel)
	if !ok {
		return found, 0, fmt.Errorf("find channel %q in nsqd's stats: not there", channel)
	}
	return found, topicDepth, nil
}

// lastRound consumes what the restarted nsqd holds. The archive's consumer finds
// the new address through nsqlookupd by itself.
func (s *story) lastRound(ctx context.Context) error {
	first, _ := s.books[report].count()
	start := time.Now()
	if _, err := s.consume(report, s.books[report], 1, 200); err != nil {
		return err
	}
	for _, channel := range channels {
		if err := s.await(ctx, s.books[channel], 2*len(s.lines)); err != nil {
			return err
		}
	}
	backlog := s.books[report]
	end, _ := backlog.count()
	say("consumed", "the rest on %q: %s msg/s", report, thousands(backlog.rate(start, first, end)))
	return nil
}

// await waits until the book holds n finished messages.
func (s *story) await(ctx context.Context, b *book, n int) error {
	for {
		got, more := b.count()
		if got >= n {
			return nil
		}
		select {
		case <-more:
		case <-s.nsqd.Done():
			return fmt.Errorf("consume channel %q: %d of %d messages, then nsqd ended", b.channel, got, n)
		case <-ctx.Done():
			return fmt.Errorf("consume channel %q: %d of %d messages: %w", b.channel, got, n, context.Cause(ctx))
		}
	}
}

// balance waits until nsqd holds nothing any more and prints the account.
func (s *story) balance(ctx context.Context) error {
	for _, channel := range channels {
		err := suite.Poll(ctx, fmt.Sprintf("channel %q to be empty", channel), func() (bool, error) {
			left, topicDepth, err := s.channelStats(ctx, channel)
			return topicDepth+left.Depth+left.InFlight+left.Deferred == 0, err
		})
		if err != nil {
			return err
		}
	}
	balanced := true
	again := 0
	fmt.Printf("\n%-9s %9s %9s %9s %9s %9s %11s\n", "channel", "published", "received", "finished", "missing", "invented", "duplicates")
	for _, channel := range channels {
		b := s.books[channel]
		missing, invented, duplicates := b.balance(s.published)
		finished, _ := b.count()
		fmt.Printf("%-9s %9d %9d %9d %9d %9d %11d\n", channel, 2*len(s.lines), b.received, finished, missing, invented, duplicates)
		again += b.received - finished
		balanced = balanced && missing+invented+duplicates == 0
	}
	if !balanced {
		return errors.New("the books do not balance")
	}
	fmt.Printf("\nin flight at the stop, so delivered again: %d on %q\n", again, report)
	return nil
}

// close stops the clients, then the daemons, whatever state the story is in.
// If that fails or the story failed, the error has the daemons' last log lines.
func (s *story) close(failed error) error {
	for _, consumer := range s.consumers {
		consumer.Stop()
	}
	for _, daemon := range []*suite.Daemon{s.nsqd, s.lookupd} {
		if daemon != nil {
			failed = errors.Join(failed, daemon.Stop(suite.StopTimeout))
		}
	}
	for _, daemon := range []*suite.Daemon{s.nsqd, s.lookupd} {
		if daemon != nil && failed != nil {
			failed = daemon.WithLog(failed)
		}
	}
	return failed
}

// say prints one step of the story.
func say(what, format string, args ...any) {
	fmt.Printf("%-10s %s\n", what, fmt.Sprintf(format, args...))
}
