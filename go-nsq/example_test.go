package nsq_test

import (
	"flag"
	"fmt"

	"github.com/nsq-suite/nsq/go-nsq"
)

func ExampleConfigFlag() {
	cfg := nsq.NewConfig()
	flagSet := flag.NewFlagSet("", flag.ExitOnError)
	flagSet.Var(&nsq.ConfigFlag{cfg}, "consumer-opt", "option to pass to the Consumer (may be given multiple times)")

	err := flagSet.Parse([]string{
		"--consumer-opt=heartbeat_interval,1s",
		"--consumer-opt=max_attempts,10",
		"--consumer-opt=snappy",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(cfg.HeartbeatInterval, cfg.MaxAttempts, cfg.Snappy)
	// Output: 1s 10 true
}
