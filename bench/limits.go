package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// nullServer runs the scenario on the null server.
func nullServer(ctx context.Context, o *options, s scenario.Scenario) (figures scenario.Figures, err error) {
	n, err := load.StartNull(ctx, o.Null)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Stop()) }()
	return s.Run(ctx, n)
}

// recordOverhead is what a message takes in a queue file beside its body.
const recordOverhead = 4 + 26

// appends writes as many bytes as the scenario's messages have, in writes of 64 KiB, to
// one file where nsqd would have its data.
func appends(_ context.Context, _ *options, s scenario.Scenario) (scenario.Figures, error) {
	w := s.(*scenario.Writer)
	record := w.Size + recordOverhead
	return appendAll(w.Messages, max(1, (64<<10)/record), record, false)
}

// syncedAppends does so in writes of as many messages as can be outstanding, and syncs
// after each: one fsync serves all who can wait for it.
func syncedAppends(_ context.Context, _ *options, s scenario.Scenario) (scenario.Figures, error) {
	w := s.(*scenario.Writer)
	return appendAll(w.Messages, w.Connections*w.Window, w.Size+recordOverhead, true)
}

// appendAll writes n records of so many bytes to a new file, some per write.
func appendAll(n, perWrite, record int, sync bool) (figures scenario.Figures, err error) {
	f, err := os.CreateTemp("", "nsq-bench-")
	if err != nil {
		return nil, fmt.Errorf("measure plain appends: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	chunk := make([]byte, perWrite*record)
	start := time.Now()
	for left := n; left > 0; left -= perWrite {
		if _, err := f.Write(chunk[:min(left, perWrite)*record]); err != nil {
			return nil, fmt.Errorf("measure plain appends: %w", err)
		}
		if !sync {
			continue
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("measure plain appends: %w", err)
		}
	}
	rate := float64(n) / time.Since(start).Seconds()
	return scenario.Figures{{Kind: scenario.Rate, Value: rate}}, nil
}
