package nsq

import (
	"slices"
	"time"
)

// RDY is a ceiling that nsqd keeps, per connection, on our messages in flight.
// The sum over all connections is kept at or below max in flight.
//
// All RDY counts, their sum, and the state of backoff change together under
// rdyMtx; only then, without the lock, the connections concerned are told
// (sendRDY). Each is told the newest count, so updates that overlap do no harm.

// rdyRetryDelay is how long after a refused update a connection without RDY is
// tried again.
const rdyRetryDelay = 5 * time.Second

// starvedShare is how much of a connection's RDY must be in flight for the
// Consumer to be starved. Source: "Building client libraries", nsq.io.
const starvedShare = 0.85

// ChangeMaxInFlight changes max in flight, at once unless in backoff. 0 pauses
// the Consumer.
func (r *Consumer) ChangeMaxInFlight(maxInFlight int) {
	r.rdyMtx.Lock()
	if r.maxInFlight == int64(maxInFlight) {
		r.rdyMtx.Unlock()
		return
	}
	r.maxInFlight = int64(maxInFlight)
	if !r.inBackoffLocked() {
		r.rdyMtx.Unlock()
		r.shareRDY(nil)
		r.shedRDY()
		return
	}
	var changed []*Conn
	if r.totalRdyInFlight > r.maxInFlight {
		changed = r.clearRDYLocked()
	}
	r.needRDYRedistributed = true // there may be no connection left to end the backoff
	r.rdyMtx.Unlock()
	r.sendRDY(changed...)
}

func (r *Consumer) getMaxInFlight() int64 {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	return r.maxInFlight
}

// IsStarved says whether a connection has nearly as many messages in flight as
// its RDY allows: time to work off what was received.
func (r *Consumer) IsStarved() bool {
	for _, c := range r.conns() {
		inFlight := c.inFlight.Load()
		if inFlight > 0 && !c.IsClosing() && inFlight >= int64(starvedShare*float64(c.RDY())) {
			return true
		}
	}
	return false
}

// shareRDY gives each connection its share of max in flight, unless in backoff.
// Connections that give some up come first, to make room, and a new one, if not
// nil, last.
func (r *Consumer) shareRDY(newConn *Conn) {
	conns := r.conns()
	lower := func(c *Conn) bool { return r.perConnMaxInFlight(conns, c) < c.RDY() }
	for _, c := range conns {
		if c != newConn && lower(c) {
			r.maybeUpdateRDY(c)
		}
	}
	for _, c := range conns {
		if c != newConn && !lower(c) {
			r.maybeUpdateRDY(c)
		}
	}
	if newConn != nil {
		r.maybeUpdateRDY(newConn)
	}
}

// shedRDY takes RDY away where the shares, 1 at least, add up to more than max
// in flight. redistributeRDY lets the connections take turns.
func (r *Consumer) shedRDY() {
	var changed []*Conn
	r.rdyMtx.Lock()
	for _, c := range r.conns() {
		if r.totalRdyInFlight > r.maxInFlight {
			_ = r.updateRDYLocked(c, 0) // refused only by a connection that is closing
			changed = append(changed, c)
		}
	}
	r.rdyMtx.Unlock()
	r.sendRDY(changed...)
}

// maybeUpdateRDY gives a connection its share, unless in backoff.
func (r *Consumer) maybeUpdateRDY(c *Conn) {
	if err := r.updateRDYUnlessInBackoff(c); err != nil {
		r.log(LogLevelWarning, "RDY update refused", addrAttr(c.addr), errAttr(err))
		return
	}
	r.sendRDY(c)
}

func (r *Consumer) updateRDYUnlessInBackoff(c *Conn) error {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	if r.inBackoffLocked() {
		return nil
	}
	return r.updateRDYLocked(c, r.shareOfLocked(r.conns(), c))
}

// perConnMaxInFlight is shareOfLocked for those who do not hold the lock.
func (r *Consumer) perConnMaxInFlight(conns []*Conn, c *Conn) int64 {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	return r.shareOfLocked(conns, c)
}

// shareOfLocked is the share of c: max in flight divided by the connections,
// the first ones getting what remains, but at least 1.
func (r *Consumer) shareOfLocked(conns []*Conn, c *Conn) int64 {
	n := int64(len(conns))
	switch {
	case r.maxInFlight == 0:
		return 0
	case n == 0:
		return r.maxInFlight
	case r.maxInFlight < n:
		return 1
	}
	share := r.maxInFlight / n
	if int64(slices.Index(conns, c)) < r.maxInFlight%n {
		share++
	}
	return share
}

// updateRDYLocked records count, or as much of it as nsqd accepts and max in
// flight leaves, as the RDY of c. Without any room it is ErrOverMaxInFlight, and
// a connection without RDY is tried again later. A lower count is never refused.
func (r *Consumer) updateRDYLocked(c *Conn, count int64) error {
	if c.IsClosing() {
		return ErrClosing
	}
	count = min(count, c.MaxRDY())
	r.cancelRDYRetryLocked(c)

	rdy := c.RDY()
	if count > rdy {
		room := r.maxInFlight - r.totalRdyInFlight + rdy
		if room <= 0 {
			if rdy == 0 {
				r.rdyRetryTimers[c.addr] = time.AfterFunc(rdyRetryDelay, func() { r.retryRDY(c, count) })
			}
			return ErrOverMaxInFlight
		}
		count = min(count, room)
	}
	if count != 0 || rdy != 0 {
		r.totalRdyInFlight += count - rdy
		c.SetRDY(count)
	}
	return nil
}

