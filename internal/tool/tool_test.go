package tool

import (
	"bytes"
	"context"
	"log"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/logging"
)

func TestSettings(t *testing.T) {
	var s Settings
	for option, want := range map[string]string{
		"bogus,1": "invalid option bogus", "read_timeout,1ms": "invalid read_timeout ! 1ms < 100ms",
		"dial_timeout,xx": `failed to coerce option dial_timeout (xx) - time: invalid duration "xx"`,
	} {
		if err := s.Set(option); err == nil || err.Error() != want {
			t.Errorf("%s: %v", option, err)
		}
	}
	for _, option := range []string{"max-attempts,7", "snappy", "auth_secret,a,b"} {
		if err := s.Set(option); err != nil {
			t.Errorf("%s: %v", option, err)
		}
	}
	config, err := s.ConfigForever("nsq_tail", 9)
	if err != nil || config.MaxAttempts != 7 || !config.Snappy || config.AuthSecret != "a,b" || config.MaxInFlight != 9 ||
		config.UserAgent != "nsq_tail/1.3.0 go-nsq/1.1.0" {
		t.Errorf("%+v, %v", config, err)
	}
	if config, err := Settings(nil).ConfigForever("x", 1); err != nil || config.MaxAttempts != 0 {
		t.Errorf("max attempts %d, %v", config.MaxAttempts, err)
	}
}

// A line of log appears above the line that shows progress.
func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{w: &out}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { _, _ = s.Write([]byte("a\n")) }, "a\n"},
		{func() { s.Show("1") }, "\r\x1b[K1"},
		{func() { s.Show("1") }, ""},
		{func() { _, _ = s.Write([]byte("b\n")) }, "\r\x1b[Kb\n1"},
		{func() { s.Show("") }, "\r\x1b[K"},
		{func() { _, _ = s.Write([]byte("c\n")) }, "c\n"},
	} {
		out.Reset()
		if step.do(); out.String() != step.want {
			t.Errorf("%q, want %q", out.String(), step.want)
		}
	}
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		env := NewEnv("x", nil, nil, &out)
		m := ProgressOptions{Always}.NewMeter(env, "done", false)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		for range 1500 {
			m.Add(1000)
		}
		time.Sleep(2500 * time.Millisecond)
		cancel()
		running.Wait()
		want := "\r\x1b[Kx: 1,500 messages done, 1,500/s, 1.5 MB/s" +
			"\r\x1b[Kx: 1,500 messages done, 0/s, 0.0 B/s" +
			"\r\x1b[Kx: 1,500 messages done, 600/s, 600.0 kB/s, 2.5 s\n"
		if out.String() != want {
			t.Errorf("%q", out.String())
		}
	})
}

func TestWhetherProgressIsShown(t *testing.T) {
	for _, tt := range []struct {
		when                     When
		terminal, tidy, expected bool
	}{
		{Auto, false, true, false}, {Auto, true, true, true}, {Auto, true, false, false},
		{Always, false, false, true}, {Never, true, true, false},
	} {
		env := NewEnv("x", nil, nil, new(bytes.Buffer))
		env.ShowProgress = tt.terminal
		if m := (ProgressOptions{tt.when}).NewMeter(env, "", tt.tidy); m.shown != tt.expected {
			t.Errorf("%+v: shown %t", tt, m.shown)
		}
	}
	var w When
	if err := w.Set("sometimes"); err == nil {
		t.Error("sometimes is accepted")
	}
}

func TestTimings(t *testing.T) {
	var out bytes.Buffer
	timings := NewTimings(5, "[aggregate]", log.New(&out, "", 0))
	for i := range 11 {
		timings.Add(time.Duration(i+1) * time.Millisecond)
	}
	want := "Warning: use more than 100 status values for accurate percentiles (configured with 5)\n" +
		"[aggregate]: finished 5 - 99th: 5.00ms - 95th: 5.00ms - avg: 3.00ms\n" +
		"[aggregate]: finished 5 - 99th: 10.00ms - 95th: 10.00ms - avg: 8.00ms\n"
	if out.String() != want {
		t.Errorf("%s", &out)
	}
	NewTimings(0, "", nil).Add(time.Second)

	times := make([]time.Duration, 200)
	for i := range times {
		times[i] = time.Duration(i) * time.Millisecond
	}
	for p, want := range map[float64]int{99: 199, 95: 191, 50: 101} {
		if got := percentile(times, p); got != time.Duration(want)*time.Millisecond {
			t.Errorf("%vth: %v, want %d ms", p, got, want)
		}
	}
}

func TestOccasional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		o := Occasional{Log: log.New(&out, "", 0)}
		for range 4 {
			o.Printf("bad")
		}
		time.Sleep(time.Second)
		o.Printf("worse")
		if out.String() != "bad\n(3 more such lines)\nworse\n" {
			t.Errorf("%q", out.String())
		}
	})
}

// The library's lines keep their form, from the level asked for up.
func TestLibraryLog(t *testing.T) {
	for level, want := range map[logging.Level]string{logging.LevelInfo: "INF", logging.LevelError: "", logging.LevelFatal: ""} {
		var out bytes.Buffer
		env := NewEnv("x", nil, nil, &out)
		config, err := Settings(nil).Config("x")
		if err != nil {
			t.Fatal(err)
		}
		source := Source{NSQDTCPAddresses: []string{"127.0.0.1:1"}}
		c := newConsumer(t, config)
		NewLibraryLog(env, level).Consumer(c)
		if err := source.Connect(c); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Error(err)
		}
		Consumers{c}.Stop()
		if want == "" && out.Len() > 0 {
			t.Errorf("%s: %q", level, &out)
		}
		if want != "" && !regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d INF +\d+ \[t/c\] \(127\.0\.0\.1:1\) connecting to nsqd\n`).Match(out.Bytes()) {
			t.Errorf("%s: %q", level, &out)
		}
	}
}

func newConsumer(t *testing.T, config *nsq.Config) *nsq.Consumer {
	t.Helper()
	c, err := nsq.NewConsumer("t", "c", config)
	if err != nil {
		t.Fatal(err)
	}
	c.AddHandler(nsq.HandlerFunc(func(*nsq.Message) error { return nil }))
	return c
}
