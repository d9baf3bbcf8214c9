package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/nsq-suite/nsq/internal/suite"
)

// stopTimeout is how long nsqd may take to stop. It writes to disk what it has in
// memory, which may be gigabytes.
const stopTimeout = 2 * time.Minute

// An NSQD is the nsqd under load. Its methods may be called at the same time, but
// for Restart and Stop.
type NSQD struct {
	// TCPAddr and HTTPAddr are where it listens. After a Restart they are others.
	TCPAddr, HTTPAddr string

	// PID is the process to measure; 0 if that is not known.
	PID int

	// Of one that Start has started; else daemon is nil.
	ctx     context.Context // ends the process; for Restart
	daemon  *suite.Daemon
	path    string
	flags   []string
	dataDir string
	ownDir  bool // Stop removes dataDir
	null    bool // it is the null server
}

// Start runs the nsqd at path with flags, on free ports of the loopback interface.
// Its data goes to dataDir; if that is empty, to a new directory that Stop removes.
// The log level is error from the moment it listens, if it lets that be changed: what
// is logged for each connection or topic is not part of the load. nsqd is stopped when ctx ends.
func Start(ctx context.Context, path, dataDir string, flags ...string) (*NSQD, error) {
	n := &NSQD{ctx: ctx, path: path, flags: flags, dataDir: dataDir}
	if dataDir == "" {
		var err error
		if n.dataDir, err = os.MkdirTemp("", "nsq-bench-"); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
		n.ownDir = true
	}
	if err := n.launch(); err != nil {
		return nil, errors.Join(err, n.removeData())
	}
	return n, nil
}

// StartNull runs the null server at path (bench/null), which takes the place of an
// nsqd where the limit of the machine is measured: it moves the same bytes and queues
// nothing. It takes none of nsqd's flags and has no statistics, see [NSQD.IsNull].
func StartNull(ctx context.Context, path string) (*NSQD, error) {
	n := &NSQD{ctx: ctx, path: path, null: true}
	return n, n.launch()
}

// Connect returns the nsqd that listens at these addresses (host:port). httpAddr may
// be empty if nothing is going to be asked over HTTP; pid may be 0.
func Connect(tcpAddr, httpAddr string, pid int) *NSQD {
	return &NSQD{TCPAddr: tcpAddr, HTTPAddr: httpAddr, PID: pid}
}

func (n *NSQD) launch() error {
	flags := []string{"--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"}
	if !n.null {
		flags = append(append(flags, "--data-path="+n.dataDir), n.flags...)
	}
	daemon, err := suite.Start(n.ctx, n.path, nil, stopTimeout, flags...)
	if err != nil {
		return err
	}
	n.daemon, n.PID, n.TCPAddr, n.HTTPAddr = daemon, daemon.PID(), daemon.TCPAddr, daemon.HTTPAddr
	if !n.null {
		// An nsqd of old that cannot do this is measured with its log.
		_ = n.Do(n.ctx, http.MethodPut, "/config/log_level", []byte("error"))
	}
	return nil
}

// IsNull reports whether this is the null server.
func (n *NSQD) IsNull() bool { return n.null }

// CanRestart reports whether this nsqd was started here, so that Restart may be
// called.
func (n *NSQD) CanRestart() bool { return n.daemon != nil }

// Restart stops nsqd and starts it again with the same data, and says how long each
// took: until the process was gone, and until it listened.
func (n *NSQD) Restart() (stop, start time.Duration, err error) {
	if !n.CanRestart() {
		return 0, 0, errors.New("restart nsqd: it was not started here")
	}
	begin := time.Now()
	if err := n.daemon.Stop(stopTimeout); err != nil {
		return 0, 0, n.explain(err)
	}
	stopped := time.Now()
	if err := n.launch(); err != nil {
		return 0, 0, err
	}
	return stopped.Sub(begin), time.Since(stopped), nil
}

// Stop stops an nsqd that Start has started, and removes its data if it has a
// directory of its own. One that was running before is left alone.
func (n *NSQD) Stop() error {
	if n.daemon == nil {
		return nil
	}
	err := n.daemon.Stop(stopTimeout)
	if err != nil {
		err = n.explain(err)
	}
	return errors.Join(err, n.removeData())
}

func (n *NSQD) removeData() error {
	if !n.ownDir {
		return nil
	}
	return os.RemoveAll(n.dataDir)
}

// DataDir is where an nsqd that Start has started keeps its files; of another it is
// empty.
func (n *NSQD) DataDir() string { return n.dataDir }

// explain adds the last lines of nsqd's log to err.
func (n *NSQD) explain(err error) error {
	if err == nil || n.daemon == nil {
		return err
	}
	return n.daemon.WithLog(err)
}

// Create creates a topic and channels of it, so that what is published next is for
// all of them.
func (n *NSQD) Create(ctx context.Context, topic string, channels ...string) error {
	if err := n.Do(ctx, http.MethodPost, "/topic/create?topic="+url.QueryEscape(topic), nil); err != nil {
		return err
	}
	for _, channel := range channels {
		query := url.Values{"topic": {topic}, "channel": {channel}}
		if err := n.Do(ctx, http.MethodPost, "/channel/create?"+query.Encode(), nil); err != nil {
			return err
		}
	}
	return nil
}

// Delete deletes a topic with all it holds.
func (n *NSQD) Delete(ctx context.Context, topic string) error {
	return n.Do(ctx, http.MethodPost, "/topic/delete?topic="+url.QueryEscape(topic), nil)
}

// Stats asks where nsqd has messages. The null server does not know.
func (n *NSQD) Stats(ctx context.Context) (suite.Stats, error) {
	var stats suite.Stats
	err := suite.GetJSON(ctx, n.HTTPAddr, "/stats", &stats, "format", "json")
	return stats, err
}

// httpClient goes through no proxy, as clients of the protocol do.
var httpClient = &http.Client{Transport: &http.Transport{}}

// Do sends a request with a body to the HTTP API, over connections that stay open.
// Any status but 200 is an error.
func (n *NSQD) Do(ctx context.Context, method, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+n.HTTPAddr+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask nsqd: %w", err)
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask nsqd: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read answer of nsqd to %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask nsqd for %s: %s %s", path, response.Status, answer)
	}
	return nil
}
