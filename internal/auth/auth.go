// Package auth asks auth servers over HTTP what a client of nsqd may do.
//
// A [Client] turns [Credentials] into a [Grant]: topics and channels the client
// may publish to and subscribe to, until the grant expires. Decisions are made
// from the grant alone, without asking again.
//
// Connections with equal credentials share questions: of those that need an
// answer at the same time one asks, and those whose grants expire one after the
// other take over what the first of them was answered. So many producers of one
// identity cost an auth server one question per ttl, not one each.
package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Credentials are what an auth server is told of a client.
type Credentials struct {
	Secret     string // as in AUTH
	RemoteIP   string // without port; "" for a Unix socket
	CommonName string // of the client's certificate; "" for none
	TLS        bool   // the connection is encrypted
}

// A Config says whom to ask and how.
type Config struct {
	// Addresses are the auth servers, each host:port, for
	// http://host:port/auth, or a complete URL.
	Addresses []string

	// Method is get or post, in upper or lower case. Source: nsqd options,
	// --auth-http-request-method.
	Method string

	// ConnectTimeout bounds connecting to one server, RequestTimeout everything
	// up to the end of its answer; 0 for no limit.
	ConnectTimeout, RequestTimeout time.Duration

	// TLS is for https servers; nil for the roots and versions of the system.
	TLS *tls.Config

	// Log gets a WARNING for a server that fails while another one answers.
	Log *slog.Logger

	// DialContext connects to a server; nil for TCP.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Client asks auth servers. Its methods may overlap.
type Client struct {
	endpoints []string // URLs, to which the parameters of get are appended
	post      bool
	http      *http.Client
	log       *slog.Logger

	mu        sync.Mutex // guards what follows, and when of each question
	questions map[Credentials]*question
	swept     time.Time // when old questions were last removed
}

// A question is one query for one client, under way or answered a moment ago.
type question struct {
	when time.Time     // when it was answered; zero while under way
	done chan struct{} // closed when it is answered

	// The answer, set before done is closed.
	grant *Grant
	err   error
}

// shareFor is how long a grant stays at hand for others with the same
// credentials whose own grants expire.
const shareFor = 10 * time.Second

// NewClient returns a client, to be closed when it is not needed any more.
func NewClient(config Config) *Client {
	dial := config.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: config.ConnectTimeout}).DialContext
	}
	c := &Client{
		post: strings.EqualFold(config.Method, "post"),
		http: &http.Client{
			Timeout: config.RequestTimeout,
			Transport: &http.Transport{
				DialContext:         dial,
				TLSClientConfig:     config.TLS,
				MaxIdleConnsPerHost: 4,
				IdleConnTimeout:     90 * time.Second,
			},
			CheckRedirect: followWithoutSecret,
		},
		log:       config.Log,
		questions: make(map[Credentials]*question),
	}
	for _, addr := range config.Addresses {
		if !strings.Contains(addr, "://") {
			addr = "http://" + addr + "/auth"
		}
		c.endpoints = append(c.endpoints, addr)
	}
	return c
}

// Close closes the connections that are kept for later questions.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ask asks the auth servers in turn, beginning with any of them, until one gives
// a usable answer. If the same question is under way already it waits for that
// answer. ctx bounds the question, also for those who wait for it.
//
// The error joins those of all servers. It never contains the secret.
func (c *Client) Ask(ctx context.Context, who Credentials) (*Grant, error) {
	return c.ask(ctx, who, false)
}

// Renew is Ask for a client whose grant has expired. It returns a grant without
// asking where somebody with the same credentials was given one a moment ago that
// is still valid.
func (c *Client) Renew(ctx context.Context, who Credentials) (*Grant, error) {
	return c.ask(ctx, who, true)
}

func (c *Client) ask(ctx context.Context, who Credentials, mayShare bool) (*Grant, error) {
	c.mu.Lock()
	q := c.questions[who]
	if q != nil && (q.when.IsZero() || mayShare && q.usable(time.Now())) {
		c.mu.Unlock()
		select {
		case <-q.done:
			return q.grant, q.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	q = &question{done: make(chan struct{})}
	c.questions[who] = q
	c.mu.Unlock()

	q.grant, q.err = c.askServers(ctx, who)
	c.mu.Lock()
	q.when = time.Now()
	if q.err != nil {
		delete(c.questions, who)
	}
	c.sweepLocked(q.when)
	c.mu.Unlock()
	close(q.done)
	return q.grant, q.err
}

// usable reports whether an answered question serves others at that time.
func (q *question) usable(now time.Time) bool {
	return now.Sub(q.when) < shareFor && q.grant.Valid(now)
}

// sweepLocked forgets questions that serve nobody any more. Doing that once per
// shareFor keeps no more than two such times' worth, at a constant cost each.
func (c *Client) sweepLocked(now time.Time) {
	if now.Sub(c.swept) < shareFor {
		return
	}
	c.swept = now
	maps.DeleteFunc(c.questions, func(_ Credentials, q *question) bool {
		return !q.when.IsZero() && !q.usable(now)
	})
}

func (c *Client) askServers(ctx context.Context, who Credentials) (*Grant, error) {
	if len(c.endpoints) == 0 {
		return nil, errors.New("no auth server to ask")
	}
	first := rand.IntN(len(c.endpoints))
	var errs []error
	for i := range c.endpoints {
		grant, err := c.askServer(ctx, c.endpoints[(first+i)%len(c.endpoints)], who)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, err := range errs {
			c.log.Warn("auth server failed, another one answered", "err", err)
		}
		return grant, nil
	}
	return nil, errors.Join(errs...)
}
