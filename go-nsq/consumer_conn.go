package nsq

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// ConnectToNSQD connects to the nsqd at addr, "host:port" of its TCP port, and
// subscribes, without waiting for nsqd's answer to that. If the connection is
// lost later it is made again, after at most LookupdPollInterval, until
// DisconnectFromNSQD or Stop; a first failure is only returned. With nsqlookupd
// known, that decides instead.
func (r *Consumer) ConnectToNSQD(addr string) error {
	conn, err := r.addPending(addr)
	if err != nil {
		return err
	}
	r.log(LogLevelInfo, "connecting to nsqd", addrAttr(addr))
	if err := r.connectAndSubscribe(conn); err != nil {
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
	r.shareRDY(conn)
	return nil
}

// ConnectToNSQDs connects to all addresses and returns the first error.
func (r *Consumer) ConnectToNSQDs(addresses []string) error {
	var first error
	for _, addr := range addresses {
		if err := r.ConnectToNSQD(addr); err != nil && first == nil {
			first = err
		}
	}
	return first
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
func (r *Consumer) addPending(addr string) (*Conn, error) {
	if err := r.mayConnect(); err != nil {
		if errors.Is(err, errConsumerStopped) {
			r.want(addr)
		}
		return nil, err
	}
	conn := NewConn(addr, &r.config, &consumerConnDelegate{r})
	r.loggers.copyTo(conn, r.logHead("")+" (%s)", r.logOwner())

	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.stopFlag.Load() {
		r.wantLocked(addr)
		return nil, errConsumerStopped
	}
	r.connected = true
	if r.pendingConnections[addr] != nil || r.connections[addr] != nil {
		return nil, ErrAlreadyConnected
	}
	r.pendingConnections[addr] = conn
	r.wantLocked(addr)
	return conn, nil
}

// want notes addr as one to be kept connected, so that DisconnectFromNSQD knows
// it even if a Stop came before the connection.
func (r *Consumer) want(addr string) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.wantLocked(addr)
}

func (r *Consumer) wantLocked(addr string) {
	if !slices.Contains(r.nsqdTCPAddrs, addr) {
		r.nsqdTCPAddrs = append(r.nsqdTCPAddrs, addr)
	}
}

func (r *Consumer) connectAndSubscribe(conn *Conn) error {
	answer, err := conn.Connect()
	if err != nil {
		return err
	}
	if maxInFlight := r.getMaxInFlight(); answer != nil && answer.MaxRdyCount < maxInFlight {
		r.log(LogLevelWarning, "max RDY count is below max in flight, truncation possible", addrAttr(conn.addr),
			slog.Int64("max_rdy_count", answer.MaxRdyCount), slog.Int64("max_in_flight", maxInFlight))
	}
	if err := conn.WriteCommand(Subscribe(r.topic, r.channel)); err != nil {
		return fmt.Errorf("[%s] failed to subscribe to %s:%s - %w", conn, r.topic, r.channel, err)
	}
	return nil
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
	return true, nil
}

// leave forgets a closed connection. joined is false if it was not one of the
// connections yet: then ConnectToNSQD finds out.
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
	return len(r.connections), true
}

// DisconnectFromNSQD closes the connection to addr, after what was received is
// answered, and does not make it again, unless nsqlookupd names it.
// ErrNotConnected is returned for an unknown addr.
func (r *Consumer) DisconnectFromNSQD(addr string) error {
	r.mtx.Lock()
	i := slices.Index(r.nsqdTCPAddrs, addr)
	if i < 0 {
		r.mtx.Unlock()
		return ErrNotConnected
	}
	r.nsqdTCPAddrs = slices.Delete(r.nsqdTCPAddrs, i, i+1)
	conn := r.connections[addr]
	if conn == nil {
		conn = r.pendingConnections[addr]
	}
	r.mtx.Unlock()

	if conn != nil {
		_ = conn.Close() // its end is told by OnClose
	}
	return nil
}

func (r *Consumer) onConnResponse(c *Conn, data []byte) {
	if string(data) == "CLOSE_WAIT" {
		// nsqd sends no more messages; those it has sent came before this.
		r.log(LogLevelInfo, "received CLOSE_WAIT from nsqd", addrAttr(c.addr))
		_ = c.Close() // its end is told by OnClose
	}
}

func (r *Consumer) onConnMessage(_ *Conn, m *Message) {
	r.messagesReceived.Add(1)
	r.incomingMessages.push(m)
}

func (r *Consumer) onConnMessageFinished(*Conn, *Message) { r.messagesFinished.Add(1) }
func (r *Consumer) onConnMessageRequeued(*Conn, *Message) { r.messagesRequeued.Add(1) }

func (r *Consumer) onConnIOError(c *Conn, _ error) {
	_ = c.Close() // its end is told by OnClose
}

func (r *Consumer) onConnClose(c *Conn) {
	left, joined := r.leave(c)
	if !joined {
		return
	}
	r.releaseRDY(c, left)
	r.log(LogLevelWarning, "connection lost", addrAttr(c.addr), slog.Int("left", left))

	if r.stopFlag.Load() {
		if left == 0 {
			r.stopHandlers()
		}
		return
	}
	r.shareRDY(nil)
	r.getBack(c.addr)
}

// getBack sees to it that a lost connection is made again: nsqlookupd is asked
// soon, or without one the address is tried from time to time.
func (r *Consumer) getBack(addr string) {
	r.mtx.RLock()
	lookupds := len(r.lookupdHTTPAddrs)
	wanted := slices.Contains(r.nsqdTCPAddrs, addr)
	r.mtx.RUnlock()
	switch {
	case lookupds > 0:
		select {
		case r.recheckChan <- struct{}{}:
		default:
		}
	case wanted:
		r.goUnlessStopped(func() { r.reconnect(addr) })
	}
}

// reconnect tries to connect to addr until that succeeds or is not wanted any
// more. The delay before each attempt doubles up to LookupdPollInterval; up to
// half of it is taken off at random, so that many consumers of an nsqd that
// went away do not come back all at once.
func (r *Consumer) reconnect(addr string) {
	delay := min(maxFirstReconnectDelay, r.config.LookupdPollInterval)
	for {
		wait := delay - time.Duration(r.random()*float64(delay)/2)
		r.log(LogLevelInfo, "re-connecting", addrAttr(addr), slog.Duration("in", wait))
		if !r.sleep(wait) || !r.wants(addr) {
			return
		}
		err := r.ConnectToNSQD(addr)
		if err == nil || errors.Is(err, ErrAlreadyConnected) || r.stopFlag.Load() {
			return
		}
		r.log(LogLevelError, "error connecting to nsqd", addrAttr(addr), errAttr(err))
		delay = min(2*delay, r.config.LookupdPollInterval)
	}
}

func (r *Consumer) wants(addr string) bool {
	r.mtx.RLock()
	defer r.mtx.RUnlock()
	return slices.Contains(r.nsqdTCPAddrs, addr)
}

// sleep waits for d; it is false if the Consumer ends before.
func (r *Consumer) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.exitChan:
		return false
	}
}
