// Package lookup asks nsqlookupds questions over HTTP.
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
// https://host:port; all are asked at the same time. The names are as the nsqlookupds sent them.
//
// The error joins those of the nsqlookupds that did not answer; the channels of
// the others are returned nevertheless.
func (c *Client) Channels(ctx context.Context, addresses []string, topic string) ([]string, error) {
	var (
		wg sync.WaitGroup

		mu    sync.Mutex // guards what follows
		union = map[string]bool{}
		errs  []error
	)
	for _, addr := range addresses {
		wg.Go(func() {
			channels, err := c.channels(ctx, addr, topic)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			for _, name := range channels {
				union[name] = true
			}
		})
	}
	wg.Wait()
	return slices.Sorted(maps.Keys(union)), errors.Join(errs...)
}

func (c *Client) channels(ctx context.Context, addr, topic string) ([]string, error) {
	if !strings.HasPrefix(addr, "https://") {
		addr = "http://" + addr
	}
	u := addr + "/channels?topic=" + url.QueryEscape(topic)
	c.log.Info("CI: querying nsqlookupd " + u)
	var answer struct {
		Channels []string `json:"channels"`
	}
	if err := c.get(ctx, u, &answer); err != nil {
		return nil, err
	}
	return answer.Channels, nil
}

// get decodes the JSON at the URL into answer.
func (c *Client) get(ctx context.Context, u string, answer any) error {
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
		return fmt.Errorf("%s: got response %s %q", u, resp.Status, body[:min(len(body), 1024)])
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%s: answer exceeds %d bytes", u, maxAnswer)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("decode answer of %s: %w", u, err)
	}
	return nil
}
