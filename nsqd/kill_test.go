package nsqd_test

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/internal/suite"
	"github.com/nsq-suite/nsq/nsqd"
)

// kills is how often [TestKill] kills; `make kill` asks for 200.
var kills = flag.Int("kills", 10, "how often TestKill kills nsqd")

// What TestKill tells the process that it will kill. Without a memory queue size it
// is all on disk, with the usual times.
const (
	killedDataPath = "NSQD_KILLED_DATA_PATH"
	killedMemory   = "NSQD_KILLED_MEM_QUEUE_SIZE"
)

// killMemory is the memory queue size of the runs that are not all on disk.
const killMemory = 50

// TestDaemonToBeKilled is no test but the daemon of [TestKill]: this test binary
// started once more.
func TestDaemonToBeKilled(t *testing.T) {
	dataPath := os.Getenv(killedDataPath)
	if dataPath == "" {
		t.Skip("runs in the process that TestKill starts")
	}
	opts := nsqd.NewOptions()
	allOnDisk(dataPath)(opts)
	if memory := os.Getenv(killedMemory); memory != "" {
		n, err := strconv.ParseInt(memory, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		killOptions(dataPath, n)(opts)
	}
	opts.TCPAddress, opts.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0"
	opts.Logger = slog.New(logging.NewHandler(os.Stderr, opts.LogPrefix, slog.LevelInfo))
	n, err := nsqd.New(opts)
	if err == nil {
		err = n.Run(context.Background())
	}
	t.Fatal(err) // it should have been killed
}

// allOnDisk has files so small that the queues roll over many times.
func allOnDisk(dataPath string) func(*nsqd.Options) {
	return func(o *nsqd.Options) {
		o.DataPath = dataPath
		o.MemQueueSize = 0
		o.MaxBytesPerFile = 16 << 10
	}
}

// killOptions has times so short, too, that positions are saved and messages time
// out.
func killOptions(dataPath string, memory int64) func(*nsqd.Options) {
	return func(o *nsqd.Options) {
		allOnDisk(dataPath)(o)
		o.MemQueueSize = memory
		o.SyncEvery, o.SyncTimeout = 100, 20*time.Millisecond
		o.MsgTimeout = 300 * time.Millisecond
	}
}

// TestKill kills nsqd at random moments, again and again over the same files, while
// messages are published to a topic that is paused and resumed, and consumed from
// two channels: some finished, some requeued at once or after a delay, some held
// until they time out. Whatever nsqd had accepted and written to disk must come to
// both channels until it is finished there. Some messages may come twice; none may
// come that was never sent.
//
// With no memory queues that is every message that was accepted; with them, those
// published while the topic was paused and its memory was full.
func TestKill(t *testing.T) {
	for _, c := range []struct {
		name   string
		memory int64
		kills  int
	}{
		{"all on disk", 0, (*kills + 1) / 2},
		{"memory first", killMemory, *kills / 2},
	} {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%s, seed %d", c.name, seed), func(t *testing.T) {
			k := &killRun{
				t: t, random: rand.New(rand.NewPCG(seed, 0)), memory: c.memory, dataPath: t.TempDir(),
				books: killBooks{required: make(map[string]bool), sent: make(map[string]bool), finished: make(map[string]map[string]int)},
			}
			t.Setenv(killedDataPath, k.dataPath)
			t.Setenv(killedMemory, fmt.Sprint(c.memory))
			k.prepare()
			for range c.kills {
				k.killOnce()
			}
			k.drain()
		})
	}
}

var killChannels = []string{"one", "two"}

// A killRun is a sequence of kills over one data directory.
type killRun struct {
	t        *testing.T
	random   *rand.Rand
	memory   int64
	dataPath string
	books    killBooks
}

// prepare makes topic and channels, so that they are known to every later nsqd.
func (k *killRun) prepare() {
	d := daemon.Start(k.t, killOptions(k.dataPath, k.memory))
	for _, name := range killChannels {
		newKillConsumer(k.t, d.TCPAddr, name, 1, func(*nsq.Message) error { return nil }).stop()
	}
	d.Stop()
}

