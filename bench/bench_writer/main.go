// Bench_writer measures how fast nsqd takes messages.
//
//	bench_writer [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-batch-size 1] [-window 100] [-messages 200000] ...
//
// What it does is in package bench/internal/scenario, writer.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures how fast nsqd takes messages: connections publish by PUB or MPUB, each
with some commands outstanding.`

const examples = `  bench_writer --nsqd-tcp-address=127.0.0.1:4150
  bench_writer --nsqd=build/nsqd --batch-size=200 --window=4 --messages=2000000
  bench_writer --nsqd=build/nsqd --nsqd-flag=--mem-queue-size=0 --nsqd-flag=--sync-every=1`

func main() {
	os.Exit(scenario.Command("bench_writer", summary, examples, scenario.NewWriter()).Main())
}
