package nsqd_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"os"
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

// killedDataPath names the data directory to TestDaemonToBeKilled.
const killedDataPath = "NSQD_KILLED_DATA_PATH"

// TestDaemonToBeKilled is no test but the daemon of [TestKill]: this test binary
// started once more.
func TestDaemonToBeKilled(t *testing.T) {
	dataPath := os.Getenv(killedDataPath)
	if dataPath == "" {
		t.Skip("runs in the process that TestKill starts")
	}
	opts := nsqd.NewOptions()
	allOnDisk(dataPath)(opts)
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

// TestKill kills nsqd at a random moment, while messages are published and
// consumed. With nothing in memory, whatever it had confirmed must come after a
// restart if it was queued or on its way from topic to channel. What was in
// flight may be lost: it was read from disk, and its consumers had it. Some
// messages may come twice; none may come that was never sent.
func TestKill(t *testing.T) {
	for i := range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%d of 3, seed %d", i+1, seed), func(t *testing.T) {
			killOnce(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func killOnce(t *testing.T, random *rand.Rand) {
	dataPath := t.TempDir()
	t.Setenv(killedDataPath, dataPath)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim, err := suite.Start(t.Context(), self, t.Output(), time.Second, "-test.run=^TestDaemonToBeKilled$")
	if err != nil {
		t.Fatal(err)
	}

	books := killBooks{confirmed: map[string]bool{}, finished: map[string]int{}}
	const busyInFlight, idleInFlight = 50, 20
	busy := newKillConsumer(t, victim.TCPAddr, busyInFlight, func(m *nsq.Message) error {
		books.finish(m)
		return nil
	})
	release := make(chan struct{})
	idle := newKillConsumer(t, victim.TCPAddr, idleInFlight, func(*nsq.Message) error {
		<-release // holds its messages until nsqd is dead
		return nil
	})
	killAfter := 500 + random.IntN(1500)
	sent := books.publishUntilKilled(t, victim, killAfter)
	idle.Stop()
	close(release)
	busy.Stop()
	<-idle.StopChan
	<-busy.StopChan

	again := daemon.Start(t, allOnDisk(dataPath))
	rest := newKillConsumer(t, again.TCPAddr, busyInFlight, func(m *nsq.Message) error {
		books.finish(m)
		return nil
	})
	awaitEmpty(t, again)
	rest.Stop()
	<-rest.StopChan
	missing := books.missing()
	if len(missing) > busyInFlight+idleInFlight {
		t.Errorf("%d of %d confirmed messages are lost, as %.20q", len(missing), len(books.confirmed), missing[0])
	}
	twice := 0
	for body, n := range books.finished {
		var number int
		if _, err := fmt.Sscanf(body, "message %d", &number); err != nil || number >= sent || body != string(killMessage(number)) {
			t.Errorf("message %.40q was never sent", body)
		}
		twice += n - 1
	}
	t.Logf("killed after %d: %d sent, %d confirmed, %d in flight lost, %d finished twice",
		killAfter, sent, len(books.confirmed), len(missing), twice)
}

func newKillConsumer(t *testing.T, addr string, inFlight int, handle nsq.HandlerFunc) *nsq.Consumer {
	t.Helper()
	config := nsq.NewConfig()
	config.MaxInFlight = inFlight
	config.MaxAttempts = 0
	config.LookupdPollInterval = time.Minute // no reconnecting to a dead daemon
	consumer, err := nsq.NewConsumer("t", "ch", config)
	if err != nil {
		t.Fatal(err)
	}
	consumer.SetLogger(log.New(t.Output(), "", 0), nsq.LogLevelError)
	consumer.AddConcurrentHandlers(handle, inFlight)
	if err := consumer.ConnectToNSQD(addr); err != nil {
		t.Fatal(err)
	}
	return consumer
}

func killMessage(number int) []byte {
	return fmt.Appendf(nil, "message %d %s", number, strings.Repeat("x", 100))
}

// killBooks are what is known about the messages from outside.
type killBooks struct {
	mu        sync.Mutex // guards all below
	confirmed map[string]bool
	finished  map[string]int
}

func (b *killBooks) finish(m *nsq.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished[string(m.Body)]++
}

// publishUntilKilled publishes batches, kills the daemon once it has confirmed
// killAfter messages, and returns how many were sent in all.
func (b *killBooks) publishUntilKilled(t *testing.T, victim *suite.Daemon, killAfter int) (sent int) {
	producer, err := nsq.NewProducer(victim.TCPAddr, nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	producer.SetLogger(log.New(t.Output(), "", 0), nsq.LogLevelError)
	defer producer.Stop()
	killed := make(chan error, 1)
	for {
		var batch [][]byte
		for range 5 {
			batch = append(batch, killMessage(sent))
			sent++
		}
		if err := producer.MultiPublish("t", batch); err != nil {
			break // the daemon is gone
		}
		b.mu.Lock()
		for _, body := range batch {
			b.confirmed[string(body)] = true
		}
		confirmed := len(b.confirmed)
		b.mu.Unlock()
		if confirmed >= killAfter && confirmed < killAfter+5 {
			go func() { killed <- victim.Kill() }() // while publishing goes on
		}
	}
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	return sent
}

// missing returns the confirmed messages that were never finished.
func (b *killBooks) missing() (bodies []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for body := range b.confirmed {
		if b.finished[body] == 0 {
			bodies = append(bodies, body)
		}
	}
	return bodies
}

// awaitEmpty waits until the daemon holds no message any more.
func awaitEmpty(t *testing.T, d *daemon.Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := suite.Poll(ctx, "nsqd to be empty", func() (bool, error) {
		var stats suite.Stats
		if err := suite.GetJSON(ctx, d.HTTPAddr, "/stats", &stats, "format", "json"); err != nil {
			return false, err
		}
		left, topicDepth, found := stats.Channel("t", "ch")
		return found && topicDepth+left.Depth+left.InFlight+left.Deferred == 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
