// Bench_channels measures how fast messages get through nsqd, to one channel or many, of
// one topic or many.
//
//	bench_channels [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-channels 8] [-producers 1] [-consumers 1] ...
//
// What it does is in package bench/internal/scenario, channels.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures how fast messages get through nsqd: producers, and the consumers of a
number of channels of one topic or more, at the same time, with TLS or a compression if
asked for.`

const examples = `  bench_channels --nsqd-tcp-address=127.0.0.1:4150
  bench_channels --nsqd=build/nsqd --channels=1 --producers=2 --consumers=2
  bench_channels --nsqd=build/nsqd --batch-size=1 --window=100
  bench_channels --nsqd=build/nsqd --topics=1000 --channels=1`

func main() {
	os.Exit(scenario.Command("bench_channels", summary, examples, scenario.NewChannels()).Main())
}
