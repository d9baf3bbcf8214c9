// Package lookup asks nsqlookupds and nsqds questions over HTTP.
package lookup

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxAnswer bounds the answer of an nsqlookupd, in bytes: that of a topic with
// more channels than nsqd could serve.
const maxAnswer = 16 << 20

// A Client asks nsqlookupds. Its methods may overlap.
type Client struct {
	http *http.Client
	log  *slog.Logger
}

// NewClient returns a client that gives up on an nsqlookupd after connect for
// the connection and request for everything, 0 meaning no limit. Those that are
// asked over HTTPS must pass tlsConfig, nil meaning the defaults. It logs each
// question as INFO.
func NewClient(connect, request time.Duration, tlsConfig *tls.Config, log *slog.Logger) *Client {
	return &Client{
		http: &http.Client{
			Timeout: request,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: connect}).DialContext,
				TLSClientConfig:     tlsConfig,
				MaxIdleConnsPerHost: 1,
				IdleConnTimeout:     90 * time.Second,
			},
		},
		log: log,
	}
}

// Close closes the connections that are kept for later questions.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Channels returns the channels of the topic that any of the nsqlookupds knows,
// sorted and each once. The addresses are host:port of their HTTP listeners, or
// https://host:port; all are asked at the same time. The names are as the
// nsqlookupds sent them.
//
// The error joins those of the nsqlookupds that did not answer; the channels of
// the others are returned nevertheless.
func (c *Client) Channels(ctx context.Context, addresses []string, topic string) ([]string, error) {
	return union(addresses, func(addr string) ([]string, error) {
		u := root(addr) + "/channels?topic=" + url.QueryEscape(topic)
		c.log.Info("CI: querying nsqlookupd " + u)
		var answer struct {
			Channels []string `json:"channels"`
		}
		err := c.get(ctx, u, &answer)
		return answer.Channels, err
	})
}

// Topics returns the topics that any of the nsqlookupds knows, like Channels.
func (c *Client) Topics(ctx context.Context, addresses []string) ([]string, error) {
	return union(addresses, func(addr string) ([]string, error) {
		u := root(addr) + "/topics"
		c.log.Debug("CI: querying nsqlookupd " + u)
		var answer struct {
			Topics []string `json:"topics"`
		}
		err := c.get(ctx, u, &answer)
		return answer.Topics, err
	})
}

// root returns the URL of a daemon that is host:port, or https://host:port.
func root(addr string) string {
	if strings.HasPrefix(addr, "https://") {
		return addr
	}
	return "http://" + addr
}

// union asks all addresses and returns what any of them named, sorted.
func union(addresses []string, ask func(addr string) ([]string, error)) ([]string, error) {
	lists, errs := each(addresses, ask)
	names := map[string]bool{}
	for _, list := range lists {
		for _, name := range list {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), errors.Join(errs...)
}

// each asks all addresses at the same time. answers are in their order, with the
// zero value for those that failed; errs has the errors of those, in their order.
func each[T any](addresses []string, ask func(addr string) (T, error)) (answers []T, errs []error) {
	answers = make([]T, len(addresses))
	failed := make([]error, len(addresses))
	var wg sync.WaitGroup
	for i, addr := range addresses {
		wg.Go(func() { answers[i], failed[i] = ask(addr) })
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return answers, errs
}

// A StatusError is an answer with another status than 200.
type StatusError struct {
	URL    string
	Code   int
	Status string // as "404 Not Found"
	Body   []byte // at most its first 1024 bytes
}

// Error returns the URL and [StatusError.Response].
func (e *StatusError) Error() string { return e.URL + ": " + e.Response() }

// Response returns status and body, as `got response 404 Not Found "body"`.
func (e *StatusError) Response() string { return fmt.Sprintf("got response %s %q", e.Status, e.Body) }

// get decodes the JSON at the URL into answer. A daemon that answers 403 to HTTP and
// names its HTTPS port is asked there.
func (c *Client) get(ctx context.Context, u string, answer any) error {
	err := c.getOnce(ctx, u, answer)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusForbidden {
		if secure := secureURL(u, status.Body); secure != "" {
			return c.getOnce(ctx, secure, answer)
		}
	}
	return err
}

// secureURL returns the URL to ask instead of u, "" if the answer names none.
func secureURL(u string, body []byte) string {
	var answer struct {
		HTTPSPort int `json:"https_port"`
	}
	parsed, err := url.Parse(u)
	if err != nil || parsed.Scheme != "http" || json.Unmarshal(body, &answer) != nil || answer.HTTPSPort <= 0 {
		return ""
	}
	parsed.Scheme = "https"
	parsed.Host = net.JoinHostPort(parsed.Hostname(), strconv.Itoa(answer.HTTPSPort))
	return parsed.String()
}

func (c *Client) getOnce(ctx context.Context, u string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return fmt.Errorf("make request %s: %w", u, err)
	}
	req.Header.Set("Accept", "application/vnd.nsq; version=1.0")
	resp, err := c.http.Do(req)
	if err != nil {
		return err // says method and URL
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", u, err)
	}
	if resp.StatusCode != http.StatusOK {
		return &StatusError{URL: u, Code: resp.StatusCode, Status: resp.Status, Body: body[:min(len(body), 1024)]}
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%s: answer exceeds %d bytes", u, maxAnswer)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("decode answer of %s: %w", u, err)
	}
	return nil
}
