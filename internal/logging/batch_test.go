package logging_test

import (
	"bytes"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
)

// A batch prints what the logger prints, at one Write.
func TestBatchPrintsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where time passes only when told
		var one, batched counted
		log := logging.New(&one, "[x] ", slog.LevelInfo).With("id", 7)
		batch := logging.NewBatch(logging.New(&batched, "[x] ", slog.LevelInfo).With("id", 7))
		for _, text := range []string{"a plain line", "", "tab\tand\nbreak", "käse \x00 \xff", "del\x7f"} {
			for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				log.Log(t.Context(), level, text)
				half := len(text) / 2
				batch.Log(level, text[:half], text[half:])
				time.Sleep(1_234_567 * time.Microsecond)
			}
		}
		if batched.Len() > 0 {
			t.Error("written before Flush")
		}
		batch.Flush()
		batch.Flush()
		if one.String() != batched.String() {
			t.Errorf("got\n%s\nwant\n%s", batched.String(), one.String())
		}
		if batched.writes != 1 {
			t.Errorf("%d writes", batched.writes)
		}
	})
}

// counted counts writes.
type counted struct {
	bytes.Buffer
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(p)
}

// A batch does not grow beyond all bounds.
func TestBatchIsBounded(t *testing.T) {
	var out counted
	batch := logging.NewBatch(logging.New(&out, "", slog.LevelInfo))
	for range 10_000 {
		batch.Log(slog.LevelInfo, strings.Repeat("x", 100))
	}
	if out.writes < 10 || out.writes > 1000 {
		t.Errorf("%d writes for 1.3 MB", out.writes)
	}
	batch.Flush()
	if n := strings.Count(out.String(), "\n"); n != 10_000 {
		t.Errorf("%d lines", n)
	}
}

// Another handler gets each line at once.
func TestBatchOfAnotherHandler(t *testing.T) {
	var out bytes.Buffer
	batch := logging.NewBatch(slog.New(slog.NewTextHandler(&out, nil)))
	batch.Log(slog.LevelDebug, "no")
	batch.Log(slog.LevelWarn, "a", "b")
	if got := out.String(); !regexp.MustCompile(`^time=\S+ level=WARN msg=ab\n$`).MatchString(got) {
		t.Errorf("got %q", got)
	}
	batch.Flush()
}

func BenchmarkBatch(b *testing.B) {
	batch := logging.NewBatch(logging.New(io.Discard, "[nsqlookupd] ", slog.LevelInfo))
	for b.Loop() {
		batch.Log(slog.LevelInfo, "DB: client(", "10.0.0.1:12345", ") ", "REGISTER", " category:", "topic", " key:", "orders", " subkey:", "")
	}
}

func BenchmarkLogger(b *testing.B) {
	log := logging.New(io.Discard, "[nsqlookupd] ", slog.LevelInfo)
	for b.Loop() {
		log.Info("DB: client(" + "10.0.0.1:12345" + ") " + "REGISTER category:topic key:orders subkey:")
	}
}
