// Package logging prints slog records in the line shape of NSQ daemons:
//
//	[nsqd] 2026/01/02 15:04:05.000000 INFO: TOPIC(orders): created client=10.0.0.7:5312
//
// that is prefix, local time with microseconds, level word, message, and the
// attributes as key=value, quoted where a value would not read back.
// Source of the shape: HTTP and operations spec, section 13. [Format] has others.
package logging

import (
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// New returns a logger that prints to w every record at minimum or above.
// Pass a *slog.LevelVar as minimum to change the level while running. See
// [Handler] for prefix and w.
func New(w io.Writer, prefix string, minimum slog.Leveler) *slog.Logger {
	return slog.New(NewHandler(w, prefix, minimum))
}

// handle prints one record now, on behalf of a process that is about to end.
func handle(h slog.Handler, level slog.Level, text string) {
	// Where stderr is gone there is nobody to tell.
	_ = h.Handle(context.Background(), slog.NewRecord(time.Now(), level, text, 0))
}

// A Handler prints records as described for the package. Each record is one
// Write, never two of them at once, also through handlers made from it by
// WithAttrs and WithGroup. Control characters in messages and values are
// escaped, so that text that came from the network cannot forge a line.
type Handler struct {
	out     *output
	prefix  string // printed as it is, usually with a trailing blank
	minimum slog.Leveler
	attrs   string // from WithAttrs, already in printed form
	group   string // from WithGroup, "a.b." before each key
}

// output is the writer shared by a Handler and all handlers derived from it.
type output struct {
	mu sync.Mutex // held for one Write
	w  io.Writer
}

// NewHandler returns a handler that prints to w, each line starting with
// prefix, and drops records below minimum.
func NewHandler(w io.Writer, prefix string, minimum slog.Leveler) *Handler {
	return &Handler{out: &output{w: w}, prefix: prefix, minimum: minimum}
}

// Enabled reports whether records of the level are printed.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.minimum.Level()
}

// lines keeps buffers for lines under construction. A buffer that a huge value
// has blown up is not kept.
var lines = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

const maxPooledLine = 16 << 10

// Handle prints the record. It returns the error of the Write.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	buf := lines.Get().(*[]byte)
	b := append((*buf)[:0], h.prefix...)
	when := r.Time
	if when.IsZero() {
		when = time.Now() // the shape has no room for a line without a time
	}
	b = when.Local().AppendFormat(b, "2006/01/02 15:04:05.000000 ")
	b = append(b, word(r.Level)...)
	b = append(b, ": "...)
	b = appendMessage(b, r.Message)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.group, a)
		return true
	})
	b = append(b, '\n')

	h.out.mu.Lock()
	_, err := h.out.w.Write(b)
	h.out.mu.Unlock()

	if cap(b) <= maxPooledLine {
		*buf = b
		lines.Put(buf)
	}
	return err
}

// WithAttrs returns a handler that adds the attributes to every line.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := []byte(h.attrs)
	for _, a := range attrs {
		b = appendAttr(b, h.group, a)
	}
	derived := *h
	derived.attrs = string(b)
	return &derived
}

// WithGroup returns a handler that puts "name." before the keys of attributes
// added later.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	derived := *h
	derived.group += name + "."
	return &derived
}

// appendMessage appends the message, with control characters escaped.
func appendMessage(b []byte, text string) []byte {
	for _, r := range text {
		if unicode.IsControl(r) || r == utf8.RuneError {
			quoted := strconv.Quote(text)
			return append(b, quoted[1:len(quoted)-1]...)
		}
	}
	return append(b, text...)
}

// appendAttr appends " group.key=value", or one such for each member of a
// group value. Empty attributes are left out.
func appendAttr(b []byte, group string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range v.Group() {
			b = appendAttr(b, group, member)
		}
		return b
	}
	if a.Equal(slog.Attr{}) {
		return b
	}
	b = append(b, ' ')
	if group == "" {
		b = appendWord(b, a.Key)
	} else {
		b = appendWord(b, group+a.Key)
	}
	b = append(b, '=')
	switch v.Kind() {
	case slog.KindString:
		return appendWord(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindTime:
		return v.Time().AppendFormat(b, time.RFC3339Nano)
	case slog.KindDuration:
		return append(b, v.Duration().String()...)
	}
	return appendWord(b, textOf(v.Any()))
}

// textOf returns the text of a value that is none of slog's own kinds. A value
// that panics while it is printed, such as an error in a nil pointer, must not
// take the process down for the sake of a log line.
func textOf(v any) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	switch v := v.(type) {
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case []byte:
		return string(v)
	case encoding.TextMarshaler:
		if t, err := v.MarshalText(); err == nil {
			return string(t)
		}
	}
	return fmt.Sprintf("%+v", v)
}

// appendWord appends text as it is where a reader can tell its ends, else in
// double quotes with Go's escapes.
func appendWord(b []byte, text string) []byte {
	if text == "" {
		return append(b, `""`...)
	}
	for _, r := range text {
		if r <= ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.AppendQuote(b, text)
		}
	}
	return append(b, text...)
}
