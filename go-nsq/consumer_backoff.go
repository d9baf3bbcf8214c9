package nsq

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Backoff: a failure raises the level and pauses the Consumer: all connections
// get RDY 0. After the pause one of them gets RDY 1, and its message is a probe:
// success lowers the level, failure raises it, each with another pause; at
// level 0 all connections get their share again. What is answered during a
// pause counts for nothing.

// resumeRetryDelay is how much longer a pause lasts that no connection can end.
const resumeRetryDelay = time.Second

// errNoConnection is why a pause cannot end.
var errNoConnection = errors.New("no connection")

// backoffSignal is what the answer to a message says about our health.
type backoffSignal int

const (
	resumeFlag   backoffSignal = iota // success
	backoffFlag                       // failure
	continueFlag                      // neither: the level stays
)

func (r *Consumer) onConnResume(*Conn)   { r.startStopContinueBackoff(resumeFlag) }
func (r *Consumer) onConnBackoff(*Conn)  { r.startStopContinueBackoff(backoffFlag) }
func (r *Consumer) onConnContinue(*Conn) { r.startStopContinueBackoff(continueFlag) }

func (r *Consumer) inBackoffLocked() bool {
	return r.backoffLevel.Load() > 0
}

// startStopContinueBackoff takes the signal of an answer that is about to be
// written; what it does to RDY is written before.
func (r *Consumer) startStopContinueBackoff(signal backoffSignal) {
	if signal != backoffFlag && r.backoffLevel.Load() == 0 {
		return // the usual case, without a lock
	}
	r.rdySendMtx.Lock()
	defer r.rdySendMtx.Unlock()
	before, level, counts := r.countSignal(signal)
	if !counts {
		return
	}
	if level == 0 {
		r.log(LogLevelWarning, "exiting backoff, all get their RDY", slog.Int64("max_in_flight", r.getMaxInFlight()))
		r.tellBackoff(0, 0)
		r.changeRDYSending(func() ([]*Conn, []refusal) { return r.shareRDYLocked(nil) })
		return
	}
	pause := min(r.config.BackoffStrategy.Calculate(int(level)), r.config.MaxBackoffDuration)
	r.log(LogLevelWarning, "backing off, setting all to RDY 0",
		slog.Duration("pause", pause), slog.Int("level", int(level)), slog.Int("before", int(before)))
	r.tellBackoff(level, pause)
	r.changeRDYSending(func() ([]*Conn, []refusal) { return r.clearRDYLocked(), nil })
	r.backoff(pause)
}

// countSignal changes the level as signal says, and begins a pause unless the
// new one is 0. It is false if the signal changes nothing.
func (r *Consumer) countSignal(signal backoffSignal) (before, level int32, counts bool) {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	before = r.backoffLevel.Load()
	if r.backoffPaused {
		return before, before, false
	}
	level = r.nextBackoffLevel(before, signal)
	r.backoffLevel.Store(level)
	r.backoffPaused = level > 0
	return before, level, level > 0 || before > 0
}

func (r *Consumer) tellBackoff(level int32, pause time.Duration) {
	if r.hooks.Backoff != nil {
		r.hooks.Backoff(int(level), pause)
	}
}

// nextBackoffLevel is the level after a signal. A level whose pause would
// exceed MaxBackoffDuration is not entered.
func (r *Consumer) nextBackoffLevel(level int32, signal backoffSignal) int32 {
	switch {
	case signal == resumeFlag && level > 0:
		return level - 1
	case signal == backoffFlag &&
		r.config.MaxBackoffDuration > 0 &&
		r.config.BackoffStrategy.Calculate(int(level)+1) <= r.config.MaxBackoffDuration:
		return level + 1
	}
	return level
}

// backoff lets the pause end after d. It begins only when all connections have
// been told RDY 0, so that the RDY of its end comes later.
func (r *Consumer) backoff(d time.Duration) {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	if !r.stopFlag.Load() {
		r.backoffTimer = time.AfterFunc(d, r.resume)
	}
}

// resume ends the pause with a probe: RDY 1 for a connection chosen at random.
func (r *Consumer) resume() {
	var probe *Conn
	var err error
	r.changeRDY(func() ([]*Conn, []refusal) {
		if r.stopFlag.Load() {
			r.backoffPaused = false
			return nil, nil
		}
		conns := r.rdyConns()
		if len(conns) == 0 {
			err = errNoConnection
			return nil, nil
		}
		probe = conns[rand.IntN(len(conns))]
		if err = r.updateRDYLocked(probe, 1); err != nil {
			return nil, nil
		}
		r.backoffPaused = false
		return []*Conn{probe}, nil
	})
	switch {
	case err != nil:
		r.log(LogLevelWarning, "cannot resume with RDY 1, backing off", slog.Duration("pause", resumeRetryDelay), errAttr(err))
		r.backoff(resumeRetryDelay)
	case probe != nil:
		r.log(LogLevelWarning, "backoff timeout expired, sent RDY 1", addrAttr(probe.addr))
	}
}