// killOnce starts nsqd, lets it work for a moment, and kills it.
func (k *killRun) killOnce() {
	self, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	victim, err := suite.Start(k.t.Context(), self, k.t.Output(), time.Second, "-test.run=^TestDaemonToBeKilled$")
	if err != nil {
		k.t.Fatal(err)
	}
	var stats suite.Stats
	if err := victim.GetJSON(k.t.Context(), "/stats", &stats, "format", "json"); err != nil {
		k.t.Fatal(err)
	}
	for _, name := range killChannels {
		channel, topicDepth, _ := stats.Channel("t", name)
		if missing := k.books.missing(name); int64(len(missing)) > topicDepth+channel.Depth {
			k.t.Fatalf("channel %s has %d messages, and the topic %d: at least %d are missing",
				name, channel.Depth, topicDepth, len(missing))
		}
	}

	var consumers []killConsumer
	release := make(chan struct{})
	for _, name := range killChannels {
		busy := newKillConsumer(k.t, victim.TCPAddr, name, 50, func(m *nsq.Message) error {
			k.books.answer(name, m)
			return nil
		})
		idle := newKillConsumer(k.t, victim.TCPAddr, name, 20, func(m *nsq.Message) error {
			m.DisableAutoResponse()
			<-release // holds its messages until nsqd is dead
			return nil
		})
		consumers = append(consumers, busy, idle)
	}
	life := 50*time.Millisecond + time.Duration(k.random.Int64N(int64(400*time.Millisecond)))
	killed := make(chan error, 1)
	time.AfterFunc(life, func() { killed <- victim.Kill() })
	k.publishUntilKilled(victim)
	if err := <-killed; err != nil {
		k.t.Fatal(err)
	}
	close(release)
	for _, c := range consumers {
		c.stop()
	}
}

// publishUntilKilled pauses the topic, publishes, resumes it and publishes some
// more, over and over.
func (k *killRun) publishUntilKilled(victim *suite.Daemon) {
	producer, err := nsq.NewProducer(victim.TCPAddr, nsq.NewConfig())
	if err != nil {
		k.t.Fatal(err)
	}
	producer.SetLogger(log.New(k.t.Output(), "", 0), nsq.LogLevelError)
	defer producer.Stop()
	for {
		if victim.Post(k.t.Context(), "/topic/pause", "topic", "t") != nil {
			return
		}
		for waiting := int64(0); waiting < 3*killMemory; waiting++ {
			if !k.publish(producer, waiting >= k.memory) {
				return
			}
		}
		if victim.Post(k.t.Context(), "/topic/unpause", "topic", "t") != nil {
			return
		}
		for range 10 {
			if !k.publish(producer, false) {
				return
			}
		}
	}
}

// publish sends some messages, or one to be deferred. It notes that they are on
// disk if that is known, or goes without saying: with no memory queues all are,
// unless they are deferred, for what goes straight to a channel to be deferred
// there is in memory. It returns false when nsqd is gone.
func (k *killRun) publish(producer *nsq.Producer, stored bool) bool {
	n := k.random.IntN(10)
	batch := k.books.newMessages(max(n, 1))
	var err error
	if n == 0 {
		err = producer.DeferredPublish("t", time.Duration(k.random.IntN(200))*time.Millisecond, batch[0])
	} else {
		err = producer.MultiPublish("t", batch)
	}
	if err != nil {
		return false
	}
	if stored || n > 0 && k.memory == 0 {
		k.books.accept(batch)
	}
	return true
}

// drain reads all that is left and compares. When all is finished nothing must be
// left on disk but what is still open for writing.
func (k *killRun) drain() {
	d := daemon.Start(k.t, killOptions(k.dataPath, k.memory))
	if err := suite.Post(k.t.Context(), d.HTTPAddr, "/topic/unpause", "topic", "t"); err != nil {
		k.t.Fatal(err)
	}
	for _, name := range killChannels {
		rest := newKillConsumer(k.t, d.TCPAddr, name, 50, func(m *nsq.Message) error {
			k.books.finish(name, m)
			return nil
		})
		k.awaitEmpty(d, name)
		rest.stop()
	}
	d.Stop()
	k.checkFiles()
	for _, name := range killChannels {
		twice := 0
		for body, n := range k.books.finished[name] {
			if !k.books.sent[body] {
				k.t.Errorf("message %.40q was never sent", body)
			}
			twice += n - 1
		}
		if missing := k.books.missing(name); len(missing) > 0 {
			k.t.Errorf("channel %s: %d of %d messages are lost, as %.20q", name, len(missing), len(k.books.required), missing[0])
		}
		k.t.Logf("channel %s: %d sent, %d accepted and on disk, %d finished, %d of them again",
			name, len(k.books.sent), len(k.books.required), len(k.books.finished[name]), twice)
	}
}

