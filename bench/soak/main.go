// Soak publishes and consumes many messages at the same time through a real
// nsqd that keeps almost none of them in memory, and accounts for each: it
// exits with 0 only if every message was finished exactly once, unchanged, and
// nsqd holds none of them in the end.
//
//	soak [-n 1000000] [-size 200] [-mem-queue-size 100] [-consumers 4] ...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/internal/suite"
)

func main() {
	var l load
	binDir := flag.String("bin", "build", "`directory` of nsqd")
	dataDir := flag.String("data", "", "nsqd's data `directory`; empty for a temporary one")
	memQueue := flag.Int("mem-queue-size", 100, "nsqd's --mem-queue-size")
	timeout := flag.Duration("timeout", 10*time.Minute, "give up after this long")
	flag.IntVar(&l.messages, "n", 1_000_000, "messages")
	flag.IntVar(&l.size, "size", 200, "bytes of a message body, at least 8")
	flag.IntVar(&l.producers, "producers", 4, "connections that publish")
	flag.IntVar(&l.consumers, "consumers", 4, "connections that consume")
	flag.IntVar(&l.batch, "batch", 0, "messages per MPUB; 0 for pipelined PUBs")
	flag.IntVar(&l.inFlight, "in-flight", 500, "messages in flight of one consumer at most")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done after %v (-timeout)", *timeout))
	err := l.check()
	if err == nil {
		err = run(ctx, l, *binDir, *dataDir, *memQueue)
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak failed: %v\n", err)
		os.Exit(1)
	}
}

func (l load) check() error {
	if l.messages < 1 || l.size < 8 || l.producers < 1 || l.consumers < 1 || l.batch < 0 || l.inFlight < 1 {
		return errors.New("-n, -producers, -consumers and -in-flight must be above 0, -batch at least 0, -size at least 8")
	}
	return nil
}

func run(ctx context.Context, l load, binDir, dataDir string, memQueue int) (err error) {
	if dataDir == "" {
		if dataDir, err = os.MkdirTemp("", "nsq-soak-"); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dataDir)) }()
	}
	env := suite.Env{BinDir: binDir, DataDir: dataDir}
	nsqd, err := env.StartNSQD(ctx, "127.0.0.1:0", "127.0.0.1:0", "",
		fmt.Sprintf("--mem-queue-size=%d", memQueue), fmt.Sprintf("--max-rdy-count=%d", max(2500, l.inFlight)))
	if err != nil {
		return err
	}
	err = errors.Join(soak(ctx, l, nsqd), nsqd.Stop(suite.StopTimeout))
	if err != nil {
		return nsqd.WithLog(err)
	}
	return nil
}

func soak(ctx context.Context, l load, nsqd *suite.Daemon) error {
	a, err := l.run(ctx, nsqd.TCPAddr, log.New(os.Stderr, "", log.LstdFlags))
	fmt.Println(a)
	if err != nil {
		return err
	}
	if !a.balanced() {
		return errors.New("the books do not balance")
	}
	return suite.Poll(ctx, "nsqd to hold no message", func() (bool, error) {
		var stats suite.Stats
		if err := nsqd.GetJSON(ctx, "/stats", &stats, "format", "json"); err != nil {
			return false, err
		}
		left, topicDepth, found := stats.Channel(topic, channel)
		return found && topicDepth+left.Depth+left.InFlight+left.Deferred == 0, nil
	})
}
