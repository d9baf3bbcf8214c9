package logging

import (
	"fmt"
	"log/slog"
	"strings"
)

// A Level says which lines are printed: those at the level and above. Its
// numbers are the ones GET /config/log_level answers. It is a [flag.Value] and
// a [slog.Leveler]. The zero value is not a level; options start at LevelInfo.
type Level int

// The levels, from the most talkative to the most silent.
const (
	LevelDebug Level = iota + 1
	LevelInfo
	LevelWarn
	LevelError
	LevelFatal
)

// SlogFatal is the slog level of a line that precedes the end of the process;
// slog itself ends at [slog.LevelError]. Printed as FATAL.
const SlogFatal = slog.LevelError + 4

// ParseLevel reads debug, info, warn, error or fatal in any letter case, and
// nothing else: "warning", blanks and numbers are errors.
func ParseLevel(text string) (Level, error) {
	switch strings.ToLower(text) {
	case "debug":
		return LevelDebug, nil
	case "info":
		return LevelInfo, nil
	case "warn":
		return LevelWarn, nil
	case "error":
		return LevelError, nil
	case "fatal":
		return LevelFatal, nil
	}
	return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error, fatal", text)
}

// Level returns the slog level that stands for l. With it a Level serves as a
// [slog.Leveler] and can be put into a [slog.LevelVar].
func (l Level) Level() slog.Level {
	switch l {
	case LevelDebug:
		return slog.LevelDebug
	case LevelWarn:
		return slog.LevelWarn
	case LevelError:
		return slog.LevelError
	case LevelFatal:
		return SlogFatal
	}
	return slog.LevelInfo
}

// String returns the word printed in log lines, such as "WARNING".
func (l Level) String() string {
	return word(l.Level())
}

// Set replaces l by what ParseLevel reads; on error l is unchanged.
func (l *Level) Set(text string) error {
	parsed, err := ParseLevel(text)
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// word names the band that a slog level lies in.
func word(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	case l < SlogFatal:
		return "ERROR"
	}
	return "FATAL"
}

// name is the band of a slog level in the word that ParseLevel reads.
func name(l slog.Level) string {
	if w := word(l); w != "WARNING" {
		return strings.ToLower(w)
	}
	return "warn"
}
