package nsq

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// subscribeTimeout is how long we wait for nsqd's answer to SUB. One that has
// said nothing by then is taken to have accepted it.
const subscribeTimeout = 2 * time.Second

// closeWaitTimeout is how long we wait for nsqd's answer to CLS before the
// connection is closed without it.
const closeWaitTimeout = 10 * time.Second

// maxFirstReconnectDelay is the longest wait before the first attempt to get a
// connection back; LookupdPollInterval may be shorter. stableAfter, or the same,
// is how long a connection must last for the next wait to be the first again.
const (
	maxFirstReconnectDelay = time.Second
	stableAfter            = 10 * time.Second
)

// errConnectionClosed is why a connection that was closed has no answer to SUB.
var errConnectionClosed = errors.New("connection closed")

// nsqdAddr is what a Consumer knows of the address of an nsqd that it wants to
// be connected to.
type nsqdAddr struct {
	direct     bool          // given to ConnectToNSQD; else found through nsqlookupd
	retrying   bool          // a reconnect goroutine takes care of it
	toldFailed bool          // ConnectToNSQD has returned an error, and nobody was told of success
	unlisted   int           // polls in a row that did not name it
	delay      time.Duration // before the next attempt to connect; 0 for the first
}

// ConnectToNSQD connects to the nsqd at addr, "host:port" of its TCP port, and
// subscribes. If nsqd refuses that, the error wraps its ErrProtocol. When the
// connection is lost, or could not be made and its error was returned, it is
// tried again and again, with delays that grow up to LookupdPollInterval, until
// DisconnectFromNSQD or Stop. Whoever calls ConnectToNSQD again after an error
// and finds that it has succeeded meanwhile gets nil, once.
func (r *Consumer) ConnectToNSQD(addr string) error {
	err := r.connectTo(addr, true)
	switch {
	case err == nil:
		r.clearToldFailed(addr)
		return nil
	case errors.Is(err, errConsumerStopped), errors.Is(err, errNoHandlers):
		return err
	case errors.Is(err, ErrAlreadyConnected):
		if r.clearToldFailed(addr) {
			return nil
		}
		return err
	}
	r.retryLater(addr)
	return err
}

// ConnectToNSQDs connects to all addresses and returns the first error.
func (r *Consumer) ConnectToNSQDs(addresses []string) error {
	var first error
	for _, addr := range addresses {
		first = cmp.Or(first, r.ConnectToNSQD(addr))
	}
	return first
}

// clearToldFailed says whether addr is connected though the caller of
// ConnectToNSQD was told an error, and forgets that.
func (r *Consumer) clearToldFailed(addr string) bool {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	known := r.nsqds[addr]
	if known == nil || !known.toldFailed || r.connections[addr] == nil {
		return false
	}
	known.toldFailed = false
	return true
}

// retryLater sees to it that an address that could not be connected to is tried
// again.
func (r *Consumer) retryLater(addr string) {
	r.mtx.Lock()
	if known := r.nsqds[addr]; known != nil {
		known.toldFailed = true
	}
	r.mtx.Unlock()
	r.startReconnect(addr)
}

// connectTo connects and subscribes to addr, once.
func (r *Consumer) connectTo(addr string, direct bool) error {
	conn, delegate, err := r.addPending(addr, direct)
	if err != nil {
		return err
	}
	r.log(LogLevelInfo, "connecting to nsqd", addrAttr(addr))
	if err := r.connectAndSubscribe(conn, delegate); err != nil {
		r.removePending(conn)
		_ = conn.Close() // the connect error says it all
		if r.stopFlag.Load() {
			return errConsumerStopped
		}
		return err
	}
	joined, err := r.join(conn)
	switch {
	case err != nil:
		_ = conn.Close()
		return err
	case !joined:
		r.getBack(addr)
		return nil
	}
	if r.hooks.Connected != nil {
		r.hooks.Connected(addr)
	}
	r.shareRDY(conn)
	return nil
}

// mayConnect says why the Consumer cannot connect to anything, if so.
func (r *Consumer) mayConnect() error {
	switch {
	case r.stopFlag.Load():
		return errConsumerStopped
	case r.runningHandlers.Load() == 0:
		return errNoHandlers
	}
	return nil
}

// addPending notes addr as one to be kept connected and returns a Conn for it.
func (r *Consumer) addPending(addr string, direct bool) (*Conn, *consumerConnDelegate, error) {
	if err := r.mayConnect(); err != nil {
		if errors.Is(err, errConsumerStopped) {
			r.mtx.Lock()
			defer r.mtx.Unlock()
			r.wantLocked(addr, direct)
		}
		return nil, nil, err
	}
	delegate := newConsumerConnDelegate(r)
	conn := NewConn(addr, &r.config, delegate)
	r.loggers.copyTo(conn, r.logHead("")+" (%s)", r.logOwner())

	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.stopFlag.Load() {
		r.wantLocked(addr, direct)
		return nil, nil, errConsumerStopped
	}
	r.connected = true
	if r.pendingConnections[addr] != nil || r.connections[addr] != nil {
		return nil, nil, ErrAlreadyConnected
	}
	r.pendingConnections[addr] = conn
	r.wantLocked(addr, direct)
	return conn, delegate, nil
}

