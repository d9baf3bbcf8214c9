package logging

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A Batch gathers the log lines of one goroutine, so that a run of them costs one
// Write. It is for work that logs each of many small steps, such as the
// registrations of an nsqd that connects: through [slog.Logger] and with a Write
// each, its lines cost several times what the steps do.
//
// Whoever logs calls Flush before it waits for something; a full batch is written
// by itself. Lines have the time of their Log call. Those of other goroutines may
// come between two batches, never into a line.
//
// Only a [Handler] has batches. With any other one each line is handed on at once.
type Batch struct {
	handler slog.Handler
	classic *Handler // the handler, if it is one
	lines   *[]byte  // not written yet, in memory of batches; nil if there are none

	second int64  // unix time of stamp
	stamp  []byte // prefix, date and time up to the seconds
}

// batchSize is how many bytes of lines are gathered before they are written.
const batchSize = 16 << 10

// batches is memory for lines that wait: an idle goroutine holds none.
var batches = sync.Pool{New: func() any { b := make([]byte, 0, batchSize+1<<10); return &b }}

// NewBatch returns a batch for the lines of log.
func NewBatch(log *slog.Logger) *Batch {
	b := &Batch{handler: log.Handler()}
	b.classic, _ = b.handler.(*Handler)
	return b
}

// Enabled reports whether lines of the level are printed.
func (b *Batch) Enabled(level slog.Level) bool {
	return b.handler.Enabled(context.Background(), level)
}

// Log adds the line that the parts make, if lines of its level are printed.
func (b *Batch) Log(level slog.Level, parts ...string) {
	if !b.Enabled(level) {
		return
	}
	now := time.Now()
	if b.classic == nil {
		// Where stderr is gone there is nobody to tell.
		_ = b.handler.Handle(context.Background(), slog.NewRecord(now, level, strings.Join(parts, ""), 0))
		return
	}
	if b.lines == nil {
		b.lines = batches.Get().(*[]byte)
	}
	line := b.appendTime(*b.lines, now)
	line = append(line, word(level)...)
	line = append(line, ": "...)
	if isPlain(parts) {
		for _, part := range parts {
			line = append(line, part...)
		}
	} else {
		line = appendMessage(line, strings.Join(parts, ""))
	}
	line = append(line, b.classic.attrs...)
	*b.lines = append(line, '\n')
	if len(*b.lines) >= batchSize {
		b.Flush()
	}
}

// Flush writes the lines gathered so far.
func (b *Batch) Flush() {
	if b.lines == nil {
		return
	}
	b.classic.out.mu.Lock()
	_, _ = b.classic.out.w.Write(*b.lines) // where stderr is gone there is nobody to tell
	b.classic.out.mu.Unlock()
	if cap(*b.lines) <= 2*batchSize {
		*b.lines = (*b.lines)[:0]
		batches.Put(b.lines)
	}
	b.lines = nil
}

// appendTime appends what a line begins with, as [Handler.Handle] does. Most lines
// come in the second of the one before.
func (b *Batch) appendTime(dst []byte, now time.Time) []byte {
	if second := now.Unix(); second != b.second || b.stamp == nil {
		b.second = second
		b.stamp = now.Local().AppendFormat(append(b.stamp[:0], b.classic.prefix...), "2006/01/02 15:04:05.")
	}
	dst = append(dst, b.stamp...)
	micros := now.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		dst = append(dst, '0'+byte(micros/unit%10))
	}
	return append(dst, ' ')
}

// isPlain reports whether a line of these parts needs no escapes, going by bytes.
func isPlain(parts []string) bool {
	for _, part := range parts {
		for i := range len(part) {
			if c := part[i]; c < ' ' || c > '~' {
				return false
			}
		}
	}
	return true
}
