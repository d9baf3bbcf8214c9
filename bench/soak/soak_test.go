package main

import (
	"log"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/nsqd"
)

// TestEveryMessageOnce is the acceptance load, reduced to what the race detector
// does in a few seconds: far more messages than memory has room for, published
// and consumed at once, none lost, doubled or damaged. `make soak` runs it in
// full against a daemon of its own.
func TestEveryMessageOnce(t *testing.T) {
	messages := 50_000
	if testing.Short() {
		messages = 5_000
	}
	for _, row := range []struct {
		name     string
		memQueue int64
		batch    int
		messages int
	}{
		{"PUB, 100 in memory", 100, 0, messages},
		{"MPUB, 100 in memory", 100, 50, messages},
		{"all on disk", 0, 50, messages / 5},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := daemon.Start(t, func(o *nsqd.Options) { o.MemQueueSize = row.memQueue })
			l := load{messages: row.messages, size: 200, producers: 4, consumers: 4, batch: row.batch, inFlight: 500}
			a, err := l.run(t.Context(), d.TCPAddr, log.New(t.Output(), "", log.LstdFlags))
			t.Log(a)
			if err != nil {
				t.Fatal(err)
			}
			if !a.balanced() {
				t.Error("the books do not balance")
			}
		})
	}
}
