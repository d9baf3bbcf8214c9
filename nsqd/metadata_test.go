package nsqd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
)

// A countingHandler counts the log lines with a text.
type countingHandler struct {
	slog.Handler
	text string
	n    *atomic.Int64
}

func (h countingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h countingHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.text) {
		h.n.Add(1)
	}
	return nil
}

// A burst of new topics costs a handful of writes, and the last of them has all.
func TestMetadataWritesAreShared(t *testing.T) {
	const topics = 10_000
	var writes atomic.Int64
	d := startDaemon(t, func(o *Options) {
		o.Logger = slog.New(countingHandler{slog.DiscardHandler, "persisting", &writes})
	})
	for i := range topics {
		if _, err := d.GetTopic(fmt.Sprintf("t%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.metadata.persist(); err != nil {
		t.Fatal(err)
	}
	if n := writes.Load(); n > 20 {
		t.Errorf("%d topics cost %d writes", topics, n)
	}
	list, err := d.metadata.load()
	if err != nil || len(list) != topics {
		t.Errorf("%d of %d topics are in the file, %v", len(list), topics, err)
	}
	t.Logf("%d writes", writes.Load())
}
