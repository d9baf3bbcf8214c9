// Bench_topics measures what topics cost nsqd.
//
//	bench_topics [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-topics 2000] ...
//
// What it does is in package bench/internal/scenario, topics.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures what a topic with a channel and a message costs nsqd: time to create,
memory, CPU while nothing happens, time to stop and to start.`

const examples = `  bench_topics --nsqd-tcp-address=127.0.0.1:4150 --nsqd-pid=$(pidof nsqd)
  bench_topics --nsqd=build/nsqd --topics=10000`

func main() {
	os.Exit(scenario.Command("bench_topics", summary, examples, scenario.NewTopics()).Main())
}
