// Bench_http measures how fast nsqd takes messages over HTTP.
//
//	bench_http [-nsqd-tcp-address 127.0.0.1:4150 | -nsqd build/nsqd] [-messages 20000] [-connections 8] ...
//
// What it does is in package bench/internal/scenario, http.go.
package main

import (
	"os"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

const summary = `Measures how fast nsqd takes messages by POST /pub, over connections that stay open.`

const examples = `  bench_http --nsqd-http-address=127.0.0.1:4151
  bench_http --nsqd=build/nsqd --connections=16`

func main() {
	os.Exit(scenario.Command("bench_http", summary, examples, scenario.NewHTTP()).Main())
}
