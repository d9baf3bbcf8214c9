package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nsq-suite/nsq/bench/internal/scenario"
	"github.com/nsq-suite/nsq/internal/config"
)

// An entry is a scenario with its settings.
type entry struct {
	name    string
	about   string
	command string   // the program that runs it alone, with its flags
	flags   []string // of nsqd
	limit   limit
}

// A limit is something that says what the machine can do at most; nil for none.
type limit func(context.Context, *options, scenario.Scenario) (scenario.Figures, error)

// What nsqd may be told: to keep all messages in memory, where the default is 10,000;
// to keep none there; and to answer when they are on disk.
var (
	inMemory = []string{"--mem-queue-size=10000000"}
	onDisk   = []string{"--mem-queue-size=0"}
	synced   = []string{"--mem-queue-size=0", "--sync-every=1"}
)

// scenarios are all there are. A run takes about half a second; --scale makes that
// longer.
var scenarios = []entry{
	{"pub-sync", "PUB, 4 connections, one outstanding each",
		"bench_writer --messages=40000 --window=1", inMemory, nullServer},
	{"pub-pipe", "PUB, 4 connections, 100 outstanding each",
		"bench_writer --messages=400000", inMemory, nullServer},
	{"mpub", "MPUB of 200, 4 connections, 4 outstanding each",
		"bench_writer --messages=1000000 --batch-size=200 --window=4", inMemory, nullServer},
	{"mpub-1k", "MPUB of 100 × 1 KiB, 4 connections, 4 outstanding each",
		"bench_writer --messages=200000 --size=1024 --batch-size=100 --window=4", inMemory, nullServer},
	{"http-pub", "HTTP /pub, 8 connections",
		"bench_http --messages=20000", inMemory, nullServer},
	{"drain", "a backlog in memory drained by 4 consumers",
		"bench_reader --messages=500000", inMemory, nullServer},
	{"e2e-mpub", "MPUB of 200 by 2 producers, and 2 consumers at once",
		"bench_channels --channels=1 --producers=2 --consumers=2 --messages=500000", inMemory, nullServer},
	{"e2e-pub", "PUB by 2 producers, 100 outstanding each, and 2 consumers at once",
		"bench_channels --channels=1 --producers=2 --consumers=2 --messages=200000 --batch-size=1 --window=100", inMemory, nullServer},
	{"fanout-8", "MPUB of 200 to 8 channels with a consumer each, per delivery",
		"bench_channels --channels=8 --messages=100000", inMemory, nullServer},
	{"disk-mpub", "all on disk: MPUB of 200, 4 connections, 4 outstanding each",
		"bench_writer --messages=400000 --batch-size=200 --window=4", onDisk, appends},
	{"disk-drain", "all on disk: a backlog drained by 4 consumers",
		"bench_reader --messages=400000", onDisk, nil},
	{"durable", "fsync before each OK: PUB, 16 connections, one outstanding each",
		"bench_writer --messages=8000 --connections=16 --window=1", synced, syncedAppends},
	{"durable-pipe", "fsync before each OK: PUB, 8 connections, 100 outstanding each",
		"bench_writer --messages=80000 --connections=8 --window=100", synced, syncedAppends},
	{"latency-1k", "1,000 messages a second",
		"bench_latency --rate=1000", nil, nil},
	{"latency-20k", "20,000 messages a second",
		"bench_latency --rate=20000", nil, nil},
	{"connections", "consumers that have nothing to do",
		"bench_connections --connections=2000", nil, nil},
	{"topics", "topics with a channel and a message",
		"bench_topics --topics=3000", nil, nil},
	{"deferred", "messages that are not due",
		"bench_deferred --messages=200000", inMemory, nil},
}

// programs are those of the commands.
var programs = map[string]func() scenario.Scenario{
	"bench_writer":      func() scenario.Scenario { return scenario.NewWriter() },
	"bench_http":        func() scenario.Scenario { return scenario.NewHTTP() },
	"bench_reader":      func() scenario.Scenario { return scenario.NewReader() },
	"bench_channels":    func() scenario.Scenario { return scenario.NewChannels() },
	"bench_latency":     func() scenario.Scenario { return scenario.NewLatency() },
	"bench_connections": func() scenario.Scenario { return scenario.NewConnections() },
	"bench_topics":      func() scenario.Scenario { return scenario.NewTopics() },
	"bench_deferred":    func() scenario.Scenario { return scenario.NewDeferred() },
}

// scenario reads the command.
func (e entry) scenario(scale float64) (scenario.Scenario, error) {
	words := strings.Fields(e.command)
	s := programs[words[0]]()
	flags := config.NewFlagSet(words[0], s)
	if err := flags.Parse(words[1:]); err != nil {
		return nil, err
	}
	if _, err := config.Load(s, flags, ""); err != nil {
		return nil, err
	}
	s.Scale(scale)
	return s, s.Check()
}

// aboutFlags reports whether the flags are what the scenario is about, so that it says
// nothing of an nsqd with others.
func (e entry) aboutFlags() bool { return slices.Contains(e.flags, onDisk[0]) }

// alone is the command line that runs the scenario alone.
func (e entry) alone() string {
	program, flags, _ := strings.Cut(e.command, " ")
	words := []string{program, "--nsqd=build/nsqd"}
	for _, f := range e.flags {
		words = append(words, "--nsqd-flag="+f)
	}
	return strings.Join(append(words, flags), " ")
}

// printList prints what each scenario is about, and the command that runs it alone.
func printList(w io.Writer, list []entry) error {
	for _, e := range list {
		if _, err := fmt.Fprintf(w, "%-12s %s\n             %s\n", e.name, e.about, e.alone()); err != nil {
			return err
		}
	}
	return nil
}
