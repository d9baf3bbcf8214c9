// Bench_connections measures what consumers cost nsqd that have nothing to do.
//
//	bench_connections [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-connections 2000] ...
//
// What it does is in package bench/internal/scenario, connections.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures what a consumer costs nsqd that has nothing to do: time to connect,
memory, CPU.`

const examples = `  bench_connections --nsqd-tcp-address=127.0.0.1:4150 --nsqd-pid=$(pidof nsqd)
  bench_connections --nsqd=build/nsqd --connections=5000`

func main() {
	os.Exit(scenario.Command("bench_connections", summary, examples, scenario.NewConnections()).Main())
}
