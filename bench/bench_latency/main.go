// Bench_latency measures how long a message takes from PUB to the consumer.
//
//	bench_latency [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-rate 1000] [-duration 2s] ...
//
// What it does is in package bench/internal/scenario, latency.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures how long a message takes from PUB to the consumer, at a rate that nsqd
can easily keep.`

const examples = `  bench_latency --nsqd-tcp-address=127.0.0.1:4150
  bench_latency --nsqd=build/nsqd --rate=20000 --duration=10s`

func main() {
	os.Exit(scenario.Command("bench_latency", summary, examples, scenario.NewLatency()).Main())
}
