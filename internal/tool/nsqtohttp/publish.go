package nsqtohttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/tool"
	"github.com/nsq-suite/nsq/internal/tool/hostpool"
	"github.com/nsq-suite/nsq/internal/version"
)

// Run makes requests until ctx ends. Messages that have been received by then still
// get theirs.
func Run(ctx context.Context, opts *Options, env *tool.Env) error {
	p, err := newPublisher(opts, env)
	if err != nil {
		return err
	}
	defer p.client.CloseIdleConnections()
	config, err := opts.ConsumerOptions.ConfigForever("nsq_to_http", opts.MaxInFlight)
	if err != nil {
		return err
	}
	c, err := nsq.NewConsumer(opts.Topic, opts.Channel, config)
	if err != nil {
		return err
	}
	tool.NewLibraryLog(env, opts.LogLevel).Consumer(c)
	c.AddConcurrentHandlers(p, max(opts.Handlers, 0))

	meterCtx, stopMeter := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.meter.Run(meterCtx) })
	defer running.Wait()
	defer stopMeter()

	err = opts.Source.Connect(c)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-c.StopChan:
		}
	}
	tool.Consumers{c}.Stop()
	return err
}

// A publisher makes the requests. It is a [nsq.Handler] for many at a time.
type publisher struct {
	opts    *Options
	client  *http.Client
	meter   *tool.Meter
	random  func() float64 // in [0, 1)
	pool    hostpool.Pool  // nil: each message goes to all targets
	targets []target
	all     *tool.Timings
}

// A target is one of the URLs given.
type target struct {
	request func(body []byte) (*http.Request, error)
	timings *tool.Timings // of this target alone; nil if there is no other
}

func newPublisher(opts *Options, env *tool.Env) (*publisher, error) {
	config, err := opts.TLSOptions.Config()
	if err != nil {
		return nil, err
	}
	p := &publisher{
		opts:   opts,
		meter:  opts.NewMeter(env, "sent", true),
		random: rand.Float64,
		client: &http.Client{
			Timeout: opts.RequestTimeout,
			Transport: &http.Transport{ // without a proxy
				DialContext:         (&net.Dialer{Timeout: opts.ConnectTimeout, KeepAlive: 30 * time.Second}).DialContext,
				TLSClientConfig:     config,
				TLSHandshakeTimeout: opts.RequestTimeout,
				MaxIdleConnsPerHost: max(opts.Handlers, 2), // one for each request that can be under way
				IdleConnTimeout:     90 * time.Second,
				ForceAttemptHTTP2:   true,
			},
		},
	}
	addresses := append(append([]string(nil), opts.Post...), opts.Get...)
	switch opts.Mode {
	case "hostpool":
		p.pool = hostpool.NewHostPool(len(addresses))
	case "epsilon-greedy":
		p.pool = hostpool.NewEpsilonGreedy(len(addresses))
	case "round-robin":
		p.pool = hostpool.NewRoundRobin(len(addresses))
	default:
		env.Log.Printf("WARNING: --mode %q is not known: each message goes to all %d addresses", opts.Mode, len(addresses))
	}
	headers, err := parseHeaders(opts.Headers)
	if err != nil {
		return nil, err
	}
	if headers.Get("Host") != "" {
		env.Log.Print("WARNING: --header Host has no effect")
	}
	p.all = tool.NewTimings(opts.StatusEvery, "[aggregate]", env.Log)
	for _, addr := range addresses {
		t := target{request: p.postTo(addr, headers)}
		if len(opts.Get) > 0 {
			t.request = p.getFrom(addr, headers)
		}
		if len(addresses) > 1 {
			t.timings = tool.NewTimings(opts.StatusEvery, "["+addr+"]", env.Log)
		}
		p.targets = append(p.targets, t)
	}
	return p, nil
}

// postTo returns what makes the POST request for a message.
func (p *publisher) postTo(addr string, headers http.Header) func(body []byte) (*http.Request, error) {
	return func(body []byte) (*http.Request, error) {
		req, err := http.NewRequest(http.MethodPost, addr, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", p.opts.ContentType)
		setHeaders(req, headers)
		return req, nil
	}
}

// getFrom returns what makes the GET request for a message.
func (p *publisher) getFrom(addr string, headers http.Header) func(body []byte) (*http.Request, error) {
	t, _ := parseTemplate(addr) // Check has tried it
	return func(body []byte) (*http.Request, error) {
		req, err := http.NewRequest(http.MethodGet, t.with(url.QueryEscape(string(body))), nil)
		if err != nil {
			return nil, err
		}
		setHeaders(req, headers)
		return req, nil
	}
}

func setHeaders(req *http.Request, headers http.Header) {
	req.Header.Set("User-Agent", "nsq_to_http v"+version.Number)
	for name, values := range headers {
		req.Header[name] = values
	}
}

// HandleMessage makes the request, or the requests, for a message. The message comes
// again later if one fails.
func (p *publisher) HandleMessage(m *nsq.Message) error {
	if p.opts.Sample < 1 && p.random() >= p.opts.Sample {
		return nil
	}
	start := time.Now()
	if p.pool == nil {
		for i := range p.targets {
			if err := p.send(i, m.Body); err != nil {
				return err
			}
		}
	} else {
		choice := p.pool.Get()
		err := p.send(choice.Host, m.Body)
		choice.Done(err)
		if err != nil {
			return err
		}
	}
	p.all.Add(time.Since(start))
	p.meter.Add(len(m.Body))
	return nil
}

// send makes one request. Any status from 200 to 299 is a success.
func (p *publisher) send(i int, body []byte) error {
	start := time.Now()
	t := p.targets[i]
	req, err := t.request(body)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // for the connection to be used again; the status says it all
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("got status code %d", resp.StatusCode)
	}
	t.timings.Add(time.Since(start))
	return nil
}
