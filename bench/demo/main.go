// Demo sends the lines of files through real nsqlookupd and nsqd processes,
// stops nsqd midway with messages queued, in flight and deferred, starts it
// again, and balances the books: every message published must be finished
// exactly once on each of two channels. It exits with 0 only if they balance
// and all daemons ended with exit code 0.
//
//	demo [-bin build] [-timeout 1m] [-v] [file ...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/internal/suite"
)

func main() {
	binDir := flag.String("bin", "build", "`directory` of nsqd and nsqlookupd")
	timeout := flag.Duration("timeout", time.Minute, "give up after this long")
	verbose := flag.Bool("v", false, "show what the daemons and clients log")
	flag.Parse()
	files := flag.Args()
	if len(files) == 0 {
		files = []string{"README.md", "LICENSE"}
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done after %v (-timeout)", *timeout))
	defer cancel()

	log := io.Discard
	if *verbose {
		log = os.Stderr
	}
	if err := run(ctx, *binDir, files, log); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo failed: %v\n", err)
		stop()
		cancel()
		os.Exit(1)
	}
}

// run prepares a data directory, tells the story in it and removes it.
func run(ctx context.Context, binDir string, files []string, log io.Writer) (err error) {
	start := time.Now()
	lines, err := readLines(files)
	if err != nil {
		return err
	}
	dataDir, err := os.MkdirTemp("", "nsq-demo-")
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dataDir)) }()

	env := suite.Env{BinDir: binDir, DataDir: dataDir, Log: log}
	if err := env.Check(); err != nil {
		return err
	}
	fmt.Printf("%d lines of %s, each sent twice to topic %q\n\n", len(lines), strings.Join(files, " and "), topic)
	s := newStory(env, lines, log)
	if err := s.close(s.tell(ctx)); err != nil {
		return err
	}
	fmt.Printf("the books balance; nsqd and nsqlookupd exited with 0; %.1f s\n", time.Since(start).Seconds())
	return nil
}

// thousands prints a rate rounded to whole messages, with separators.
func thousands(rate float64) string {
	digits := strconv.FormatInt(int64(rate+0.5), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
