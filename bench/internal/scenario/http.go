package scenario

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"golang.org/x/sync/errgroup"
)

// HTTP publishes by POST /pub over connections that stay open, to a topic without
// channels. The requests are built once: net/http's client would cost as much as nsqd.
type HTTP struct {
	Target
	Topic       string `flag:"topic" group:"Load" usage:"topic to publish to, which must not exist"`
	Messages    int    `flag:"messages" usage:"messages in all"`
	Size        int    `flag:"size" usage:"bytes of a message body"`
	Connections int    `flag:"connections" usage:"connections that publish, one request at a time"`
}

// NewHTTP returns an HTTP with defaults.
func NewHTTP() *HTTP {
	return &HTTP{Target: newTarget(), Topic: "bench_http", Messages: 20_000, Size: 200, Connections: 8}
}

// Check implements [Scenario].
func (h *HTTP) Check() error {
	return atLeast(setting{"messages", h.Messages, 1}, setting{"size", h.Size, 1}, setting{"connections", h.Connections, 1})
}

// Scale implements [Scenario].
func (h *HTTP) Scale(factor float64) { h.Messages = scaled(h.Messages, factor) }

// Topics implements [Scenario].
func (h *HTTP) Topics() []string { return []string{h.Topic} }

// Run implements [Scenario].
func (h *HTTP) Run(ctx context.Context, n *load.NSQD) (Figures, error) {
	request := fmt.Appendf(nil, "POST /pub?topic=%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n",
		url.QueryEscape(h.Topic), n.HTTPAddr, h.Size)
	request = append(request, bytes.Repeat([]byte{'x'}, h.Size)...)
	cost, err := n.Measure(func() error {
		g, ctx := errgroup.WithContext(ctx)
		for i := range h.Connections {
			g.Go(func() error { return post(ctx, n.HTTPAddr, request, share(h.Messages, i, h.Connections)) })
		}
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	return throughput(cost, h.Messages), nil
}

// post sends a request n times over one connection.
func post(ctx context.Context, addr string, request []byte, n int) error {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect to nsqd: %w", err)
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	answers := bufio.NewReader(socket)
	for range n {
		if err := ask(socket, answers, request); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("publish over HTTP: %w", err)
		}
	}
	return nil
}

func ask(socket io.Writer, answers *bufio.Reader, request []byte) error {
	if _, err := socket.Write(request); err != nil {
		return err
	}
	response, err := http.ReadResponse(answers, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s", response.Status, answer)
	}
	return nil
}
