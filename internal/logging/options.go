package logging

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Options are the options of a daemon's log, with the tags of package config. A
// daemon embeds them in its own.
type Options struct {
	// LogLevel is the least level that is printed. Flag --log-level, default info;
	// it can be changed while the daemon runs.
	LogLevel Level `flag:"log-level" live:"yes" group:"Logging" value:"level" usage:"least level to log: debug, info, warn, error or fatal"`

	// LogPrefix starts each line of the classic format; the others have it, without
	// surrounding blanks, as the field prefix. Flag --log-prefix.
	LogPrefix string `flag:"log-prefix" group:"Logging" usage:"text before each log line"`

	// LogFormat is the shape of the lines. Flag --log-format, default classic.
	LogFormat Format `flag:"log-format" group:"Logging" value:"format" usage:"shape of log lines: classic, json or logfmt"`
}

// Logger returns a logger that prints to w as the options say, and its level,
// which may be changed at any time.
func (o Options) Logger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(o.LogLevel.Level())
	return slog.New(o.LogFormat.handler(w, o.LogPrefix, level)), level
}

// Fatal prints why the process is about to end, in the format of the options: a
// classic line begins with "[<program>] ", whatever LogPrefix says.
func (o Options) Fatal(w io.Writer, program, text string) {
	handle(o.LogFormat.handler(w, "["+program+"] ", LevelFatal), SlogFatal, text)
}

// A Format is a shape of log lines. It is a [flag.Value]. The zero value is
// Classic.
type Format int

// The formats. JSON and Logfmt have the fields time (local, RFC 3339), level (in the
// words of --log-level), msg, prefix, and those of the line.
const (
	Classic Format = iota // [nsqd] 2026/01/02 15:04:05.123456 INFO: msg key=value
	JSON                  // {"time":"2026-01-02T15:04:05.123456789+01:00","level":"info","msg":"msg","prefix":"[nsqd]","key":"value"}
	Logfmt                // time=2026-01-02T15:04:05.123+01:00 level=info msg=msg prefix=[nsqd] key=value
)

var formats = [...]string{Classic: "classic", JSON: "json", Logfmt: "logfmt"}

// Set reads classic, json or logfmt in any letter case; on error f is unchanged.
func (f *Format) Set(text string) error {
	for i, name := range formats {
		if strings.EqualFold(text, name) {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("log format %q is not one of %s", text, strings.Join(formats[:], ", "))
}

// String returns the word that Set reads.
func (f Format) String() string { return formats[f] }

// MarshalText returns the word, for JSON.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// handler returns a handler that prints in this format.
func (f Format) handler(w io.Writer, prefix string, minimum slog.Leveler) slog.Handler {
	if f == Classic {
		return NewHandler(w, prefix, minimum)
	}
	options := &slog.HandlerOptions{Level: minimum, ReplaceAttr: plainValue}
	var h slog.Handler
	if f == JSON {
		h = slog.NewJSONHandler(w, options)
	} else {
		h = slog.NewTextHandler(w, options)
	}
	if prefix = strings.TrimSpace(prefix); prefix != "" {
		h = h.WithAttrs([]slog.Attr{slog.String("prefix", prefix)})
	}
	return h
}

// plainValue replaces what slog prints in a form that only it understands: a level
// by its word, and what JSON would show as a bare number or in base 64 by its text.
func plainValue(groups []string, a slog.Attr) slog.Attr {
	switch v := a.Value; v.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(v.Duration().String())
	case slog.KindAny:
		switch v := v.Any().(type) {
		case slog.Level:
			if len(groups) == 0 && a.Key == slog.LevelKey {
				a.Value = slog.StringValue(name(v))
			}
		case []byte:
			a.Value = slog.StringValue(string(v))
		case error:
		case fmt.Stringer:
			a.Value = slog.StringValue(textOf(v))
		}
	}
	return a
}
