// Guard fails if nsqd has become expensive: if under one of a few small loads it
// allocates more for each message, keeps more memory, or needs more CPU time in
// relation to the null server, than what is written down in table.go with some slack.
// Rates are not looked at, as they depend on what else the machine does.
//
// The tests run it as a program, so that nothing it measures is compiled for the race
// detector, nor the load itself. By hand it prints what is to be written down when
// nsqd has become better.
//
//	guard [-bin build]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/suite"
)

func main() {
	binDir := flag.String("bin", "build", "`directory` of nsqd; the null server is there or in bench/ below it")
	timeout := flag.Duration("timeout", 5*time.Minute, "give up after this long")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done after %v (-timeout)", *timeout))
	err := run(ctx, program(*binDir, "nsqd"), program(*binDir, "null"))
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "guard failed: %v\n", err)
		os.Exit(1)
	}
}

// program is where a program is, in dir or, after make build, in bench below it.
func program(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	path := filepath.Join(dir, "bench", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return filepath.Join(dir, name)
}

// run puts the loads on their daemons, prints what each costs, and returns what costs
// too much.
func run(ctx context.Context, nsqd, null string) (err error) {
	var b bench
	if b.memory, err = load.Start(ctx, nsqd, "", "--mem-queue-size=1000000"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.memory.Stop()) }()
	if b.disk, err = load.Start(ctx, nsqd, "", "--mem-queue-size=0"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.disk.Stop()) }()
	limit, err := suite.Start(ctx, null, nil, suite.StopTimeout, "-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, limit.Stop(suite.StopTimeout)) }()
	b.null = load.Connect(limit.TCPAddr, limit.HTTPAddr, limit.PID())

	fmt.Printf("%-44s %s\n", "for each message", header)
	var exceeded []error
	for _, r := range table {
		got, err := b.lowest(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		fmt.Printf("%-44s %s\n", r.name, got)
		exceeded = append(exceeded, r.check(got))
	}
	return errors.Join(exceeded...)
}
