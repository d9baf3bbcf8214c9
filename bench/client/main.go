// Client measures go-nsq against a real nsqd with a large memory queue: messages
// per second, and the CPU time that the client needs for each, which unlike the
// rate does not depend on what else the machine does.
//
//	client [-n 1000000] [-size 200] [-rounds 3] [-bin build]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/internal/suite"
)

func main() {
	binDir := flag.String("bin", "build", "`directory` of nsqd")
	messages := flag.Int("n", 1_000_000, "messages of a fast measurement; a slow one has fewer")
	size := flag.Int("size", 200, "bytes of a message body")
	rounds := flag.Int("rounds", 3, "how often to measure each; the median is printed")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binDir, *messages, *size, *rounds)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "client benchmark failed: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binDir string, messages, size, rounds int) (err error) {
	if messages < 1000 || size < 1 || rounds < 1 {
		return errors.New("-n must be at least 1000, -size and -rounds at least 1")
	}
	dataDir, err := os.MkdirTemp("", "nsq-client-")
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dataDir)) }()
	env := suite.Env{BinDir: binDir, DataDir: dataDir}
	nsqd, err := env.StartNSQD(ctx, "127.0.0.1:0", "127.0.0.1:0", "", fmt.Sprintf("--mem-queue-size=%d", 2*messages))
	if err != nil {
		return err
	}
	fmt.Printf("%-28s %12s %18s\n", "", "msg/s", "client CPU per msg")
	for _, l := range loads {
		if err = measure(ctx, nsqd, l, messages/l.share, size, rounds); err != nil {
			err = fmt.Errorf("%s: %w", l.name, err)
			break
		}
	}
	if err = errors.Join(err, nsqd.Stop(suite.StopTimeout)); err != nil {
		return nsqd.WithLog(err)
	}
	return nil
}

// measure runs a load a number of times and prints the medians.
func measure(ctx context.Context, nsqd *suite.Daemon, l load, n, size, rounds int) error {
	var took, cpu []time.Duration
	for range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		t := trial{ctx: ctx, addr: nsqd.TCPAddr, n: n, body: make([]byte, size)}
		if err := errors.Join(l.run(&t), nsqd.Post(ctx, "/topic/delete", "topic", topic)); err != nil {
			return err
		}
		took, cpu = append(took, t.took), append(cpu, t.cpu)
	}
	slices.Sort(took)
	slices.Sort(cpu)
	fmt.Printf("%-28s %12.0f %15.2f µs\n", l.name,
		float64(n)/took[rounds/2].Seconds(), float64(cpu[rounds/2].Nanoseconds())/float64(n)/1000)
	return nil
}
