// Lookupd shows what an nsqlookupd costs as the cluster grows, and how a storm goes:
// it lets simulated nsqds register their topics with a real nsqlookupd, kills that,
// starts it again empty, and measures how long it takes until everything is known
// again and how long queries take meanwhile. It prints one line of a table for each
// number of nsqds.
//
//	lookupd [-bin build] [-nsqds 10,100,1000] [-topics 5000] [-share 0.1] [-channels 2]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nsq-suite/nsq/internal/suite"
)

// A cluster is the size of what is simulated.
type cluster struct {
	nsqds    int
	topics   int // of the whole cluster
	perNSQD  int // of them that each nsqd has
	channels int // of each topic
}

// registrations is how many topics and channels all nsqds register together.
func (c cluster) registrations() int { return c.nsqds * c.perNSQD * (1 + c.channels) }

func main() {
	binDir := flag.String("bin", "build", "`directory` of nsqlookupd")
	sizes := flag.String("nsqds", "10,30,100,300,1000", "numbers of nsqds to simulate")
	topics := flag.Int("topics", 5000, "topics of the cluster")
	share := flag.Float64("share", 0.1, "part of the topics that each nsqd has, above 0 and up to 1")
	channels := flag.Int("channels", 2, "channels of each topic")
	timeout := flag.Duration("timeout", 10*time.Minute, "give up after this long")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done after %v (-timeout)", *timeout))
	err := run(ctx, *binDir, *sizes, cluster{topics: *topics, perNSQD: int(*share * float64(*topics)), channels: *channels})
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "lookupd failed: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binDir, sizes string, c cluster) error {
	if c.perNSQD < 1 || c.perNSQD > c.topics || c.channels < 1 {
		return errors.New("-topics and -channels must be above 0, -share must leave each nsqd a topic and at most all")
	}
	fmt.Printf("%d topics with %d channels, %d of them on each nsqd; log level info\n\n", c.topics, c.channels, c.perNSQD)
	fmt.Println(header)
	for size := range strings.SplitSeq(sizes, ",") {
		var err error
		if c.nsqds, err = strconv.Atoi(size); err != nil || c.nsqds < 1 {
			return fmt.Errorf("-nsqds: %q is not a number above 0", size)
		}
		r, err := measure(ctx, suite.Env{BinDir: binDir}, c)
		if err != nil {
			return err
		}
		fmt.Println(r)
	}
	return nil
}

// measure runs one cluster from the first registration to the end of the storm.
func measure(ctx context.Context, env suite.Env, c cluster) (r result, err error) {
	r.cluster = c
	lookupd, err := env.StartLookupd(ctx, "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	// Registrations that begin at different times keep the topics from being
	// announced in step.
	nsqds := startNodes(ctx, c, lookupd.TCPAddr)
	defer nsqds.stop()
	if err := nsqds.awaitRegistered(ctx, 1); err != nil {
		return r, lookupd.WithLog(err)
	}

	// The storm: all nsqds find the connection gone at the same moment.
	if err := lookupd.Kill(); err != nil {
		return r, err
	}
	lookupd, err = env.StartLookupd(ctx, lookupd.TCPAddr, lookupd.HTTPAddr)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lookupd.Stop(suite.StopTimeout)) }()
	began := time.Now()
	storm := startQueries(ctx, lookupd.HTTPAddr, c)
	err = nsqds.awaitRegistered(ctx, 2)
	r.converged = time.Since(began)
	r.storm = storm.stop()
	if err != nil {
		return r, lookupd.WithLog(err)
	}
	r.cpu, r.memory = usage(lookupd.PID())

	calm := startQueries(ctx, lookupd.HTTPAddr, c)
	select {
	case <-ctx.Done():
	case <-time.After(3 * time.Second):
	}
	r.calm = calm.stop()
	if r.storm.err != nil || r.calm.err != nil {
		return r, lookupd.WithLog(errors.Join(r.storm.err, r.calm.err))
	}
	return r, context.Cause(ctx)
}
