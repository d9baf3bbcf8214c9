package nsq

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// Logger takes finished log lines; *log.Logger is one. It is what the SetLogger
// methods take.
type Logger interface {
	Output(calldepth int, s string) error
}

// logger takes finished log lines; *log.Logger is one.
type logger interface {
	Output(calldepth int, s string) error
}

// LogLevel is the severity of a log line.
type LogLevel int

// Log levels, least severe first. A line is logged when its level is at least
// the level set with SetLogger or SetLoggerLevel.
const (
	LogLevelDebug LogLevel = iota
	LogLevelInfo
	LogLevelWarning
	LogLevelError
	LogLevelMax = iota - 1 // the most severe level
)

// String returns the three letters that head a log line of this level: INF,
// WRN or ERR, and DBG for everything else.
func (lvl LogLevel) String() string {
	switch lvl {
	case LogLevelInfo:
		return "INF"
	case LogLevelWarning:
		return "WRN"
	case LogLevelError:
		return "ERR"
	}
	return "DBG"
}

// slogLevels are our levels in the terms of log/slog.
var slogLevels = [LogLevelMax + 1]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// levelLoggers holds where log lines go: a structured logger, or one logger per
// level and a threshold, where nil silences its level. The zero value logs
// nothing. Calls may overlap.
type levelLoggers struct {
	level      atomic.Int64 // a LogLevel
	structured atomic.Pointer[slog.Logger]

	mu      sync.RWMutex // guards all below
	loggers [LogLevelMax + 1]logger
	formats [LogLevelMax + 1]string // of connections; see Conn.SetLogger
}

// setDefault logs everything from INFO up to standard error.
func (l *levelLoggers) setDefault() {
	l.setAll(log.New(os.Stderr, "", log.Flags()), LogLevelInfo, "")
}

func (l *levelLoggers) setAll(to logger, level LogLevel, format string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.loggers {
		l.loggers[i], l.formats[i] = to, format
	}
	l.level.Store(int64(level))
	l.structured.Store(nil)
}

// setStructured sends all lines to to, whose handler has the threshold; nil
// silences them.
func (l *levelLoggers) setStructured(to *slog.Logger) {
	l.setAll(nil, LogLevelMax, "")
	l.structured.Store(to)
}

// setOne sets the logger of one level; levels that do not exist are ignored.
func (l *levelLoggers) setOne(to logger, level LogLevel, format string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if level >= 0 && level <= LogLevelMax {
		l.loggers[level], l.formats[level] = to, format
	}
}

func (l *levelLoggers) setLevel(level LogLevel) {
	l.level.Store(int64(level))
}

// enabled says whether lines of the given level may be wanted. It is cheap.
func (l *levelLoggers) enabled(level LogLevel) bool {
	if to := l.structured.Load(); to != nil {
		return to.Enabled(context.Background(), slogLevels[level])
	}
	return level >= LogLevel(l.level.Load())
}

// get returns the logger for a line of the given level and its format, or nil
// when the line is not wanted.
func (l *levelLoggers) get(level LogLevel) (logger, string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.loggers[level], l.formats[level]
}

// emit logs one line, a constant message and its facts. A structured logger
// gets facts before that say whose line it is, others a head made from their
// format.
func (l *levelLoggers) emit(level LogLevel, head func(format string) string, owner []slog.Attr, msg string, facts []slog.Attr) {
	if !l.enabled(level) {
		return
	}
	if to := l.structured.Load(); to != nil {
		attrs := append(owner[:len(owner):len(owner)], facts...)
		to.LogAttrs(context.Background(), slogLevels[level], msg, attrs...)
		return
	}
	if to, format := l.get(level); to != nil {
		_ = to.Output(3, fmt.Sprintf("%-4s %s", level, joinHead(head(format), lineText(msg, facts))))
	}
}

// joinHead puts a space between the two parts of a line.
func joinHead(head, text string) string {
	if head == "" {
		return text
	}
	return head + " " + text
}

// lineText is a line as text: the address in brackets if there is one, the
// message, other facts as key=value, and the error last after a dash.
func lineText(msg string, facts []slog.Attr) string {
	var before, after, last strings.Builder
	for _, fact := range facts {
		switch fact.Key {
		case "addr":
			fmt.Fprintf(&before, "(%s) ", fact.Value)
		case "err":
			fmt.Fprintf(&last, " - %s", fact.Value)
		default:
			fmt.Fprintf(&after, " %s=%s", fact.Key, fact.Value)
		}
	}
	return before.String() + msg + after.String() + last.String()
}

func addrAttr(addr string) slog.Attr { return slog.String("addr", addr) }
func errAttr(err error) slog.Attr    { return slog.Any("err", err) }
func idAttr(m *Message) slog.Attr    { return slog.String("id", string(m.ID[:])) }

// copyInto makes other like these loggers.
func (l *levelLoggers) copyInto(other *levelLoggers) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for level, to := range l.loggers {
		other.setOne(to, LogLevel(level), l.formats[level])
	}
	other.level.Store(l.level.Load())
	other.structured.Store(l.structured.Load())
}

// copyTo gives a connection these loggers with a format for its lines, and its
// owner's facts.
func (l *levelLoggers) copyTo(c *Conn, format string, owner []slog.Attr) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for level, to := range l.loggers {
		c.SetLoggerForLevel(to, LogLevel(level), format)
	}
	c.SetLoggerLevel(LogLevel(l.level.Load()))
	c.loggers.structured.Store(l.structured.Load())
	c.owner = append(c.owner, owner...)
}
