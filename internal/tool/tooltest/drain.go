package tooltest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/nsq-suite/nsq/go-nsq"
)

// Drain takes all messages that a channel holds, and returns them as they came.
func (n *NSQD) Drain(topic, channel string) []string {
	n.t.Helper()
	return n.DrainAtLeast(topic, channel, 0)
}

// DrainAtLeast is Drain for a channel that may not have got all messages yet: it
// waits for so many.
func (n *NSQD) DrainAtLeast(topic, channel string, messages int) []string {
	n.t.Helper()
	config := nsq.NewConfig()
	config.MaxInFlight = 1000
	c, err := nsq.NewConsumer(topic, channel, config)
	if err != nil {
		n.t.Fatal(err)
	}
	c.SetLogger(nil, nsq.LogLevelMax)
	var mu sync.Mutex // guards list
	var list []string
	c.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, string(m.Body))
		return nil
	}))
	if err := c.ConnectToNSQD(n.TCPAddr); err != nil {
		n.t.Fatal(err)
	}
	WaitFor(n.t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(list) < messages {
			return fmt.Errorf("%d messages, want %d", len(list), messages)
		}
		return nil
	})
	n.WaitEmpty(topic, channel)
	c.Stop()
	<-c.StopChan
	return slices.Clone(list)
}
