package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

// memStats are figures of [runtime.MemStats], or what they have grown by.
type memStats struct {
	mallocs, totalAlloc, heapAlloc, numGC int64
}

func (m memStats) since(before memStats) memStats {
	return memStats{m.mallocs - before.mallocs, m.totalAlloc - before.totalAlloc, m.heapAlloc - before.heapAlloc, m.numGC - before.numGC}
}

// costs is what has grown as costs of each of n messages.
func (m memStats) costs(n int) costs {
	each := func(total int64) float64 { return float64(total) / float64(n) }
	return costs{
		allocations: each(m.mallocs),
		allocated:   each(m.totalAlloc),
		kept:        each(m.heapAlloc),
		collections: 100_000 * each(m.numGC),
	}
}

// readMemStats lets nsqd collect its garbage and reads the figures. It does so twice and
// returns the second: after one collection what is in a [sync.Pool] is still there.
func readMemStats(ctx context.Context, n *load.NSQD) (memStats, error) {
	if _, err := collectAndRead(ctx, n); err != nil {
		return memStats{}, err
	}
	return collectAndRead(ctx, n)
}

// collectAndRead reads the figures from the end of a heap profile in text form.
func collectAndRead(ctx context.Context, n *load.NSQD) (m memStats, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTPAddr+"/debug/pprof/heap?debug=1&gc=1", nil)
	if err != nil {
		return m, fmt.Errorf("read memory statistics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return m, fmt.Errorf("read memory statistics: %w", err)
	}
	defer response.Body.Close()
	fields := map[string]*int64{"Mallocs": &m.mallocs, "TotalAlloc": &m.totalAlloc, "HeapAlloc": &m.heapAlloc, "NumGC": &m.numGC}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20) // one line has the pauses
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), " = ") // as "# NumGC = 12"
		if into := fields[name]; into != nil {
			if *into, err = strconv.ParseInt(value, 10, 64); err != nil {
				return m, fmt.Errorf("read memory statistics: %s: %w", name, err)
			}
			delete(fields, name)
		}
	}
	if err := lines.Err(); err != nil {
		return m, fmt.Errorf("read memory statistics: %w", err)
	}
	if len(fields) > 0 {
		return m, fmt.Errorf("read memory statistics: %s, without some of them", response.Status)
	}
	return m, nil
}
