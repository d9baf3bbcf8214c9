package nsq

import (
	"log/slog"
	"time"
)

// Backoff: a failure raises the level and pauses the Consumer: all connections
// get RDY 0. After the pause one of them gets RDY 1, and its message is a probe:
// success lowers the level, failure raises it, each with another pause; at
// level 0 all connections get their share again. What is answered during a
// pause counts for nothing.

// resumeRetryDelay is how much longer a pause lasts that no connection can end.
const resumeRetryDelay = time.Second

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
	r.rdyMtx.Lock()
	if r.backoffPaused {
		r.rdyMtx.Unlock()
		return
	}
	before := r.backoffLevel.Load()
	level := r.nextBackoffLevel(before, signal)
	r.backoffLevel.Store(level)
	if level == 0 {
		r.rdyMtx.Unlock()
		if before > 0 {
			r.log(LogLevelWarning, "exiting backoff, all get their RDY", slog.Int64("max_in_flight", r.getMaxInFlight()))
			r.shareRDY(nil)
		}
		return
	}
	r.backoffPaused = true
	pause := min(r.config.BackoffStrategy.Calculate(int(level)), r.config.MaxBackoffDuration)
	changed := r.clearRDYLocked()
	r.rdyMtx.Unlock()

	r.log(LogLevelWarning, "backing off, setting all to RDY 0", slog.Duration("pause", pause), slog.Int("level", int(level)))
	r.sendRDY(changed...)
	r.backoff(pause)
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
	r.rdyMtx.Lock()
	conns := r.conns()
	if r.stopFlag.Load() {
		r.backoffPaused = false
		r.rdyMtx.Unlock()
		return
	}
	if len(conns) == 0 {
		r.rdyMtx.Unlock()
		r.log(LogLevelWarning, "no connection available to resume, backing off", slog.Duration("pause", resumeRetryDelay))
		r.backoff(resumeRetryDelay)
		return
	}
	c := conns[r.rng.Intn(len(conns))]
	err := r.updateRDYLocked(c, 1)
	if err == nil {
		r.backoffPaused = false
	}
	r.rdyMtx.Unlock()

	if err != nil {
		r.log(LogLevelWarning, "error resuming RDY 1, backing off", addrAttr(c.addr), slog.Duration("pause", resumeRetryDelay), errAttr(err))
		r.backoff(resumeRetryDelay)
		return
	}
	r.log(LogLevelWarning, "backoff timeout expired, sending RDY 1", addrAttr(c.addr))
	r.sendRDY(c)
}
