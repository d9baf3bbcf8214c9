package nsqd

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// lateness gathers how late things happened, in nanoseconds.
type lateness struct {
	mu  sync.Mutex
	all []int64
}

func (l *lateness) add(late int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, late)
}

// check logs the distribution and fails the test for n missing, an early one, or
// a 99th percentile above limit.
func (l *lateness) check(t *testing.T, what string, n int, limit time.Duration) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) != n {
		t.Fatalf("%s: %d of %d", what, len(l.all), n)
	}
	slices.Sort(l.all)
	at := func(percent int) time.Duration { return time.Duration(l.all[(n-1)*percent/100]) }
	t.Logf("%s: late by %v (median), %v (99 %%), %v (worst)", what, at(50), at(99), at(100))
	if at(0) < 0 {
		t.Errorf("%s: one came %v early", what, -at(0))
	}
	if at(99) > limit {
		t.Errorf("%s: 99 %% are late by up to %v, limit %v", what, at(99), limit)
	}
}

// 300 channels made a moment ago, each with messages that time out, while 50,000
// deferred messages (under the race detector 5,000) fall due over three seconds and
// are read by a consumer. None may be early. The limit is for a machine that is
// busy with other tests; on a quiet one it is 5 ms.
func TestDeadlinesOnTheRealClock(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds")
	}
	const (
		channels, perChannel = 300, 10
		limit                = 2 * time.Second
	)
	deferred := 50_000
	if nsqtest.RaceDetector {
		deferred = 5_000
	}
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = int64(2 * deferred); o.MsgTimeout = time.Minute })
	topic, err := d.GetTopic("t")
	if err != nil {
		t.Fatal(err)
	}
	c := d.dial().Sub("deferred", "ch").Rdy(2500)

	// A deferred message says in its body from when on it may come.
	var timeouts, ripe lateness
	p := d.dial()
	begin := time.Now()
	for i := range deferred {
		delay := 2*time.Second + time.Duration(i*7919%deferred)*3*time.Second/time.Duration(deferred)
		p.CommandBody(strconv.FormatInt(int64(time.Since(begin)+delay.Truncate(time.Millisecond)), 10), "DPUB", "deferred",
			strconv.FormatInt(delay.Milliseconds(), 10))
		if i%100 == 99 {
			for range 100 {
				p.ExpectOK()
			}
		}
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Logf("publishing took %v: the first were due meanwhile", took)
	}
	var timedOut sync.WaitGroup
	timedOut.Add(channels * perChannel)
	for i := range channels {
		ch, err := topic.GetChannel(fmt.Sprint("ch", i))
		if err != nil {
			t.Fatal(err)
		}
		table := newInFlight(d.keeper, func(table *inFlight, due []entry) {
			now := d.keeper.clock.now()
			for _, e := range due {
				timeouts.add(now - e.batch.nanos)
				timedOut.Done()
			}
			ch.expire(table, due)
		})
		for k := range perChannel {
			timeout := 500*time.Millisecond + time.Duration(k*channels+i)*time.Millisecond
			id := MessageID(fmt.Appendf(nil, "%016d", k))
			// The table's own clock reading is later than this one, by next to nothing.
			due := d.keeper.clock.now() + int64(timeout)
			table.start([]entry{recordOf(id, due, "")}, []MessageID{id}, timeout, new(tickets))
		}
	}
	for range deferred {
		m := c.ReadMessage()
		now := time.Since(begin)
		c.Fin(m.ID)
		due, err := strconv.ParseInt(m.Body, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ripe.add(int64(now) - due)
	}
	timedOut.Wait()
	timeouts.check(t, "timeouts", channels*perChannel, limit)
	ripe.check(t, "deferred messages, at their consumer", deferred, limit)
}
