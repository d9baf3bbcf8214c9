package logging_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
)

// writes records each Write apart from the others.
type writes struct {
	mu  sync.Mutex
	got []string
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, string(b))
	return len(b), nil
}

func TestLineShape(t *testing.T) {
	var w writes
	log := logging.New(&w, "[nsqd] ", logging.LevelDebug)
	log.Debug("a")
	log.Info("b")
	log.Warn("c")
	log.Error("d")
	log.Log(context.Background(), logging.SlogFatal, "e")

	if len(w.got) != 5 {
		t.Fatalf("got %d writes, want one per line: %q", len(w.got), w.got)
	}
	for i, want := range []string{"DEBUG: a", "INFO: b", "WARNING: c", "ERROR: d", "FATAL: e"} {
		re := `^\[nsqd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} ` + want + `\n$`
		if !regexp.MustCompile(re).MatchString(w.got[i]) {
			t.Errorf("line %d = %q, want match of %s", i, w.got[i], re)
		}
	}
}

func TestLocalTime(t *testing.T) {
	when := time.Date(2026, 1, 2, 15, 4, 5, 6007, time.Local)
	var b bytes.Buffer
	h := logging.NewHandler(&b, "p ", logging.LevelInfo)
	if err := h.Handle(context.Background(), slog.NewRecord(when.UTC(), slog.LevelInfo, "m", 0)); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "p 2026/01/02 15:04:05.000006 INFO: m\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("hidden") }

func TestAttributes(t *testing.T) {
	var nilError *strings.Builder
	for _, tt := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{"plain words", func(l *slog.Logger) { l.Info("m", "topic", "orders", "id", 5) }, "m topic=orders id=5"},
		{"text that needs quotes", func(l *slog.Logger) { l.Info("m", "err", "a b", "e", "", "q", `x"y`, "k", "a=b") },
			`m err="a b" e="" q="x\"y" k="a=b"`},
		{"control characters in a value", func(l *slog.Logger) { l.Info("m", "topic", "a\nFATAL: b") }, `m topic="a\nFATAL: b"`},
		{"control characters in the message", func(l *slog.Logger) { l.Info("bad magic 'a\nb\x00'") }, `bad magic 'a\nb\x00'`},
		{"invalid UTF-8 in the message", func(l *slog.Logger) { l.Info("bad magic '\xff\xfe'") }, `bad magic '\xff\xfe'`},
		{"quotes in the message stay", func(l *slog.Logger) { l.Info(`got "x" é`) }, `got "x" é`},
		{"error", func(l *slog.Logger) { l.Info("m", "err", errors.New("no space")) }, `m err="no space"`},
		{"duration and bool", func(l *slog.Logger) { l.Info("m", "took", time.Second, "ok", true, "f", 0.5) }, "m took=1s ok=true f=0.5"},
		{"time", func(l *slog.Logger) { l.Info("m", "at", time.Unix(0, 0).UTC()) }, "m at=1970-01-01T00:00:00Z"},
		{"bytes and lists", func(l *slog.Logger) { l.Info("m", "b", []byte("xy"), "l", []int{1, 2}) }, `m b=xy l="[1 2]"`},
		{"LogValuer", func(l *slog.Logger) { l.Info("m", "s", secret{}) }, "m s=hidden"},
		{"unsigned", func(l *slog.Logger) { l.Info("m", "u", uint64(1<<63)) }, "m u=9223372036854775808"},
		{"nil", func(l *slog.Logger) { l.Info("m", "err", nil) }, "m err=<nil>"},
		{"empty attribute", func(l *slog.Logger) { l.LogAttrs(context.Background(), slog.LevelInfo, "m", slog.Attr{}) }, "m"},
		{"With", func(l *slog.Logger) { l.With("client", "h:1").Info("m", "id", 2) }, "m client=h:1 id=2"},
		{"WithGroup", func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3) }, "m a=1 g.b=2 g.c=3"},
		{"group value", func(l *slog.Logger) { l.Info("m", slog.Group("g", "a", 1, "b", 2), slog.Group("", "c", 3)) }, "m g.a=1 g.b=2 c=3"},
		{"empty group", func(l *slog.Logger) { l.WithGroup("").Info("m", slog.Group("g")) }, "m"},
		{"value that panics", func(l *slog.Logger) { l.Info("m", "v", panicker{}) }, `m v="!PANIC: oh"`},
		{"nil pointer with a method", func(l *slog.Logger) { l.Info("m", "v", nilError) }, `m v="!PANIC: runtime error: invalid memory address or nil pointer dereference"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w writes
			tt.log(logging.New(&w, "", logging.LevelInfo))
			if len(w.got) != 1 {
				t.Fatalf("got %d writes: %q", len(w.got), w.got)
			}
			_, text, _ := strings.Cut(w.got[0], "INFO: ")
			if text != tt.want+"\n" {
				t.Errorf("got  %q\nwant %q", text, tt.want+"\n")
			}
		})
	}
}

type panicker struct{}

func (panicker) String() string { panic("oh") }

func TestLevelChangesWhileRunning(t *testing.T) {
	var w writes
	var level slog.LevelVar
	level.Set(logging.LevelError.Level())
	log := logging.New(&w, "", &level)
	log.Info("no")
	level.Set(logging.LevelInfo.Level())
	log.Info("yes")
	level.Set(logging.LevelFatal.Level())
	log.Error("no")
	if len(w.got) != 1 || !strings.HasSuffix(w.got[0], "yes\n") {
		t.Errorf("got %q", w.got)
	}
}

func TestFatal(t *testing.T) {
	var b bytes.Buffer
	logging.Options{LogPrefix: "x"}.Fatal(&b, "nsqd", "failed to instantiate nsqd - x")
	if !regexp.MustCompile(`^\[nsqd\] [0-9/]+ [0-9:.]+ FATAL: failed to instantiate nsqd - x\n$`).MatchString(b.String()) {
		t.Errorf("got %q", b.String())
	}
}

func TestWriteErrorIsReturned(t *testing.T) {
	h := logging.NewHandler(failing{}, "", logging.LevelInfo)
	if err := h.Handle(context.Background(), slog.Record{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("err = %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestLinesStayWhole(t *testing.T) {
	var w writes
	log := logging.New(&w, "", logging.LevelInfo)
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			derived := log.With("k", strings.Repeat("v", 100))
			for range 50 {
				derived.Info("m")
			}
		})
	}
	g.Wait()
	for _, line := range w.got {
		if !strings.HasSuffix(line, "INFO: m k="+strings.Repeat("v", 100)+"\n") {
			t.Fatalf("line %q", line)
		}
	}
	if len(w.got) != 200 {
		t.Errorf("got %d lines", len(w.got))
	}
}

func TestParseLevel(t *testing.T) {
	for _, tt := range []struct {
		text   string
		want   logging.Level
		word   string
		number int
	}{
		{"debug", logging.LevelDebug, "DEBUG", 1},
		{"INFO", logging.LevelInfo, "INFO", 2},
		{"Warn", logging.LevelWarn, "WARNING", 3},
		{"eRRor", logging.LevelError, "ERROR", 4},
		{"fatal", logging.LevelFatal, "FATAL", 5},
	} {
		got, err := logging.ParseLevel(tt.text)
		if err != nil || got != tt.want || got.String() != tt.word || int(got) != tt.number {
			t.Errorf("ParseLevel(%q) = %v (%d), %v", tt.text, got, got, err)
		}
	}
	for _, text := range []string{"", "warning", " info", "info ", "2", `"debug"`, "debug\n"} {
		if got, err := logging.ParseLevel(text); err == nil {
			t.Errorf("ParseLevel(%q) = %v, want an error", text, got)
		}
	}
}

func TestLevelAsFlag(t *testing.T) {
	level := logging.LevelInfo
	var _ flag.Value = &level
	if err := level.Set("warning"); err == nil || level != logging.LevelInfo {
		t.Errorf("Set(warning): %v, level %v", err, level)
	}
	if err := level.Set("DEBUG"); err != nil || level != logging.LevelDebug {
		t.Errorf("Set(DEBUG): %v, level %v", err, level)
	}
}

func BenchmarkLine(b *testing.B) {
	log := logging.New(io.Discard, "[nsqd] ", logging.LevelInfo)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(ctx, slog.LevelInfo, "TOPIC(orders): created", slog.String("client", "127.0.0.1:5000"), slog.Int("n", 7))
	}
}