// wantLocked notes addr as one to be kept connected, even if a Stop came first:
// DisconnectFromNSQD is to know it.
func (r *Consumer) wantLocked(addr string, direct bool) {
	known := r.nsqds[addr]
	if known == nil {
		known = new(nsqdAddr)
		r.nsqds[addr] = known
		r.nsqdTCPAddrs = append(r.nsqdTCPAddrs, addr)
	}
	known.direct = known.direct || direct
}

// unwantLocked says whether addr was one to be kept connected.
func (r *Consumer) unwantLocked(addr string) bool {
	i := slices.Index(r.nsqdTCPAddrs, addr)
	if i < 0 {
		return false
	}
	r.nsqdTCPAddrs = slices.Delete(r.nsqdTCPAddrs, i, i+1)
	delete(r.nsqds, addr)
	return true
}

func (r *Consumer) connectAndSubscribe(conn *Conn, delegate *consumerConnDelegate) error {
	answer, err := conn.ConnectWithContext(r.ctx)
	if err != nil {
		return err
	}
	if maxInFlight := r.getMaxInFlight(); answer != nil && answer.MaxRdyCount < maxInFlight {
		r.log(LogLevelWarning, "max RDY count is below max in flight, truncation possible", addrAttr(conn.addr),
			slog.Int64("max_rdy_count", answer.MaxRdyCount), slog.Int64("max_in_flight", maxInFlight))
	}
	err = conn.WriteCommand(Subscribe(r.topic, r.channel))
	if err == nil {
		err = r.awaitSubscribed(conn, delegate)
	}
	if err != nil {
		return fmt.Errorf("[%s] failed to subscribe to %s:%s - %w", conn, r.topic, r.channel, err)
	}
	return nil
}

// awaitSubscribed waits for nsqd's answer to SUB.
func (r *Consumer) awaitSubscribed(conn *Conn, delegate *consumerConnDelegate) error {
	timer := time.NewTimer(subscribeTimeout)
	defer timer.Stop()
	select {
	case err := <-delegate.subscribed:
		return err
	case <-timer.C:
		r.log(LogLevelWarning, "no answer to SUB, going on", addrAttr(conn.addr), slog.Duration("after", subscribeTimeout))
		return nil
	}
}

func (r *Consumer) removePending(conn *Conn) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.pendingConnections[conn.addr] == conn {
		delete(r.pendingConnections, conn.addr)
	}
}

// join makes conn one of the connections. It is false if conn was closed
// already, and an error if the Consumer was stopped meanwhile.
func (r *Consumer) join(conn *Conn) (bool, error) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.pendingConnections[conn.addr] != conn {
		return false, nil
	}
	delete(r.pendingConnections, conn.addr)
	if r.stopFlag.Load() {
		return false, errConsumerStopped
	}
	r.connections[conn.addr] = conn
	r.joined[conn] = time.Now()
	return true, nil
}

// leave forgets a closed connection. joined is false if it was not one of the
// connections yet: then connectTo finds out.
func (r *Consumer) leave(conn *Conn) (left int, joined bool) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.pendingConnections[conn.addr] == conn {
		delete(r.pendingConnections, conn.addr)
		return 0, false
	}
	if r.connections[conn.addr] != conn {
		return 0, false
	}
	delete(r.connections, conn.addr)
	if timer := r.leaveTimers[conn]; timer != nil {
		timer.Stop()
		delete(r.leaveTimers, conn)
	}
	if known := r.nsqds[conn.addr]; known != nil && time.Since(r.joined[conn]) >= r.upToPollInterval(stableAfter) {
		known.delay = 0
	}
	delete(r.joined, conn)
	return len(r.connections), true
}

// upToPollInterval is the shorter of d and LookupdPollInterval.
func (r *Consumer) upToPollInterval(d time.Duration) time.Duration {
	return min(d, r.config.LookupdPollInterval)
}

// DisconnectFromNSQD ends the connection to addr and does not make it again,
// unless nsqlookupd names it: nsqd is asked to send no more, and what it has
// sent is handled first. ErrNotConnected is returned for an unknown addr.
func (r *Consumer) DisconnectFromNSQD(addr string) error {
	r.mtx.Lock()
	known := r.unwantLocked(addr)
	conn, pending := r.connections[addr], r.pendingConnections[addr]
	r.mtx.Unlock()
	switch {
	case !known:
		return ErrNotConnected
	case conn != nil:
		r.startLeaving(conn)
		r.shareRDY(nil)
	case pending != nil:
		_ = pending.Close() // whoever is connecting it gets an error
	}
	return nil
}

