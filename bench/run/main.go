// Run keeps nsqlookupd and nsqd in the foreground on NSQ's standard ports
// until Ctrl-C or SIGTERM, which it passes on. It exits with 0 if both ended
// with exit code 0.
//
//	run [-bin build] [-data build/data]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsq-suite/nsq/internal/suite"
)

const howTo = `
nsqlookupd  TCP %s  HTTP %s
nsqd        TCP %s  HTTP %s  data in %s

try       curl -d 'hello' 'http://%s/pub?topic=greetings'
          curl 'http://%s/lookup?topic=greetings'
          curl 'http://%s/stats'
          curl 'http://%s/metrics'     for Prometheus
stop      Ctrl-C

`

func main() {
	binDir := flag.String("bin", "build", "`directory` of nsqd and nsqlookupd")
	dataDir := flag.String("data", "build/data", "`directory` of nsqd's messages, made if missing")
	flag.Parse()
	if err := run(*binDir, *dataDir); err != nil {
		fmt.Fprintf(os.Stderr, "run failed: %v\n", err)
		os.Exit(1)
	}
}

func run(binDir, dataDir string) (err error) {
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env := suite.Env{BinDir: binDir, DataDir: dataDir, Log: os.Stderr}
	if err := env.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}

	// The daemons do not end with the signal's context, but one after the other:
	// nsqd first, while nsqlookupd still listens.
	ctx := context.Background()
	lookupd, err := env.StartLookupd(ctx, "127.0.0.1:4160", "127.0.0.1:4161", "--broadcast-address=127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lookupd.Stop(suite.StopTimeout)) }()
	nsqd, err := env.StartNSQD(ctx, "127.0.0.1:4150", "127.0.0.1:4151", lookupd.TCPAddr, "--broadcast-address=127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nsqd.Stop(suite.StopTimeout)) }()

	fmt.Printf(howTo, lookupd.TCPAddr, lookupd.HTTPAddr, nsqd.TCPAddr, nsqd.HTTPAddr, dataDir,
		nsqd.HTTPAddr, lookupd.HTTPAddr, nsqd.HTTPAddr, nsqd.HTTPAddr)
	select {
	case <-interrupted.Done():
		fmt.Println("\nstopping")
		return nil
	case <-nsqd.Done():
		return errors.New("nsqd ended by itself")
	case <-lookupd.Done():
		return errors.New("nsqlookupd ended by itself")
	}
}
