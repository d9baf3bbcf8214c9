package nsqtail

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/tool"
)

// answers notes what becomes of messages.
type answers struct{ finished, requeued int }

func (a *answers) OnFinish(*nsq.Message)                       { a.finished++ }
func (a *answers) OnRequeue(*nsq.Message, time.Duration, bool) { a.requeued++ }
func (a *answers) OnTouch(*nsq.Message)                        {}

func (a *answers) message(body string) *nsq.Message {
	m := nsq.NewMessage(nsq.MessageID{}, []byte(body))
	m.Delegate = a
	return m
}

// writes keeps each Write apart, up to a number of them.
type writes struct {
	list []string
	room int
}

func (w *writes) Write(p []byte) (int, error) {
	if w.room == len(w.list) {
		return 0, errors.New("no room")
	}
	w.list = append(w.list, string(bytes.Clone(p)))
	return len(p), nil
}

func newPrinter(out *writes, configure func(*Options)) *printer {
	opts := NewOptions()
	configure(opts)
	env := tool.NewEnv("nsq_tail", nil, out, new(bytes.Buffer))
	return &printer{opts: opts, out: out, meter: opts.NewMeter(env, "shown", true), done: make(chan struct{})}
}

// A message is one write; what cannot be written goes back to nsqd and ends the
// tool.
func TestWriteError(t *testing.T) {
	out, a := &writes{room: 1}, &answers{}
	p := newPrinter(out, func(o *Options) { o.PrintTopic = true })
	for _, body := range []string{"first", "second", "third"} {
		if err := p.print("t", a.message(body)); err != nil {
			t.Error(err)
		}
	}
	<-p.done
	if a.requeued != 0 {
		t.Error("messages are given back before nsqd knows that no more are wanted")
	}
	p.giveBack()
	if err := p.print("t", a.message("fourth")); err != nil {
		t.Error(err)
	}
	if err := p.failure(); err == nil || err.Error() != "ERROR: failed to write to os.Stdout - no room" {
		t.Error(err)
	}
	if len(out.list) != 1 || out.list[0] != "t | first\n" || a.requeued != 3 || a.finished != 0 {
		t.Errorf("%q, %+v", out.list, a)
	}
}
