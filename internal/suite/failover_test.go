//go:build unix

package suite

import (
	"context"
	"fmt"
	"io"
	"log"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
)

// TestLookupdFailures runs three nsqlookupds, nsqds and the client library, each
// daemon a process, and harms one nsqlookupd. Publishing, consuming and the
// discovery of new topics and new nsqds go on all the time, and when the harm is over
// the nsqlookupd knows everything again.
func TestLookupdFailures(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the daemons and waits for time limits")
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "github.com/nsq-suite/nsq/cmd/nsqd", "github.com/nsq-suite/nsq/cmd/nsqlookupd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		name string
		harm func(c *cluster) (heal func())
	}{
		{"down", func(c *cluster) func() {
			c.kill(0)
			return func() { c.restart(0) }
		}},
		{"hangs", func(c *cluster) func() {
			c.signal(0, syscall.SIGSTOP) // the kernel still accepts connections for it
			return func() { c.signal(0, syscall.SIGCONT) }
		}},
		{"restarts empty", func(c *cluster) func() {
			c.kill(0)
			c.restart(0)
			return func() {}
		}},
		{"answers slowly", func(c *cluster) func() { return c.slow(0) }},
		{"all restart empty", func(c *cluster) func() {
			for i := range c.lookupds {
				c.kill(i)
			}
			for i := range c.lookupds {
				c.restart(i)
			}
			return func() {}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, bin)
			first := c.startNSQD()
			early := c.consume("early")
			c.publish(first, "early", 10)
			early.await(10)

			heal := tt.harm(c)
			healed := sync.OnceFunc(heal)
			defer healed() // a stopped process does not end when it is told to
			c.publish(first, "early", 10)
			early.await(20)
			c.publish(first, "late", 10) // asks the nsqlookupds for channels
			late := c.consume("late")
			late.await(10)
			second := c.startNSQD()
			c.publish(second, "late", 10) // found by a consumer that runs
			late.await(20)
			for i := 1; i < len(c.lookupds); i++ {
				c.awaitNodes(i, "early", "late")
			}

			healed()
			for i := range c.lookupds {
				c.awaitNodes(i, "early", "late")
			}
			c.publish(first, "late", 10)
			late.await(30)
		})
	}
}

// A cluster is what one of the tests runs.
type cluster struct {
	t        *testing.T
	bin      string
	ctx      context.Context
	lookupds [3]*Daemon
	nsqds    []*Daemon
}

func startCluster(t *testing.T, bin string) *cluster {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, fmt.Errorf("a minute is over"))
	t.Cleanup(cancel)
	c := &cluster{t: t, bin: bin, ctx: ctx}
	for i := range c.lookupds {
		c.start(i, "127.0.0.1:0", "127.0.0.1:0")
	}
	return c
}

func (c *cluster) start(i int, tcpAddr, httpAddr string) {
	c.t.Helper()
	d, err := Env{BinDir: c.bin}.StartLookupd(context.WithoutCancel(c.ctx), tcpAddr, httpAddr, "--broadcast-address=127.0.0.1")
	if err != nil {
		c.t.Fatal(err)
	}
	c.lookupds[i] = d
	c.t.Cleanup(func() { _ = d.Stop(StopTimeout) }) // it may have been killed
}

