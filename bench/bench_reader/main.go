// Bench_reader measures how fast nsqd delivers what it has queued.
//
//	bench_reader [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-connections 4] [-rdy 2500] [-messages 400000] ...
//
// What it does is in package bench/internal/scenario, reader.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures how fast nsqd delivers: a channel is filled and then drained, each message
finished.`

const examples = `  bench_reader --nsqd-tcp-address=127.0.0.1:4150
  bench_reader --nsqd=build/nsqd --nsqd-flag=--mem-queue-size=1000000
  bench_reader --nsqd=build/nsqd --nsqd-flag=--mem-queue-size=0`

func main() {
	os.Exit(scenario.Command("bench_reader", summary, examples, scenario.NewReader()).Main())
}
