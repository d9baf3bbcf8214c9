package main

import (
	"fmt"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
)

// A dimension is something of which there is more from step to step.
type dimension struct {
	name  string
	about string
	steps []step
	rule  rule
	flags []string // of nsqd
	limit bool     // the null server can do this
}

// A step is one load.
type step struct {
	name  string
	size  float64 // how much there is of what grows
	load  *scenario.Channels
	procs int // GOMAXPROCS of nsqd; 0 for its own choice
}

// A rule says what growth of the cost is a cliff.
type rule int

const (
	perMessage rule = iota // of a message
	perByte                // of a byte: a message has more of them
	none                   // the steps are of different kinds
)

// ample keeps all messages in memory.
var ample = []string{"--mem-queue-size=10000000"}

// dimensions are all there are. Without another word there are 300,000 messages of
// 200 bytes, by MPUB of 100 from two producers, one topic, one channel and one consumer
// with RDY 2500, all at the same time.
var dimensions = []dimension{
	grow("topics", "MPUB of 100 to topics in turn", perMessage, []int{1, 10, 100, 1000},
		func(n int, c *scenario.Channels) { c.Number, c.Messages = n, 600_000 }),
	grow("topics-pub", "PUB to topics in turn, 100 outstanding", perMessage, []int{1, 10, 100, 1000},
		func(n int, c *scenario.Channels) { c.Number = n; pub(c) }),
	grow("channels", "channels of one topic, per delivery", perMessage, []int{1, 10, 100, 1000},
		func(n int, c *scenario.Channels) { c.Channels, c.Messages = n, max(600_000/n, 600) }),
	grow("producers", "PUB by so many producers, 100 outstanding each", perMessage, []int{1, 2, 4, 8, 16, 32, 64},
		func(n int, c *scenario.Channels) { pub(c); c.Producers = n }),
	grow("producers-sync", "PUB by so many producers, one outstanding each", perMessage, []int{1, 2, 4, 8, 16, 32, 64},
		func(n int, c *scenario.Channels) { pub(c); c.Producers, c.Window, c.Messages = n, 1, 40_000 }),
	grow("consumers", "consumers of one channel", perMessage, []int{1, 2, 4, 8, 16, 32, 64},
		func(n int, c *scenario.Channels) { c.Consumers = n }),
	grow("bytes", "bytes of a body, PUB, at most 100 outstanding and 4 MiB", perByte, []int{16, 100, 1 << 10, 10 << 10, 100 << 10, 1 << 20},
		func(n int, c *scenario.Channels) {
			pub(c)
			c.Size = n
			c.Messages, c.Window = min(c.Messages, 512<<20/n), min(c.Window, max(4<<20/c.Producers/n, 1))
		}),
	grow("rdy", "RDY", perMessage, []int{1, 10, 100, 1000, 2500},
		func(n int, c *scenario.Channels) { c.RDY, c.Messages = n, min(c.Messages, 30_000*n) }),
	cpus(1, 2, 4),
	clientLayers("plain", "tls", "snappy", "deflate"),
	onDisk(grow("topics-disk", "MPUB of 100 to topics in turn, all on disk", perMessage, []int{1, 10, 100, 1000},
		// So many that those of a topic cost more than its files do, which come into being.
		func(n int, c *scenario.Channels) { c.Number, c.Messages = n, max(c.Messages, 1200*n) })),
}

// grow makes a dimension of loads that set has changed.
func grow(name, about string, r rule, sizes []int, set func(n int, c *scenario.Channels)) dimension {
	d := dimension{name: name, about: about, rule: r, flags: ample, limit: true}
	for _, n := range sizes {
		c := usual()
		set(n, c)
		d.steps = append(d.steps, step{name: fmt.Sprint(n), size: float64(n), load: c})
	}
	return d
}

// usual is the load that the dimensions change.
func usual() *scenario.Channels {
	c := scenario.NewChannels()
	c.Topic, c.Channels, c.Producers, c.Messages, c.BatchSize = "bench_scaling", 1, 2, 300_000, 100
	return c
}

// pub makes it a load of single messages.
func pub(c *scenario.Channels) { c.BatchSize, c.Window = 1, 100 }

// cpus are loads for which nsqd may use so many CPUs.
func cpus(sizes ...int) dimension {
	d := grow("cpus", "GOMAXPROCS of nsqd", perMessage, sizes, func(int, *scenario.Channels) {})
	for i, n := range sizes {
		d.steps[i].procs = n
	}
	return d
}

// clientLayers are loads of clients that ask for something over their sockets.
func clientLayers(names ...string) dimension {
	d := dimension{name: "layers", about: "what is over the sockets", rule: none, flags: ample}
	for _, name := range names {
		c := usual()
		if name != "plain" {
			c.Layer = name
		}
		d.steps = append(d.steps, step{name: name, load: c})
	}
	return d
}

// onDisk makes nsqd keep nothing in memory.
func onDisk(d dimension) dimension {
	d.flags, d.limit = []string{"--mem-queue-size=0"}, false
	return d
}