// kill ends an nsqlookupd without a goodbye, restart starts another one in its place.
func (c *cluster) kill(i int) {
	c.t.Helper()
	if err := c.lookupds[i].Kill(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) restart(i int) {
	c.t.Helper()
	c.start(i, c.lookupds[i].TCPAddr, c.lookupds[i].HTTPAddr)
}

func (c *cluster) signal(i int, s syscall.Signal) {
	if err := c.lookupds[i].cmd.Process.Signal(s); err != nil {
		c.t.Error(err)
	}
}

// slow lets an nsqlookupd run for a few milliseconds in half a second.
func (c *cluster) slow(i int) (stop func()) {
	done := make(chan struct{})
	var stopping sync.WaitGroup
	stopping.Go(func() {
		for {
			c.signal(i, syscall.SIGSTOP)
			time.Sleep(500 * time.Millisecond) // in which it does nothing: that is what slow means here
			c.signal(i, syscall.SIGCONT)
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() {
		close(done)
		stopping.Wait()
	}
}

// startNSQD starts one more nsqd that registers with all nsqlookupds.
func (c *cluster) startNSQD() *Daemon {
	c.t.Helper()
	flags := []string{"--broadcast-address=127.0.0.1", "--http-client-request-timeout=1s"}
	for _, l := range c.lookupds {
		flags = append(flags, "--lookupd-tcp-address="+l.TCPAddr)
	}
	d, err := Env{BinDir: c.bin, DataDir: c.t.TempDir()}.StartNSQD(context.WithoutCancel(c.ctx), "127.0.0.1:0", "127.0.0.1:0", "", flags...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nsqds = append(c.nsqds, d)
	c.t.Cleanup(func() {
		if err := d.Stop(StopTimeout); err != nil {
			c.t.Error(d.WithLog(err))
		}
	})
	return d
}

// publish sends n messages. It may take as long as nsqd gives nsqlookupds to tell the
// channels of a new topic.
func (c *cluster) publish(d *Daemon, topic string, n int) {
	c.t.Helper()
	p, err := nsq.NewProducer(d.TCPAddr, nsq.NewConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	defer p.Stop()
	p.SetLogger(log.New(io.Discard, "", 0), nsq.LogLevelError)
	began := time.Now()
	for i := range n {
		if err := p.Publish(topic, fmt.Appendf(nil, "%s %d", d.TCPAddr, i)); err != nil {
			c.t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		c.t.Errorf("publishing to %s took %s", topic, took)
	}
}

// A consumer counts what it gets.
type consumer struct {
	c     *cluster
	topic string

	mu  sync.Mutex
	got int
}

// consume finds the topic through all nsqlookupds.
func (c *cluster) consume(topic string) *consumer {
	c.t.Helper()
	config := nsq.NewConfig()
	config.MaxInFlight = 10 // with less than one for each nsqd they take turns of seconds
	config.LookupdPollInterval = 100 * time.Millisecond
	config.LookupdPollTimeout = 300 * time.Millisecond
	client, err := nsq.NewConsumer(topic, "ch", config)
	if err != nil {
		c.t.Fatal(err)
	}
	client.SetLogger(log.New(io.Discard, "", 0), nsq.LogLevelError)
	counter := &consumer{c: c, topic: topic}
	client.AddHandler(nsq.HandlerFunc(func(*nsq.Message) error {
		counter.mu.Lock()
		defer counter.mu.Unlock()
		counter.got++
		return nil
	}))
	var addresses []string
	for _, l := range c.lookupds {
		addresses = append(addresses, l.HTTPAddr)
	}
	if err := client.ConnectToNSQLookupds(addresses); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		client.Stop()
		<-client.StopChan
	})
	return counter
}

// await waits until n messages have come.
func (x *consumer) await(n int) {
	x.c.t.Helper()
	err := Poll(x.c.ctx, fmt.Sprintf("%d messages of %s", n, x.topic), func() (bool, error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.got >= n, nil
	})
	if err != nil {
		x.c.t.Fatal(err)
	}
}

// awaitNodes waits until an nsqlookupd lists all nsqds and the topics.
func (c *cluster) awaitNodes(i int, topics ...string) {
	c.t.Helper()
	var nodes struct {
		Producers []struct {
			TCPPort int      `json:"tcp_port"`
			Topics  []string `json:"topics"`
		} `json:"producers"`
	}
	err := Poll(c.ctx, fmt.Sprintf("nsqlookupd %d to know everything", i), func() (bool, error) {
		if err := c.lookupds[i].GetJSON(c.ctx, "/nodes", &nodes); err != nil {
			return false, nil // it may be slow
		}
		known := map[string]bool{}
		for _, p := range nodes.Producers {
			for _, topic := range p.Topics {
				known[topic] = true
			}
		}
		return len(nodes.Producers) == len(c.nsqds) && !slices.ContainsFunc(topics, func(t string) bool { return !known[t] }), nil
	})
	if err != nil {
		c.t.Fatalf("%v: last answer %+v", err, nodes)
	}
}