// awaitEmpty waits until a channel holds no message any more, and none can be on
// its way to it either: those that the books still miss.
func (k *killRun) awaitEmpty(d *daemon.Daemon, name string) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	err := suite.Poll(ctx, "nsqd to be empty", func() (bool, error) {
		var stats suite.Stats
		if err := suite.GetJSON(ctx, d.HTTPAddr, "/stats", &stats, "format", "json"); err != nil {
			return false, err
		}
		left, topicDepth, found := stats.Channel("t", name)
		empty := topicDepth+left.Depth+left.InFlight+left.Deferred == 0
		return found && empty && len(k.books.missing(name)) == 0, nil
	})
	if err != nil {
		k.t.Error(err)
	}
}

// checkFiles looks at what a clean stop leaves of queues whose messages are all
// finished: for each its positions, which say so, and its last file at most.
func (k *killRun) checkFiles() {
	dataFiles := make(map[string]int)
	entries, err := os.ReadDir(k.dataPath)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range entries {
		name, kind, isQueue := strings.Cut(e.Name(), ".diskqueue.")
		switch {
		case !isQueue:
		case kind == "meta.dat":
			b, err := os.ReadFile(filepath.Join(k.dataPath, e.Name()))
			lines := strings.Split(string(b), "\n")
			if err != nil || len(lines) < 3 || lines[0] != "0" || lines[1] != lines[2] {
				k.t.Errorf("positions of %s: %q, %v", name, b, err)
			}
		case filepath.Ext(kind) == ".dat" && strings.Trim(kind, "0123456789") == ".dat":
			dataFiles[name]++
		default:
			k.t.Errorf("%s is left", e.Name())
		}
	}
	for name, n := range dataFiles {
		if n > 1 {
			k.t.Errorf("%d data files of %s are left", n, name)
		}
	}
}

type killConsumer struct{ *nsq.Consumer }

func (c killConsumer) stop() {
	c.Stop()
	<-c.StopChan
}

func newKillConsumer(t *testing.T, addr, channel string, inFlight int, handle nsq.HandlerFunc) killConsumer {
	t.Helper()
	config := nsq.NewConfig()
	config.MaxInFlight = inFlight
	config.MaxAttempts = 0
	config.LookupdPollInterval = time.Minute // no reconnecting to a dead daemon
	consumer, err := nsq.NewConsumer("t", channel, config)
	if err != nil {
		t.Fatal(err)
	}
	consumer.SetLogger(log.New(t.Output(), "", 0), nsq.LogLevelMax)
	consumer.AddConcurrentHandlers(handle, inFlight)
	if err := consumer.ConnectToNSQD(addr); err != nil {
		t.Fatal(err)
	}
	return killConsumer{consumer}
}

// killBooks are what is known about the messages from outside.
type killBooks struct {
	mu       sync.Mutex // guards all below
	sent     map[string]bool
	required map[string]bool           // accepted, and on disk: they must come to each channel
	finished map[string]map[string]int // by channel
}

func (b *killBooks) newMessages(n int) (bodies [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		body := fmt.Sprintf("message %d %s", len(b.sent), strings.Repeat("x", 100))
		b.sent[body] = true
		bodies = append(bodies, []byte(body))
	}
	return bodies
}

func (b *killBooks) accept(bodies [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, body := range bodies {
		b.required[string(body)] = true
	}
}

// answer finishes most messages. Some it requeues, at once or for later, or keeps
// for itself until they time out.
func (b *killBooks) answer(channel string, m *nsq.Message) {
	switch rand.IntN(20) {
	case 0:
		m.RequeueWithoutBackoff(0)
	case 1:
		m.RequeueWithoutBackoff(time.Duration(rand.IntN(200)) * time.Millisecond)
	case 2:
		m.DisableAutoResponse()
	default:
		b.finish(channel, m)
	}
}

func (b *killBooks) finish(channel string, m *nsq.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished[channel] == nil {
		b.finished[channel] = make(map[string]int)
	}
	b.finished[channel][string(m.Body)]++
}

// missing returns the messages that are still to be finished in a channel.
func (b *killBooks) missing(channel string) (bodies []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for body := range b.required {
		if b.finished[channel][body] == 0 {
			bodies = append(bodies, body)
		}
	}
	return bodies
}