// cancelRDYRetryLocked says whether there was a retry to cancel.
func (r *Consumer) cancelRDYRetryLocked(c *Conn) bool {
	timer, ok := r.rdyRetryTimers[c.addr]
	if ok {
		timer.Stop()
		delete(r.rdyRetryTimers, c.addr)
	}
	return ok
}

// retryRDY tries a refused update again. In backoff there is nothing to try:
// its end gives every connection its share.
func (r *Consumer) retryRDY(c *Conn, count int64) {
	r.rdyMtx.Lock()
	if r.stopFlag.Load() || r.inBackoffLocked() {
		r.cancelRDYRetryLocked(c)
		r.rdyMtx.Unlock()
		return
	}
	err := r.updateRDYLocked(c, count)
	r.rdyMtx.Unlock()
	if err == nil {
		r.sendRDY(c)
	}
}

// clearRDYLocked records RDY 0 for all connections and returns them.
func (r *Consumer) clearRDYLocked() []*Conn {
	conns := r.conns()
	for _, c := range conns {
		_ = r.updateRDYLocked(c, 0) // refused only by a connection that is closing
	}
	return conns
}

// sendRDY tells nsqd the counts recorded, where it does not know them.
func (r *Consumer) sendRDY(conns ...*Conn) {
	for _, c := range conns {
		if err := c.writeRDY(); err != nil {
			r.log(LogLevelError, "error sending RDY", addrAttr(c.addr), errAttr(err))
		}
	}
}

// releaseRDY takes back the RDY of a closed connection. left is how many there
// are still.
func (r *Consumer) releaseRDY(c *Conn, left int) {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	rdy := c.RDY()
	r.totalRdyInFlight -= rdy
	retried := r.cancelRDYRetryLocked(c)
	if (rdy > 0 || retried) && (int64(left) == r.maxInFlight || r.inBackoffLocked()) {
		r.needRDYRedistributed = true
	}
}

// stopRDYTimers stops the timers of RDY and backoff.
func (r *Consumer) stopRDYTimers() {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	for _, timer := range r.rdyRetryTimers {
		timer.Stop()
	}
	clear(r.rdyRetryTimers)
	if r.backoffTimer != nil {
		r.backoffTimer.Stop()
	}
}

// rdyLoop redistributes RDY from time to time.
func (r *Consumer) rdyLoop() {
	ticker := time.NewTicker(r.config.RDYRedistributeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.redistributeRDY()
		case <-r.exitChan:
			return
		}
	}
}

// redistributeRDY lets connections take turns when there are more of them than
// max in flight, or than the one probe of backoff: those that had no message or
// had RDY for long give it up to others.
func (r *Consumer) redistributeRDY() {
	r.rdyMtx.Lock()
	changed := r.redistributeRDYLocked()
	r.rdyMtx.Unlock()
	if len(changed) > 0 {
		r.log(LogLevelDebug, "redistributing RDY")
	}
	r.sendRDY(changed...)
}

// redistributeRDYLocked returns the connections whose RDY may have changed,
// those that gave it up first.
func (r *Consumer) redistributeRDYLocked() []*Conn {
	conns := r.conns()
	if r.backoffPaused || len(conns) == 0 || r.maxInFlight == 0 {
		return nil
	}
	inBackoff := r.inBackoffLocked()
	if int64(len(conns)) > r.maxInFlight || (inBackoff && len(conns) > 1) {
		r.needRDYRedistributed = true
	}
	if !r.needRDYRedistributed {
		return nil
	}
	r.needRDYRedistributed = false

	gaveUp, without := r.takeIdleRDYLocked(conns)
	available := r.maxInFlight - r.totalRdyInFlight
	if inBackoff {
		available = 1 - r.totalRdyInFlight
	}
	changed := slices.Clone(gaveUp)
	// Those that gave up RDY get it again only if nobody else wants it.
	for _, c := range append(r.shuffledLocked(without), r.shuffledLocked(gaveUp)...) {
		if available <= 0 {
			break
		}
		available--
		_ = r.updateRDYLocked(c, 1) // a refusal leaves the turn to the next time
		changed = append(changed, c)
	}
	return changed
}

// takeIdleRDYLocked takes RDY from connections that are idle or had it for long.
// It returns them and those that had none.
func (r *Consumer) takeIdleRDYLocked(conns []*Conn) (gaveUp, without []*Conn) {
	for _, c := range conns {
		switch {
		case c.RDY() == 0:
			without = append(without, c)
		case time.Since(c.LastMessageTime()) > r.config.LowRdyIdleTimeout,
			time.Since(c.LastRdyTime()) > r.config.LowRdyTimeout:
			_ = r.updateRDYLocked(c, 0) // refused only by a connection that is closing
			gaveUp = append(gaveUp, c)
		}
	}
	return gaveUp, without
}

func (r *Consumer) shuffledLocked(conns []*Conn) []*Conn {
	shuffled := slices.Clone(conns)
	r.rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	return shuffled
}

// random returns a random number in [0, 1).
func (r *Consumer) random() float64 {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	return r.rng.Float64()
}
