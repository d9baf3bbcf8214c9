package load

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/suite"
	"github.com/nsq-suite/nsq/internal/tool/tooltest"
	"golang.org/x/sync/errgroup"
)

// connect starts an nsqd in the test's process and connects to it.
func connect(t *testing.T) *NSQD {
	d := daemon.Start(t)
	return Connect(d.TCPAddr, d.HTTPAddr, os.Getpid())
}

func dial(t *testing.T, n *NSQD, identify Identify) *Conn {
	t.Helper()
	c, err := n.Dial(t.Context(), identify)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// depth returns how many messages wait in a channel.
func depth(t *testing.T, n *NSQD, topic, channel string) suite.ChannelStats {
	t.Helper()
	stats, err := n.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, inTopic, _ := stats.Channel(topic, channel)
	c.Depth += inTopic
	return c
}

// Whatever the batch, the size and the number, as many messages are published as were
// asked for, and consumers that share them get them all and leave none behind.
func TestPublishAndConsume(t *testing.T) {
	for name, tt := range map[string]struct {
		messages  Messages
		n, window int
	}{
		"PUB, one outstanding":    {Messages{Size: 200}, 50, 1},
		"PUB, many outstanding":   {Messages{Size: 200}, 5000, 100},
		"MPUB":                    {Messages{Size: 200, Batch: 200}, 4000, 4},
		"MPUB, the last smaller":  {Messages{Size: 10, Batch: 7}, 100, 4},
		"MPUB, all in the last":   {Messages{Size: 10, Batch: 200}, 5, 4},
		"larger than the buffers": {Messages{Size: 3 * loadBuffer}, 20, 3},
		"empty but for one byte":  {Messages{Size: 1}, 1000, 1000},
		"nothing":                 {Messages{Size: 1}, 0, 1},
		"deferred, not for long":  {Messages{Size: 10, Defer: time.Millisecond}, 100, 10},
	} {
		t.Run(name, func(t *testing.T) {
			n := connect(t)
			tt.messages.Topic = "t"
			if err := n.Create(t.Context(), "t", "c"); err != nil {
				t.Fatal(err)
			}
			if err := dial(t, n, BigBuffers).Publish(tt.messages, tt.n, tt.window); err != nil {
				t.Fatal(err)
			}
			left := NewCountdown(tt.n)
			if tt.n == 0 {
				left.Stop()
			}
			var g errgroup.Group
			for range 3 {
				c := dial(t, n, nil)
				if err := c.Subscribe("t", "c"); err != nil {
					t.Fatal(err)
				}
				g.Go(func() error {
					return c.Consume(100, left, func(data []byte) {
						m, err := protocol.DecodeMessage(data)
						if err != nil || len(m.Body) != tt.messages.Size || m.Body[0] != 'x' {
							t.Errorf("message of %d bytes, %v", len(data), err)
						}
					})
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if left.Left() != 0 && tt.n > 0 {
				t.Errorf("%d messages left", left.Left())
			}
			if c := depth(t, n, "t", "c"); c.Depth+c.InFlight+c.Deferred != 0 {
				t.Errorf("nsqd still has %+v", c)
			}
		})
	}
}

func TestDeferred(t *testing.T) {
	n := connect(t)
	if err := n.Create(t.Context(), "t", "c"); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, n, nil).Publish(Messages{Topic: "t", Size: 10, Defer: time.Hour}, 50, 10); err != nil {
		t.Fatal(err)
	}
	if c := depth(t, n, "t", "c"); c.Deferred != 50 {
		t.Errorf("%+v", c)
	}
	if err := n.Delete(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if stats, err := n.Stats(t.Context()); err != nil || len(stats.Topics) != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// The stamps of paced messages are older when they arrive, and no message is lost.
func TestPace(t *testing.T) {
	n := connect(t)
	consumer, producer := dial(t, n, nil), dial(t, n, nil)
	if err := consumer.Subscribe("t", "c"); err != nil {
		t.Fatal(err)
	}
	var ages Histogram
	left := NewCountdown(500)
	var g errgroup.Group
	g.Go(func() error {
		return consumer.Consume(100, left, func(data []byte) {
			age := Age(data)
			if age <= 0 {
				t.Errorf("a message that is %v old", age)
			}
			ages.Add(age)
		})
	})
	start := time.Now()
	g.Go(func() error { return producer.PublishPaced(Messages{Topic: "t", Size: 200}, 500, 10_000) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 49*time.Millisecond {
		t.Errorf("500 messages at 10000/s took %v", took)
	}
	if ages.Count() != 500 || ages.Max() > time.Since(start) {
		t.Errorf("%d ages, the greatest %v", ages.Count(), ages.Max())
	}
}

// The end of a context ends everything that waits on its connections.
func TestEnd(t *testing.T) {
	n := connect(t)
	enough := errors.New("enough")
	for name, wait := range map[string]func(*Conn) error{
		"consumer": func(c *Conn) error {
			if err := c.Subscribe("t", "c"); err != nil {
				return err
			}
			return c.Consume(1, NewCountdown(1), nil)
		},
		"paced producer": func(c *Conn) error {
			return c.PublishPaced(Messages{Topic: "other"}, 1_000_000_000, 100)
		},
		"producer": func(c *Conn) error {
			return c.Publish(Messages{Topic: "many#ephemeral", Size: 10}, 1_000_000_000, 10)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			c, err := n.Dial(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			time.AfterFunc(10*time.Millisecond, func() { cancel(enough) })
			if err := wait(c); !errors.Is(err, enough) {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	n := connect(t)
	for want, do := range map[string]func() error{
		"connection refused": func() error {
			_, err := Connect("127.0.0.1:1", "", 0).Dial(t.Context(), nil)
			return err
		},
		"E_BAD_BODY": func() error {
			_, err := n.Dial(t.Context(), Identify{"output_buffer_size": 1})
			return err
		},
		"E_BAD_CHANNEL": func() error { return dial(t, n, nil).Subscribe("t", "*") },
		"E_BAD_TOPIC":   func() error { return dial(t, n, nil).Publish(Messages{Topic: "*", Size: 1}, 1, 1) },
		"answered E_BAD_TOPIC": func() error {
			return dial(t, n, nil).PublishPaced(Messages{Topic: "*"}, 1_000_000, 1000)
		},
		"E_INVALID":     func() error { return dial(t, n, nil).Consume(1, NewCountdown(1), nil) },
		"404 Not Found": func() error { return n.Do(t.Context(), http.MethodPost, "/no", nil) },
		"not started":   func() error { _, _, err := n.Restart(); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// An nsqd that was started is measured, keeps its messages over a restart, and leaves
// nothing behind.
func TestStart(t *testing.T) {
	n, err := Start(t.Context(), tooltest.Path("nsqd"), "", "--mem-queue-size=10")
	if err != nil {
		t.Fatal(err)
	}
	cost, err := n.Measure(func() error {
		return dial(t, n, nil).Publish(Messages{Topic: "t", Size: 200, Batch: 10}, 1000, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if cost.Wall <= 0 || cost.Measured != (runtime.GOOS == "linux") {
		t.Errorf("%+v", cost)
	}
	if cost.Measured && (cost.CPU <= 0 || cost.CPU > 100*cost.Wall || cost.Memory < 1<<20 || cost.Peak < cost.Memory) {
		t.Errorf("%+v", cost)
	}
	if err := n.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	stop, start, err := n.Restart()
	if err != nil || stop <= 0 || start <= 0 {
		t.Errorf("%v, %v, %v", stop, start, err)
	}
	if stats, err := n.Stats(t.Context()); err != nil || len(stats.Topics) != 1 || stats.Topics[0].Depth != 1000 {
		t.Errorf("%+v, %v", stats, err)
	}
	if _, err := os.Stat(filepath.Join(n.DataDir(), "nsqd.dat")); err != nil {
		t.Error(err)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.DataDir()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := n.Usage(); err == nil && runtime.GOOS == "linux" {
		t.Error("a process that is gone is measured")
	}
	if _, err := Start(t.Context(), tooltest.Path("nsqd"), "", "--msg-timeout=-1s"); err == nil || !strings.Contains(err.Error(), "msg-timeout") {
		t.Error(err)
	}
}
