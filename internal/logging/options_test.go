package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
)

// logged returns what a logger in this format prints, the time taken out.
func logged(o logging.Options, log func(*slog.Logger)) string {
	var b bytes.Buffer
	l, _ := o.Logger(&b)
	log(l)
	return regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ][0-9:.]+(Z|[+-]\d\d:\d\d)?`).ReplaceAllString(b.String(), "NOW")
}

func TestFormats(t *testing.T) {
	all := func(l *slog.Logger) {
		l.Debug("not printed")
		l.Warn("TOPIC(t): \"x\"\nFATAL: forged", "topic", "a b", "took", 1500*time.Millisecond, "n", 7, "ok", true)
		l.With("client", "h:1").WithGroup("g").Error("m", "err", errors.New("no space"), "stack", []byte("line"), "v", panicker{}, "l", slog.LevelInfo)
		l.Log(context.Background(), logging.SlogFatal, "end")
	}
	for _, tt := range []struct {
		format logging.Format
		want   string
	}{
		{logging.Classic, `
[nsqd] NOW WARNING: TOPIC(t): \"x\"\nFATAL: forged topic="a b" took=1.5s n=7 ok=true
[nsqd] NOW ERROR: m client=h:1 g.err="no space" g.stack=line g.v="!PANIC: oh" g.l=INFO
[nsqd] NOW FATAL: end
`},
		{logging.JSON, `
{"time":"NOW","level":"warn","msg":"TOPIC(t): \"x\"\nFATAL: forged","prefix":"[nsqd]","topic":"a b","took":"1.5s","n":7,"ok":true}
{"time":"NOW","level":"error","msg":"m","prefix":"[nsqd]","client":"h:1","g":{"err":"no space","stack":"line","v":"!PANIC: oh","l":"INFO"}}
{"time":"NOW","level":"fatal","msg":"end","prefix":"[nsqd]"}
`},
		{logging.Logfmt, `
time=NOW level=warn msg="TOPIC(t): \"x\"\nFATAL: forged" prefix=[nsqd] topic="a b" took=1.5s n=7 ok=true
time=NOW level=error msg=m prefix=[nsqd] client=h:1 g.err="no space" g.stack=line g.v="!PANIC: oh" g.l=INFO
time=NOW level=fatal msg=end prefix=[nsqd]
`},
	} {
		o := logging.Options{LogLevel: logging.LevelInfo, LogPrefix: "[nsqd] ", LogFormat: tt.format}
		got := "\n" + logged(o, all)
		if got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.format, got, tt.want)
		}
		if tt.format == logging.JSON {
			for line := range strings.Lines(got[1:]) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %s", line)
				}
			}
		}
	}
}

func TestNoPrefix(t *testing.T) {
	for format, want := range map[logging.Format]string{
		logging.Classic: "NOW INFO: m\n",
		logging.JSON:    `{"time":"NOW","level":"info","msg":"m"}` + "\n",
		logging.Logfmt:  "time=NOW level=info msg=m\n",
	} {
		got := logged(logging.Options{LogLevel: logging.LevelInfo, LogFormat: format}, func(l *slog.Logger) { l.Info("m") })
		if got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

func TestLevelOfLogger(t *testing.T) {
	for _, format := range []logging.Format{logging.Classic, logging.JSON, logging.Logfmt} {
		var b bytes.Buffer
		log, level := logging.Options{LogLevel: logging.LevelError, LogFormat: format}.Logger(&b)
		log.Info("no")
		level.Set(logging.LevelInfo.Level())
		log.Info("yes")
		level.Set(logging.LevelFatal.Level())
		log.Error("no")
		if strings.Count(b.String(), "\n") != 1 || !strings.Contains(b.String(), "yes") {
			t.Errorf("%s: got %q", format, b.String())
		}
	}
}

func TestFatalInEachFormat(t *testing.T) {
	for format, want := range map[logging.Format]string{
		logging.Classic: `^\[nsqd\] \S+ \S+ FATAL: it's over\n$`,
		logging.JSON:    `^{"time":"\S+","level":"fatal","msg":"it's over","prefix":"\[nsqd\]"}\n$`,
		logging.Logfmt:  `^time=\S+ level=fatal msg="it's over" prefix=\[nsqd\]\n$`,
	} {
		var b bytes.Buffer
		logging.Options{LogFormat: format, LogPrefix: "x"}.Fatal(&b, "nsqd", "it's over")
		if !regexp.MustCompile(want).MatchString(b.String()) {
			t.Errorf("%s: got %q", format, b.String())
		}
	}
}

func TestFormatAsFlag(t *testing.T) {
	f := logging.JSON
	var _ flag.Value = &f
	if err := f.Set("xml"); err == nil || f != logging.JSON || err.Error() != `log format "xml" is not one of classic, json, logfmt` {
		t.Errorf("Set(xml): %v, format %v", err, f)
	}
	for _, text := range []string{"classic", "JSON", "logfmt"} {
		if err := f.Set(text); err != nil || f.String() != strings.ToLower(text) {
			t.Errorf("Set(%s): %v, format %v", text, err, f)
		}
	}
}
