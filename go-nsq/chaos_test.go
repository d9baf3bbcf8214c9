package nsq

import (
	"errors"
	"math/rand"
	"sync/atomic"
	"testing"
	"time"
)

// TestConsumerBooks disturbs a consumer in every way at once and then checks
// its books: the sum of RDY is what it is taken for and within max in flight,
// all of that is used in the end, and Stop ends. The servers always have messages:
// in backoff the one probe may otherwise wait at an nsqd that has none.
func TestConsumerBooks(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))

	config := NewConfig()
	config.MaxInFlight = 5
	config.DefaultRequeueDelay = 0
	config.MaxAttempts = 0
	config.BackoffMultiplier = time.Microsecond
	config.MaxBackoffDuration = time.Millisecond
	config.RDYRedistributeInterval = time.Millisecond
	config.LookupdPollInterval = 10 * time.Millisecond
	r := newTestConsumer(t, "endless", config)
	var calm atomic.Bool
	progress := make(chan struct{})
	r.AddConcurrentHandlers(HandlerFunc(func(m *Message) error {
		if m.Attempts == 1 && m.ID[MsgIDLength-1]%4 == 0 && !calm.Load() {
			return errors.New("now and then")
		}
		select {
		case progress <- struct{}{}:
		default:
		}
		return nil
	}), 4)

	servers := make([]*fakeNSQD, 4)
	for i := range servers {
		servers[i] = startServer(t, nil)
		if err := r.ConnectToNSQD(servers[i].tcpAddr()); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		receive(t, "progress", progress)
		switch server := servers[rng.Intn(len(servers))]; rng.Intn(10) {
		case 0:
			server.dropConnections()
		case 1:
			r.ChangeMaxInFlight(0)
			checkBooks(t, r)
			fallthrough
		default:
			r.ChangeMaxInFlight(1 + rng.Intn(10))
		}
		checkBooks(t, r)
	}
	calm.Store(true)
	r.ChangeMaxInFlight(9)
	waitFor(t, "all connections", func() bool { return r.Stats().Connections == len(servers) })
	waitFor(t, "full use of max in flight", func() bool { return sumOfRDY(r) == 9 })
	checkBooks(t, r)
}

// checkBooks compares the sum of RDY with what it is taken for. Connections
// that were closed are in neither.
func checkBooks(t *testing.T, r *Consumer) {
	t.Helper()
	waitFor(t, "balance of RDY", func() bool {
		r.rdyMtx.Lock()
		defer r.rdyMtx.Unlock()
		sum := int64(0)
		for _, c := range r.conns() {
			sum += c.RDY()
		}
		return sum == r.totalRdyInFlight && sum <= max(r.maxInFlight, 0)
	})
}
