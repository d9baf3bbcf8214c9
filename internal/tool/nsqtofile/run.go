package nsqtofile

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/lookup"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Run writes messages until ctx ends; then everything that was received is written
// and finished, and the files are closed. If one topic cannot be written any more,
// the others are brought to their end like that, and the error is returned.
func Run(ctx context.Context, opts *Options, env *tool.Env) error {
	config, err := opts.ConsumerOptions.ConfigForever("nsq_to_file", opts.MaxInFlight)
	if err != nil {
		return err
	}
	if err := config.Validate(); err != nil {
		return err
	}
	tlsConfig, err := opts.TLSOptions.Config()
	if err != nil {
		return err
	}
	lookupd := newLookupdClient(config.LookupdPollTimeout, tlsConfig)
	defer lookupd.CloseIdleConnections()
	meterCtx, stopMeter := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stopMeter()

	group, groupCtx := errgroup.WithContext(ctx)
	r := &runner{
		opts:    opts,
		config:  config,
		tls:     tlsConfig,
		lookupd: lookupd,
		log:     newLog(opts, env),
		library: tool.NewLibraryLog(env, opts.level),
		meter:   opts.NewMeter(env, "written", true),
		group:   group,
		topics:  map[string]*topic{},
		skipped: map[string]bool{},
	}
	if opts.TopicPattern != "" {
		r.pattern = regexp.MustCompile(opts.TopicPattern) // Check has tried it
	}
	if config.MsgTimeout > 0 && config.MsgTimeout <= opts.SyncInterval {
		r.log.Warn(fmt.Sprintf("msg_timeout %s should be above --sync-interval %s: messages may be sent, and written, again before they are finished",
			config.MsgTimeout, opts.SyncInterval))
	}
	running.Go(func() { r.meter.Run(meterCtx) })
	group.Go(func() error { return r.serve(groupCtx, env.Hangup) })
	return group.Wait()
}

// newLookupdClient returns what consumers ask nsqlookupds with, for nsqds.
func newLookupdClient(timeout time.Duration, tlsConfig *tls.Config) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{ // without a proxy, as the client library's own
			DialContext:         (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     90 * time.Second,
		},
	}
}

func newLog(opts *Options, env *tool.Env) *slog.Logger {
	return logging.New(env.Screen, opts.LogPrefix, opts.level)
}

// Fatal prints the line that precedes the end of the process.
func Fatal(opts *Options, env *tool.Env, err error) {
	newLog(opts, env).Log(context.Background(), logging.SlogFatal, err.Error())
}

// A runner starts topics.
type runner struct {
	opts    *Options
	config  *nsq.Config
	tls     *tls.Config
	lookupd *http.Client // of the consumers
	log     *slog.Logger
	library tool.LibraryLog
	meter   *tool.Meter
	pattern *regexp.Regexp // nil for all
	group   *errgroup.Group

	// Used only by serve.
	topics  map[string]*topic
	skipped map[string]bool // topics that do not match and have been warned of
}

// serve starts the topics given, or looks for topics from time to time, and passes
// on hangups.
func (r *runner) serve(ctx context.Context, hangup <-chan os.Signal) error {
	discover := func() {}
	var refresh <-chan time.Time // never, unless topics are to be discovered
	if len(r.opts.Topics) > 0 {
		if err := r.start(ctx, r.opts.Topics); err != nil {
			return err
		}
	} else {
		client := lookup.NewClient(r.opts.ConnectTimeout, r.opts.RequestTimeout, r.tls, slog.New(slog.DiscardHandler))
		defer client.Close()
		discover = func() { r.discover(ctx, client) }
		ticker := time.NewTicker(r.opts.TopicRefresh)
		defer ticker.Stop()
		refresh = ticker.C
	}
	for discover(); ; {
		select {
		case <-refresh:
			discover()
		case <-hangup:
			r.hangUp()
		case <-ctx.Done():
			return nil
		}
	}
}

// discover asks the nsqlookupds for topics and starts those that are new. One that
// cannot be started is tried again the next time.
func (r *runner) discover(ctx context.Context, client *lookup.Client) {
	addresses := make([]string, len(r.opts.LookupdHTTPAddresses))
	for i, addr := range r.opts.LookupdHTTPAddresses {
		addresses[i] = root(addr)
	}
	topics, err := client.Topics(ctx, addresses)
	if err != nil && ctx.Err() == nil {
		r.log.Error("could not retrieve topic list: " + err.Error())
	}
	_ = r.start(ctx, topics) // logged
}

// root returns the address of an nsqlookupd, which may be given as a URL, in the form
// that package lookup knows.
func root(addr string) string {
	u, err := url.Parse(addr)
	switch {
	case err != nil || !strings.Contains(addr, "://"):
		return addr
	case u.Scheme == "https":
		return "https://" + u.Host
	}
	return u.Host
}

// start starts the topics that match and are not running yet. It logs what cannot be
// started, and returns the first such error.
func (r *runner) start(ctx context.Context, names []string) (first error) {
	for _, name := range names {
		if r.topics[name] != nil || ctx.Err() != nil {
			continue
		}
		if r.pattern != nil && !r.pattern.MatchString(name) {
			if !r.skipped[name] {
				r.skipped[name] = true
				r.log.Warn(fmt.Sprintf("skipping topic %s (doesn't match pattern %s)", name, r.opts.TopicPattern))
			}
			continue
		}
		t, err := newTopic(ctx, r, name)
		if err != nil {
			err = fmt.Errorf("couldn't create logger for new topic %s: %w", name, err)
			r.log.Error(err.Error())
			if first == nil {
				first = err
			}
			continue
		}
		r.topics[name] = t
		r.group.Go(func() error { return t.run(ctx) })
	}
	return first
}

// hangUp makes all topics close their files.
func (r *runner) hangUp() {
	for _, t := range r.topics {
		select {
		case t.hangup <- struct{}{}:
		default: // told already
		}
	}
}
