package tool

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// A When says when a tool shows how far it is: auto, always or never. It is a
// [flag.Value].
type When string

// The words for [When].
const (
	Auto   When = "auto"
	Always When = "always"
	Never  When = "never"
)

// Set accepts one of the three words.
func (w *When) Set(text string) error {
	switch When(text) {
	case Auto, Always, Never:
		*w = When(text)
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", Auto, Always, Never)
}

func (w *When) String() string { return string(*w) }

// ProgressOptions are the options of tools that show progress.
type ProgressOptions struct {
	// Progress, flag --progress: by default a line with count and rate is kept up
	// to date at the bottom of stderr if that is a terminal.
	Progress When `flag:"progress" group:"Messages to the operator" usage:"show count and rate on stderr: auto (on a terminal), always or never"`
}

// A Meter counts messages and, if asked to, shows count and rate each second. Add
// may be called by anybody at any time.
type Meter struct {
	screen *Screen
	shown  bool
	verb   string // what happened to the messages, such as "published"
	start  time.Time

	messages, bytes atomic.Int64
}

// NewMeter returns a meter; what was counted is said to be "5 messages <verb>".
// tidy says that progress does not get in the way of the tool's output.
func (o ProgressOptions) NewMeter(env *Env, verb string, tidy bool) *Meter {
	shown := o.Progress == Always || o.Progress == Auto && env.ShowProgress && tidy
	return &Meter{screen: env.Screen, shown: shown, verb: env.name + ": %s messages " + verb, start: time.Now()}
}

// Add counts one message with a body of this many bytes.
func (m *Meter) Add(size int) {
	m.messages.Add(1)
	m.bytes.Add(int64(size))
}

// Messages returns how many messages were counted.
func (m *Meter) Messages() int64 { return m.messages.Load() }

// Run shows the numbers until ctx ends, and then, if they were shown at all, the
// totals as a line that stays.
func (m *Meter) Run(ctx context.Context) {
	if !m.shown {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var messages, bytes int64
	last := m.start
	for {
		select {
		case now := <-ticker.C:
			n, b := m.messages.Load(), m.bytes.Load()
			m.screen.Show(m.text(n, n-messages, b-bytes, now.Sub(last)))
			messages, bytes, last = n, b, now
		case <-ctx.Done():
			m.screen.Show("")
			n := m.messages.Load()
			spent := time.Since(m.start)
			_, _ = fmt.Fprintf(m.screen, "%s, %.1f s\n", m.text(n, n, m.bytes.Load(), spent), spent.Seconds())
			return
		}
	}
}

// text shows a total, and the rates of what came within spent.
func (m *Meter) text(total, messages, bytes int64, spent time.Duration) string {
	seconds := max(spent.Seconds(), 1e-3)
	return fmt.Sprintf(m.verb+", %s/s, %s/s", grouped(total), grouped(int64(float64(messages)/seconds)),
		bytesText(float64(bytes)/seconds))
}

// grouped prints n with commas between groups of three digits.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// bytesText prints a number of bytes with a unit: "1.5 MB".
func bytesText(n float64) string {
	for _, unit := range []string{"B", "kB", "MB"} {
		if n < 999.95 {
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.1f GB", n)
}
