package nsqd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
)

// A drainer takes the daemon out of service without losing or delaying work: at once
// it is not ready any more; after the grace time, in which producers and load
// balancers notice, publishes are refused; consumers still find it and empty it;
// when it is empty, or the time limit is over, it stops.
type drainer struct {
	grace time.Duration
	limit time.Duration // from the beginning, the grace time included; 0 for none
	log   *slog.Logger
	left  func() int64 // messages that are not finished

	// refusing is whether publishes are refused. Written under mu.
	refusing atomic.Bool
	changed  chan struct{} // one token: a drain has begun or was cancelled

	// Used only by run.
	empty int // looks in a row that have found nothing left

	mu    sync.Mutex
	since time.Time // when the drain under way began; zero for none
}

// Errors around a drain. errDraining refuses publishes; its text is seen by
// producers. errDrained ends Run.
var (
	errDraining = errors.New("draining")
	errDrained  = errors.New("drained")
)

const (
	// drainPoll is the time between looks at what is left, or drainShare times what
	// a look takes, if that is more.
	drainPoll  = 100 * time.Millisecond
	drainShare = 20

	// drainLooks is how many looks in a row must find nothing. What is on its way
	// from one place to the next during one of them, in the hands of a messagePump
	// say, has arrived at the next.
	drainLooks = 2
)

func newDrainer(opts *Options, log *slog.Logger, left func() int64) *drainer {
	return &drainer{grace: opts.DrainGrace, limit: opts.DrainTimeout, log: log, left: left, changed: make(chan struct{}, 1)}
}

// Drain makes the daemon stop once it is empty, as POST /drain does. It does not
// wait for that. While a drain is under way it changes nothing.
func (n *NSQD) Drain() { n.drain.begin() }

// Terminate does what --sigterm says a SIGTERM is to do, and reports whether that is
// a drain; if not, or if one is under way already, the caller is to end the context
// of Run.
func (n *NSQD) Terminate() (draining bool) {
	if n.options().SIGTERM != SIGTERMDrain || !n.drain.started().IsZero() {
		return false
	}
	n.Drain()
	return true
}

// Stopping is closed when Run has begun to stop.
func (n *NSQD) Stopping() <-chan struct{} { return n.life.Done() }

func (d *drainer) begin() {
	d.mu.Lock()
	first := d.since.IsZero()
	if first {
		d.since = time.Now()
	}
	d.mu.Unlock()
	if first {
		d.log.Info("DRAIN: begun, not ready any more", "grace", d.grace, "limit", d.limit)
		d.wake()
	}
}

// cancel ends the drain under way: publishes are accepted again.
func (d *drainer) cancel() {
	d.mu.Lock()
	underWay := !d.since.IsZero()
	d.since = time.Time{}
	d.refusing.Store(false)
	d.mu.Unlock()
	if underWay {
		d.log.Info("DRAIN: cancelled")
		d.wake()
	}
}

func (d *drainer) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// started returns when the drain under way began; the zero time for none.
func (d *drainer) started() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

// run waits for drains and sees each through. It returns nil when ctx ends and
// [errDrained] when the daemon is to stop.
func (d *drainer) run(ctx context.Context) error {
	for {
		since := d.started()
		next := d.step(since)
		if next == 0 {
			return errDrained
		}
		var again <-chan time.Time
		if !since.IsZero() {
			again = time.After(next)
		}
		select {
		case <-again:
		case <-d.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// step does what is due in the drain that began at since, and returns when to look
// again, 0 for a drain that is over.
func (d *drainer) step(since time.Time) time.Duration {
	if since.IsZero() {
		return drainPoll
	}
	if d.limit > 0 && time.Since(since) >= d.limit {
		d.log.Warn("DRAIN: time is over, what is left stays on disk", "messages", d.left())
		return 0
	}
	if rest := d.grace - time.Since(since); rest > 0 {
		if d.limit > 0 {
			rest = min(rest, d.limit-time.Since(since))
		}
		return rest
	}
	if d.refuse(since) {
		d.empty = 0
		d.log.Info("DRAIN: publishes are refused from now on")
		return drainPoll // whoever was about to publish has done so by then
	}
	began := time.Now()
	if d.left() > 0 {
		d.empty = 0
	} else if d.empty++; d.empty == drainLooks {
		d.log.Info("DRAIN: empty")
		return 0
	}
	next := max(drainPoll, drainShare*time.Since(began))
	if d.limit > 0 {
		next = max(min(next, d.limit-time.Since(since)), 1)
	}
	return next
}

// refuse makes publishes be refused, unless the drain was cancelled meanwhile, and
// reports whether they were not before.
func (d *drainer) refuse(since time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since != since || d.refusing.Load() {
		return false
	}
	d.refusing.Store(true)
	return true
}

// unfinished counts the messages that a stop would leave for the next start:
// those of ephemeral topics and channels are not kept. It looks at each place in
// the direction in which messages move.
func (n *NSQD) unfinished() (left int64) {
	for _, t := range n.topicList() {
		if t.ephemeral {
			continue
		}
		left += t.queue.depth()
		if t.isMoving() {
			left++ // some number of messages is on its way to the channels
		}
		for _, c := range t.channelList() {
			if !c.ephemeral {
				left += c.queue.depth() + c.deferred.Len() + c.inFlightCount()
			}
		}
	}
	return left
}

// drainStatus is the answer to GET, POST and DELETE /drain, and part of /stats
// while a drain is under way. Times are seconds since 1970.
type drainStatus struct {
	Draining bool  `json:"draining"`
	Since    int64 `json:"since,omitempty"`
	Deadline int64 `json:"deadline,omitempty"` // absent where there is none
	Refusing bool  `json:"publishes_refused"`
	Left     int64 `json:"messages_left"`
}

func (d *drainer) status() drainStatus {
	s := drainStatus{Left: d.left()}
	if since := d.started(); !since.IsZero() {
		s.Draining, s.Refusing, s.Since = true, d.refusing.Load(), since.Unix()
		if d.limit > 0 {
			s.Deadline = since.Add(d.limit).Unix()
		}
	}
	return s
}

// drainRoutes adds /drain: POST begins a drain, DELETE cancels it, GET asks.
func (n *NSQD) drainRoutes(api *httpapi.API) {
	status := func(change func()) httpapi.Handler {
		return func(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
			httpapi.DiscardBody(r)
			change()
			return n.drain.status(), nil
		}
	}
	api.Handle(http.MethodGet, "/drain", status(func() {}))
	api.Handle(http.MethodPost, "/drain", status(n.drain.begin), httpapi.Guarded)
	api.Handle(http.MethodDelete, "/drain", status(n.drain.cancel), httpapi.Guarded)
}

// notReady returns why the daemon should not be given work, nothing while it
// should.
func (n *NSQD) notReady() (reasons []string) {
	select {
	case <-n.ready:
	default:
		reasons = append(reasons, "loading metadata")
	}
	if n.life.Err() != nil {
		reasons = append(reasons, "stopping")
	} else if !n.drain.started().IsZero() {
		reasons = append(reasons, "draining")
	}
	if err := n.health.Err(); err != nil {
		reasons = append(reasons, fmt.Sprintf("storage: %s", err))
	}
	return reasons
}
