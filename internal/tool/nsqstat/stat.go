package nsqstat

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/nsq-suite/nsq/internal/lookup"
	"github.com/nsq-suite/nsq/internal/tool"
)

// headEvery is how many polls there are from one head to the next.
const headEvery = 25

const lineLayout = "%7s %7s | %7s %7s %7s %5s %5s | %7s %7s %12s %7s\n"

// Run prints lines until there are as many as asked for, or ctx ends. The first
// poll is what the first rates compare with and prints nothing.
func Run(ctx context.Context, opts *Options, env *tool.Env) error {
	config, err := opts.TLSOptions.Config()
	if err != nil {
		return err
	}
	client := lookup.NewClient(opts.ConnectTimeout, opts.RequestTimeout, config, slog.New(slog.DiscardHandler))
	defer client.Close()
	p := &poller{opts: opts, client: client, warn: changes(env), names: map[string]string{}}
	pauses := changes(env)

	var previous sample
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := int32(0); !opts.Count.Given || n <= opts.Count.N; n++ {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		s, err := p.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		pauses(s.pauseText(opts))
		if err := printPoll(env.Stdout, opts, n, previous, s); err != nil {
			return fmt.Errorf("ERROR: failed to write to os.Stdout - %w", err)
		}
		previous = s
		timer.Reset(opts.Interval)
	}
	return nil
}

// changes returns a function that logs a text when it differs from the one before.
func changes(env *tool.Env) func(text string) {
	last := ""
	return func(text string) {
		if text != last && text != "" {
			env.Log.Print("WARNING: " + text)
		}
		last = text
	}
}

// pauseText says where the channel is paused, "" if nowhere.
func (s sample) pauseText(opts *Options) string {
	paused := 0
	for _, n := range s.nsqds {
		if n.Paused {
			paused++
		}
	}
	if paused == 0 {
		return ""
	}
	return fmt.Sprintf("channel(%s) of topic(%s) is paused on %d of %d nsqd", opts.Channel, opts.Topic, paused, len(s.nsqds))
}

// printPoll prints the n-th poll, from 0: the head if it is time for that, and the
// figures.
func printPoll(w io.Writer, opts *Options, n int32, previous, s sample) error {
	if opts.JSON {
		if n == 0 {
			return nil
		}
		line, err := json.Marshal(s.line(opts, previous))
		if err != nil {
			return err
		}
		_, err = w.Write(append(line, '\n'))
		return err
	}
	var text []byte
	if n%headEvery == 0 {
		text = fmt.Appendf(text, "%s\n"+lineLayout,
			"------rate------+----------------depth----------------+--------------metadata---------------",
			"ingress", "egress", "total", "mem", "disk", "inflt", "def", "req", "t-o", "msgs", "clients")
	}
	if n > 0 {
		l := s.line(opts, previous)
		text = fmt.Appendf(text, "%7d %7d | %7d %7d %7d %5d %5d | %7d %7d %12d %7d\n",
			l.Ingress, l.Egress, l.Depth, l.Memory, l.Disk, l.InFlight, l.Deferred, l.Requeues, l.Timeouts, l.Messages, l.Clients)
	}
	_, err := w.Write(text)
	return err
}

// A line is the figures of one poll, summed over all nsqds; its JSON form is the
// output of --json.
type line struct {
	Time    time.Time `json:"time"`
	Topic   string    `json:"topic"`
	Channel string    `json:"channel"`
	NSQDs   int       `json:"nsqds"` // that answered and have the channel
	Paused  int       `json:"paused"`
	Seconds float64   `json:"seconds"` // since the poll before; what the rates are divided by

	Ingress int64 `json:"ingress"` // messages per second
	Egress  int64 `json:"egress"`

	Depth    int64 `json:"depth"`
	Memory   int64 `json:"memory_depth"`
	Disk     int64 `json:"disk_depth"`
	InFlight int64 `json:"in_flight"`
	Deferred int64 `json:"deferred"`

	Requeues int64 `json:"requeues"` // since the nsqds were started
	Timeouts int64 `json:"timeouts"`
	Messages int64 `json:"messages"`
	Clients  int64 `json:"clients"`
}

// line adds up the sample. The rates are those since the previous one.
func (s sample) line(opts *Options, previous sample) line {
	l := line{Time: s.when, Topic: opts.Topic, Channel: opts.Channel, NSQDs: len(s.nsqds), Seconds: s.when.Sub(previous.when).Seconds()}
	var in, out int64
	for addr, n := range s.nsqds {
		l.Depth += n.Depth
		l.Memory += n.Depth - n.BackendDepth
		l.Disk += n.BackendDepth
		l.InFlight += n.InFlight
		l.Deferred += n.Deferred
		l.Requeues += n.Requeues
		l.Timeouts += n.Timeouts
		l.Messages += n.Messages
		l.Clients += n.Clients
		if n.Paused {
			l.Paused++
		}
		if before, ok := previous.nsqds[addr]; ok {
			i, o := n.since(before)
			in, out = in+i, out+o
		}
	}
	l.Ingress, l.Egress = rate(in, l.Seconds), rate(out, l.Seconds)
	return l
}

// since returns how many messages came and went. The counters of an nsqd that was
// restarted started from 0 again, and what was in flight is back in its queue.
func (n nsqdSample) since(before nsqdSample) (in, out int64) {
	if n.started != before.started || n.Messages < before.Messages {
		return n.Messages, max(n.Messages-(n.Depth-before.Depth), 0)
	}
	in = n.Messages - before.Messages
	return in, in - (n.Depth - before.Depth)
}

func rate(messages int64, seconds float64) int64 {
	if seconds <= 0 {
		return 0
	}
	return int64(math.Round(float64(messages) / seconds))
}
