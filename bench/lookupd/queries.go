package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// queries ask an nsqlookupd as consumers and nsqadmin do, until they are stopped:
// /lookup of a random topic every 5 ms, /nodes every 250 ms, one at a time each.
type queries struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	lookup, nodes answers // once running is done
}

// times are how long answers took, sorted.
type times struct {
	lookup, nodes []time.Duration
	err           error
}

func startQueries(ctx context.Context, addr string, c cluster) *queries {
	ctx, cancel := context.WithCancel(ctx)
	q := &queries{cancel: cancel}
	base := "http://" + addr
	q.running.Go(func() {
		q.lookup = ask(ctx, 5*time.Millisecond, func() string { return base + "/lookup?topic=" + topicName(rand.IntN(c.topics)) })
	})
	q.running.Go(func() {
		q.nodes = ask(ctx, 250*time.Millisecond, func() string { return base + "/nodes" })
	})
	return q
}

// stop ends the queries and returns how long they took.
func (q *queries) stop() times {
	q.cancel()
	q.running.Wait()
	return times{q.lookup.took, q.nodes.took, errors.Join(q.lookup.err, q.nodes.err)}
}

// answers are how long the answers to one kind of question took, sorted, and why
// there are no more.
type answers struct {
	took []time.Duration
	err  error
}

// ask asks until ctx ends.
func ask(ctx context.Context, every time.Duration, url func() string) (a answers) {
	defer func() { slices.Sort(a.took) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		began := time.Now()
		err := get(ctx, client, url())
		if ctx.Err() != nil {
			return a
		}
		if err != nil {
			a.err = err
			return a
		}
		a.took = append(a.took, time.Since(began))
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return a
		}
	}
}

// get reads an answer. A topic that is not known is an answer too.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// quantile is the value that the part q of a sorted list does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
