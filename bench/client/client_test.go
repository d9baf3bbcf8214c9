package main

import (
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
)

// TestLoads runs each load once, on few messages.
func TestLoads(t *testing.T) {
	for _, l := range loads {
		t.Run(l.name, func(t *testing.T) {
			d := daemon.Start(t)
			trial := trial{ctx: t.Context(), addr: d.TCPAddr, n: 2000, body: make([]byte, 200)}
			if err := l.run(&trial); err != nil {
				t.Fatal(err)
			}
			if trial.took <= 0 {
				t.Error("it took no time")
			}
		})
	}
}
