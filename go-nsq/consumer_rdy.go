package nsq

import (
	"math/rand/v2"
	"slices"
	"time"
)

// RDY is a ceiling that nsqd keeps, per connection, on our messages in flight.
// The sum over all connections is kept at or below max in flight: at every
// moment, as nsqd sees it. So a connection is told its new count before anything
// that this makes room for is told to another: see changeRDY.

// rdyRetryDelay is how long after a refused update a connection without RDY is
// tried again.
const rdyRetryDelay = 5 * time.Second

// starvedShare is how much of a connection's RDY must be in flight for the
// Consumer to be starved. Source: "Building client libraries", nsq.io.
const starvedShare = 0.85

// A refusal is a RDY update that was not possible.
type refusal struct {
	c   *Conn
	err error
}

// changeRDY lets change record new RDY counts and tells them to nsqd, those that
// went down first. Nobody else changes or tells counts meanwhile: otherwise one
// could tell what another has given away before it was told to be given up.
func (r *Consumer) changeRDY(change func() (changed []*Conn, refused []refusal)) {
	r.rdySendMtx.Lock()
	defer r.rdySendMtx.Unlock()
	r.changeRDYSending(change)
}

// changeRDYSending is changeRDY for those who hold rdySendMtx.
func (r *Consumer) changeRDYSending(change func() ([]*Conn, []refusal)) {
	r.rdyMtx.Lock()
	changed, refused := change()
	r.rdyMtx.Unlock()
	for _, refusal := range refused {
		r.log(LogLevelWarning, "RDY update refused", addrAttr(refusal.c.addr), errAttr(refusal.err))
	}
	lowered, raised := make([]*Conn, 0, len(changed)), make([]*Conn, 0, len(changed))
	for _, c := range changed {
		if c.RDY() < c.toldRDY() {
			lowered = append(lowered, c)
		} else {
			raised = append(raised, c)
		}
	}
	r.sendRDY(lowered...)
	r.sendRDY(raised...)
}

// sendRDY tells nsqd the counts recorded, where it does not know them.
func (r *Consumer) sendRDY(conns ...*Conn) {
	for _, c := range conns {
		if err := c.writeRDY(); err != nil {
			r.log(LogLevelError, "error sending RDY", addrAttr(c.addr), errAttr(err))
		}
	}
}

