package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// StopTimeout is how long a daemon may take to stop: it writes what it holds
// in memory to disk first.
const StopTimeout = 15 * time.Second

// An Env says where the programs are and where nsqd keeps its files.
type Env struct {
	BinDir  string    // holds nsqd and nsqlookupd
	DataDir string    // nsqd's --data-path; must exist
	Log     io.Writer // gets the daemons' log lines; nil drops them
}

// StartLookupd starts nsqlookupd on the given addresses (host:port, port 0
// for any free one). flags are added to its command line.
func (e Env) StartLookupd(ctx context.Context, tcpAddr, httpAddr string, flags ...string) (*Daemon, error) {
	args := append([]string{"--tcp-address=" + tcpAddr, "--http-address=" + httpAddr}, flags...)
	return Start(ctx, e.program("nsqlookupd"), e.Log, StopTimeout, args...)
}

// StartNSQD starts nsqd on the given addresses, announced to the nsqlookupd
// at lookupdTCP, if that is not empty. flags are added to its command line.
func (e Env) StartNSQD(ctx context.Context, tcpAddr, httpAddr, lookupdTCP string, flags ...string) (*Daemon, error) {
	args := []string{"--tcp-address=" + tcpAddr, "--http-address=" + httpAddr, "--data-path=" + e.DataDir}
	if lookupdTCP != "" {
		args = append(args, "--lookupd-tcp-address="+lookupdTCP)
	}
	return Start(ctx, e.program("nsqd"), e.Log, StopTimeout, append(args, flags...)...)
}

func (e Env) program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(e.BinDir, name)
}

// Check reports a missing program, before anything is started.
func (e Env) Check() error {
	for _, name := range []string{"nsqlookupd", "nsqd"} {
		if _, err := os.Stat(e.program(name)); err != nil {
			return fmt.Errorf("find %s (make build compiles it): %w", name, err)
		}
	}
	return nil
}

// httpClient keeps no connection, so that nothing is left behind in tests.
var httpClient = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true},
	Timeout:   10 * time.Second,
}

// GetJSON asks the daemon's HTTP API, see [GetJSON].
func (d *Daemon) GetJSON(ctx context.Context, path string, v any, params ...string) error {
	return GetJSON(ctx, d.HTTPAddr, path, v, params...)
}

// Post sends an empty POST to the daemon's HTTP API. Any status but 200 is an
// error. params are names and values by turns.
func (d *Daemon) Post(ctx context.Context, path string, params ...string) error {
	return Post(ctx, d.HTTPAddr, path, params...)
}

// Post sends an empty POST to the HTTP API at addr, see [Daemon.Post].
func Post(ctx context.Context, addr, path string, params ...string) error {
	_, err := ask(ctx, http.MethodPost, addr, path, params)
	return err
}

// GetJSON asks the HTTP API at addr and decodes the answer into v, as in
// GetJSON(ctx, addr, "/lookup", &v, "topic", "t"): params are names and values
// by turns. Any status but 200 is an error.
func GetJSON(ctx context.Context, addr, path string, v any, params ...string) error {
	body, err := ask(ctx, http.MethodGet, addr, path, params)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode answer of %s to %s: %w", addr, path, err)
	}
	return nil
}

func ask(ctx context.Context, method, addr, path string, params []string) ([]byte, error) {
	query := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	where := url.URL{Scheme: "http", Host: addr, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, where.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s to %s: %w", addr, path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for %s: %s %s", addr, path, response.Status, body)
	}
	return body, nil
}

// Stats are the figures of nsqd's /stats that tell where messages are.
type Stats struct {
	Topics []struct {
		Name     string         `json:"topic_name"`
		Depth    int64          `json:"depth"` // not yet copied to the channels
		Channels []ChannelStats `json:"channels"`
	} `json:"topics"`
}

// ChannelStats are the messages a channel holds: waiting in memory or on disk,
// sent to a consumer and not answered, and waiting for their time.
type ChannelStats struct {
	Name     string `json:"channel_name"`
	Depth    int64  `json:"depth"`
	InFlight int64  `json:"in_flight_count"`
	Deferred int64  `json:"deferred_count"`
}

// Channel finds a channel's figures, with the depth of its topic.
func (s Stats) Channel(topic, channel string) (stats ChannelStats, topicDepth int64, found bool) {
	for _, t := range s.Topics {
		if t.Name != topic {
			continue
		}
		for _, c := range t.Channels {
			if c.Name == channel {
				return c, t.Depth, true
			}
		}
	}
	return ChannelStats{}, 0, false
}

// Poll calls check every few milliseconds until it reports true, fails, or
// ctx ends. what names the event in the error.
func Poll(ctx context.Context, what string, check func() (bool, error)) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ok, err := check(); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		} else if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
