package nsqd

import (
	"context"
	"math"
	"sync"
	"time"
)

// A clock tells the time since the daemon started, in nanoseconds: the unit of
// all deadlines. Steps of the wall clock do not move it.
type clock struct{ start time.Time }

func (c clock) now() int64 { return int64(time.Since(c.start)) }

// A timekeeper calls whoever set an alarm, exactly when it is due: for messages
// in flight that were not answered in time and for deferred messages. One
// goroutine and one timer serve all channels, at no cost for messages that are
// answered.
//
// A tracker (a client's table of messages in flight, a channel's deferred
// messages) owns one alarm and sets it to its earliest deadline. It does not take
// it back when that deadline goes away: the alarm then finds nothing due and is
// set to what is the earliest by then.
type timekeeper struct {
	clock clock
	wake  chan struct{} // one token: the earliest alarm has changed

	mu   sync.Mutex // guards heap, and at and index of every alarm
	heap []*alarm   // by at
}

// An alarm is one wake-up call.
type alarm struct {
	// ring handles what is due at now. It may set the alarm again. It is called
	// by the timekeeper's goroutine, without locks.
	ring func(now int64)

	at    int64
	index int // position in the heap, from 1; 0 while not set
}

func newTimekeeper(c clock) *timekeeper {
	return &timekeeper{clock: c, wake: make(chan struct{}, 1)}
}

// set makes a ring at the latest at the given time. An alarm that is already set
// for an earlier time stays so: it will be set again when it finds nothing due.
func (k *timekeeper) set(a *alarm, at int64) {
	k.mu.Lock()
	if a.index > 0 && a.at <= at {
		k.mu.Unlock()
		return
	}
	a.at = at
	if a.index == 0 {
		k.heap = append(k.heap, a)
		a.index = len(k.heap)
	}
	k.up(a.index - 1)
	first := a.index == 1
	k.mu.Unlock()
	if first {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

// unset makes sure that a will not ring again, unless it is ringing just now.
func (k *timekeeper) unset(a *alarm) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.index > 0 {
		k.removeLocked(a.index - 1)
	}
}

// run rings alarms until ctx ends.
func (k *timekeeper) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
			return nil
		}
		next := k.ringDue()
		if next == math.MaxInt64 {
			timer.Stop()
			continue
		}
		timer.Reset(time.Duration(next - k.clock.now()))
	}
}

// ringDue rings what is due and returns when the next alarm is, or
// [math.MaxInt64].
func (k *timekeeper) ringDue() int64 {
	for {
		now := k.clock.now()
		k.mu.Lock()
		if len(k.heap) == 0 {
			k.mu.Unlock()
			return math.MaxInt64
		}
		a := k.heap[0]
		if at := a.at; at > now {
			k.mu.Unlock()
			return at
		}
		k.removeLocked(0)
		k.mu.Unlock()
		a.ring(now)
	}
}

func (k *timekeeper) removeLocked(i int) {
	last := len(k.heap) - 1
	k.heap[i].index = 0
	moved := k.heap[last]
	k.heap[last] = nil
	k.heap = k.heap[:last]
	if i < last {
		k.heap[i] = moved
		moved.index = i + 1
		k.up(i)
		k.down(moved.index - 1)
	}
}

func (k *timekeeper) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if k.heap[parent].at <= k.heap[i].at {
			return
		}
		k.swap(i, parent)
		i = parent
	}
}

func (k *timekeeper) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(k.heap); c++ {
			if k.heap[c].at < k.heap[least].at {
				least = c
			}
		}
		if least == i {
			return
		}
		k.swap(i, least)
		i = least
	}
}

func (k *timekeeper) swap(i, j int) {
	k.heap[i], k.heap[j] = k.heap[j], k.heap[i]
	k.heap[i].index, k.heap[j].index = i+1, j+1
}