// ChangeMaxInFlight changes max in flight, at once. 0 pauses the Consumer.
func (r *Consumer) ChangeMaxInFlight(maxInFlight int) {
	r.changeRDY(func() (changed []*Conn, refused []refusal) {
		if r.maxInFlight == int64(maxInFlight) {
			return nil, nil
		}
		r.maxInFlight = int64(maxInFlight)
		if !r.inBackoffLocked() {
			return r.shareRDYLocked(nil)
		}
		r.needRDYRedistributed = true // there may be no connection left to end the backoff
		if r.totalRdyInFlight > r.maxInFlight {
			changed = r.clearRDYLocked()
		}
		return changed, nil
	})
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

// shareRDY gives each connection its share of max in flight, unless in backoff;
// a new one, if not nil, is the last to get it.
func (r *Consumer) shareRDY(newConn *Conn) {
	r.changeRDY(func() ([]*Conn, []refusal) { return r.shareRDYLocked(newConn) })
}

// shareRDYLocked records the shares, unless in backoff: first those that go
// down, to make room.
func (r *Consumer) shareRDYLocked(newConn *Conn) (changed []*Conn, refused []refusal) {
	if r.inBackoffLocked() {
		return nil, nil
	}
	conns := r.rdyConns()
	if i := slices.Index(conns, newConn); i >= 0 {
		conns = append(slices.Delete(conns, i, i+1), newConn)
	}
	shares := r.sharesLocked(conns)
	update := func(c *Conn, share int64) {
		if err := r.updateRDYLocked(c, share); err != nil {
			refused = append(refused, refusal{c, err})
			return
		}
		changed = append(changed, c)
	}
	for i, c := range conns {
		if shares[i] < c.RDY() {
			update(c, shares[i])
		}
	}
	for i, c := range conns {
		if shares[i] >= c.RDY() {
			// Without a share it asks for 1, is refused, and tried again later.
			update(c, max(shares[i], min(1, r.maxInFlight)))
		}
	}
	return changed, refused
}

// rdyConns returns the connections that can have RDY.
func (r *Consumer) rdyConns() []*Conn {
	return slices.DeleteFunc(r.conns(), (*Conn).takesNoRDY)
}

// sharesLocked returns the share of each connection: max in flight divided
// among them, none above what its nsqd accepts, the first ones getting what
// remains. While some get messages and others are idle, the idle ones get 1
// each and leave the rest to the busy ones. With more connections than max in
// flight, those that have RDY keep 1, and redistributeRDY lets them take turns.
func (r *Consumer) sharesLocked(conns []*Conn) []int64 {
	shares := make([]int64, len(conns))
	if r.maxInFlight < int64(len(conns)) {
		r.shareOnesLocked(conns, shares)
		return shares
	}
	left := r.maxInFlight
	var open []int // indexes of connections that can take more
	busy := slices.ContainsFunc(conns, func(c *Conn) bool { return !c.idle.Load() })
	for i, c := range conns {
		if busy && c.idle.Load() {
			shares[i] = min(1, c.MaxRDY())
			left -= shares[i]
		} else {
			open = append(open, i)
		}
	}
	// Each round fills at least one connection up, or is the last.
	for len(open) > 0 && left > 0 {
		even, rest := left/int64(len(open)), left%int64(len(open))
		stillOpen := open[:0:0]
		for n, i := range open {
			more := even
			if int64(n) < rest {
				more++
			}
			more = min(more, conns[i].MaxRDY()-shares[i])
			shares[i] += more
			left -= more
			if shares[i] < conns[i].MaxRDY() {
				stillOpen = append(stillOpen, i)
			}
		}
		open = stillOpen
	}
	return shares
}

// shareOnesLocked gives 1 to as many connections as max in flight allows, first
// to those that have RDY.
func (r *Consumer) shareOnesLocked(conns []*Conn, shares []int64) {
	left := r.maxInFlight
	for _, has := range []bool{true, false} {
		for i, c := range conns {
			if left > 0 && (c.RDY() > 0) == has {
				shares[i] = 1
				left--
			}
		}
	}
}

// updateRDYLocked records count, or as much of it as nsqd accepts and max in
// flight leaves, as the RDY of c. Without any room it is ErrOverMaxInFlight, and
// a connection without RDY is tried again later. A lower count is never refused.
func (r *Consumer) updateRDYLocked(c *Conn, count int64) error {
	if c.takesNoRDY() {
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
	r.changeRDY(func() ([]*Conn, []refusal) {
		if r.stopFlag.Load() || r.inBackoffLocked() {
			r.cancelRDYRetryLocked(c)
			return nil, nil
		}
		if err := r.updateRDYLocked(c, count); err != nil {
			return nil, nil // it will be tried again
		}
		return []*Conn{c}, nil
	})
}

// clearRDYLocked records RDY 0 for all connections and returns them.
func (r *Consumer) clearRDYLocked() []*Conn {
	conns := r.rdyConns()
	for _, c := range conns {
		_ = r.updateRDYLocked(c, 0) // refused only by a connection that is closing
	}
	return conns
}

// releaseRDY takes back the RDY of a closed connection. left is how many there
// are still.
func (r *Consumer) releaseRDY(c *Conn, left int) {
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	r.takeBackRDYLocked(c, left)
}

// giveUpRDY takes back the RDY of a connection that is told CLS next, and marks
// it as leaving. It is false if it was already.
func (r *Consumer) giveUpRDY(c *Conn) bool {
	left := len(r.rdyConns()) - 1
	r.rdyMtx.Lock()
	defer r.rdyMtx.Unlock()
	if c.leaving.Swap(true) {
		return false
	}
	r.takeBackRDYLocked(c, left)
	return true
}

func (r *Consumer) takeBackRDYLocked(c *Conn, left int) {
	rdy := c.RDY()
	r.totalRdyInFlight -= rdy
	c.SetRDY(0)
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
			r.followLoad()
		case <-r.wakeRDYChan:
			r.rebalance()
		case <-r.exitChan:
			return
		}
	}
}

// wakeRDY notes that an idle connection has got a message. It is called by the
// read loop, which must not write: rdyLoop does.
func (r *Consumer) wakeRDY(c *Conn) {
	c.idle.Store(false)
	select {
	case r.wakeRDYChan <- struct{}{}:
	default:
	}
}

// followLoad finds connections that have become idle: the busy ones get what
// they leave.
func (r *Consumer) followLoad() {
	changed := false
	for _, c := range r.rdyConns() {
		if !c.idle.Load() && time.Since(c.LastMessageTime()) > r.config.LowRdyIdleTimeout {
			c.idle.Store(true)
			changed = true
		}
	}
	if changed {
		r.rebalance()
	}
}

// rebalance shares RDY anew because connections have become idle or busy. That
// makes no difference while they take turns.
func (r *Consumer) rebalance() {
	r.changeRDY(func() ([]*Conn, []refusal) {
		if r.maxInFlight < int64(len(r.rdyConns())) {
			return nil, nil
		}
		return r.shareRDYLocked(nil)
	})
}

// redistributeRDY lets connections take turns when there are more of them than
// max in flight, or than the one probe of backoff: those that had no message or
// had RDY for long give it up to others.
func (r *Consumer) redistributeRDY() {
	r.changeRDY(func() ([]*Conn, []refusal) {
		changed := r.redistributeRDYLocked()
		return changed, nil
	})
}

// redistributeRDYLocked returns the connections whose RDY may have changed.
func (r *Consumer) redistributeRDYLocked() []*Conn {
	conns := r.rdyConns()
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
	for _, c := range append(shuffled(without), shuffled(gaveUp)...) {
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

func shuffled(conns []*Conn) []*Conn {
	clone := slices.Clone(conns)
	rand.Shuffle(len(clone), func(i, j int) { clone[i], clone[j] = clone[j], clone[i] })
	return clone
}