// startLeaving asks nsqd to send no more messages, and takes the RDY of conn
// back. nsqd answers CLOSE_WAIT; if it does not, the connection is closed all
// the same.
func (r *Consumer) startLeaving(conn *Conn) {
	r.rdySendMtx.Lock()
	defer r.rdySendMtx.Unlock()
	if !r.giveUpRDY(conn) {
		return
	}
	if err := conn.WriteCommand(StartClose()); err != nil {
		r.log(LogLevelError, "error sending CLS", addrAttr(conn.addr), errAttr(err))
		return // that has ended it
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.connections[conn.addr] == conn {
		r.leaveTimers[conn] = time.AfterFunc(closeWaitTimeout, func() { _ = conn.Close() }) // told by OnClose
	}
}

func (r *Consumer) onConnResponse(c *Conn, data []byte) {
	if string(data) == "CLOSE_WAIT" {
		// nsqd sends no more messages; those it has sent came before this.
		r.log(LogLevelInfo, "received CLOSE_WAIT from nsqd", addrAttr(c.addr))
		_ = c.Close() // its end is told by OnClose
	}
}

func (r *Consumer) onConnMessage(c *Conn, m *Message) {
	r.messagesReceived.Add(1)
	if c.idle.Load() {
		r.wakeRDY(c)
	}
	r.incomingMessages.push(m)
}

func (r *Consumer) onConnMessageFinished(*Conn, *Message) { r.messagesFinished.Add(1) }
func (r *Consumer) onConnMessageRequeued(*Conn, *Message) { r.messagesRequeued.Add(1) }

func (r *Consumer) onConnIOError(c *Conn, _ error) {
	_ = c.Close() // its end is told by OnClose
}

// onConnClose forgets a connection. err is why it ended, nil if we wanted it.
func (r *Consumer) onConnClose(c *Conn, err error) {
	left, joined := r.leave(c)
	if !joined {
		return
	}
	r.releaseRDY(c, left)
	r.log(LogLevelWarning, "connection closed", addrAttr(c.addr), slog.Int("left", left))
	if r.hooks.Disconnected != nil {
		r.hooks.Disconnected(c.addr, err)
	}
	if r.stopFlag.Load() {
		if left == 0 {
			r.stopHandlers()
		}
		return
	}
	r.shareRDY(nil)
	r.getBack(c.addr)
}

// getBack sees to it that a lost connection is made again: an address that was
// given to us is tried from time to time, for others nsqlookupd is asked.
func (r *Consumer) getBack(addr string) {
	if r.isDirect(addr) {
		r.startReconnect(addr)
		return
	}
	r.recheck()
}

// isDirect says whether addr was given to us and is still wanted.
func (r *Consumer) isDirect(addr string) bool {
	r.mtx.RLock()
	defer r.mtx.RUnlock()
	known := r.nsqds[addr]
	return known != nil && known.direct
}

// startReconnect starts the goroutine that connects to addr, unless there is
// one, or addr is not wanted any more.
func (r *Consumer) startReconnect(addr string) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	known := r.nsqds[addr]
	if known == nil || known.retrying || r.stopFlag.Load() {
		return
	}
	known.retrying = true
	r.wg.Go(func() { r.reconnect(addr, known) })
}

// reconnect tries to connect to addr until that succeeds or is not wanted any
// more.
func (r *Consumer) reconnect(addr string, known *nsqdAddr) {
	for {
		wait := r.nextDelay(known)
		r.log(LogLevelInfo, "re-connecting", addrAttr(addr), slog.Duration("in", wait))
		if !sleepContext(r.ctx, wait) || r.retryDone(addr, known) {
			return
		}
		err := r.connectTo(addr, true)
		if r.stopFlag.Load() || r.retryDone(addr, known) {
			return
		}
		if err != nil {
			r.log(LogLevelError, "error connecting to nsqd", addrAttr(addr), errAttr(err))
		}
	}
}

// nextDelay returns how long to wait before connecting to an address. The delay
// doubles from time to time up to LookupdPollInterval; up to half of it is taken
// off at random, so that many consumers of an nsqd that went away do not come
// back all at once.
func (r *Consumer) nextDelay(known *nsqdAddr) time.Duration {
	r.mtx.Lock()
	delay := cmp.Or(known.delay, r.upToPollInterval(maxFirstReconnectDelay))
	known.delay = r.upToPollInterval(2 * delay)
	r.mtx.Unlock()
	return jittered(delay)
}

// retryDone says whether addr needs no reconnect any more: it is connected, or
// not wanted. A connection lost from then on gets a reconnect of its own.
func (r *Consumer) retryDone(addr string, known *nsqdAddr) bool {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.nsqds[addr] == known && r.connections[addr] == nil && r.pendingConnections[addr] == nil {
		return false
	}
	known.retrying = false
	return true
}
