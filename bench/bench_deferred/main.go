// Bench_deferred measures what deferred messages cost nsqd.
//
//	bench_deferred [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-messages 200000] [-delay 59m] ...
//
// What it does is in package bench/internal/scenario, deferred.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures what deferred messages cost nsqd while they wait: CPU, memory, time to
stop and to start.`

const examples = `  bench_deferred --nsqd-tcp-address=127.0.0.1:4150 --nsqd-pid=$(pidof nsqd)
  bench_deferred --nsqd=build/nsqd --messages=500000`

func main() {
	os.Exit(scenario.Command("bench_deferred", summary, examples, scenario.NewDeferred()).Main())
}
