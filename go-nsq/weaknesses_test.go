package nsq

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The weaknesses that the published client is known for, by their numbers in the
// client library spec, section 8, and the tests that show them gone.
//
//	P1   a write per command                       TestPublishAsyncCoalesces
//	P2   100 ms without connection after a loss    TestProducerReconnects
//	P3   Stop fails what is pending                TestProducerStopDrains
//	P4   goroutines and sockets left after Stop    TestProducerStopInEveryState, TestProducerConnectionsEnd
//	P5   an undrained doneChan stalls all          TestProducerUndrainedDoneChan
//	P6   both directions full is the end           TestProducerBothDirectionsFull
//	P7   callers fail one after another            TestProducerSharesDial
//	P8   no timeout, no context                    TestContextEndsEveryWait, TestWithdrawnPublishIsNotSent
//	P9   lost between handshake and use: hangs     TestProducerLosesConnectionAtOnce
//	P10  a nil body has no length                  TestProducerRejectsLocally
//	P11  topics are not checked                    TestProducerRejectsLocally
//	P12  nor empty bodies                          TestProducerRejectsLocally; nsqd does not tell its size limits
//	P13  the cause of ErrNotConnected              TestProducerCause; the sentinel stays
//	P14  one nsqd, no state                        TestPool…, TestProducerCause
//	P15  Ping is a data race                       TestPingWhileReconnecting; it stays a NOP: nothing else has no effect
//	P16  no bound, memory held                     TestProducerBackPressure, TestRing
//	C1   busy handlers: no heartbeats              TestConsumerHeartbeats
//	C2   no heartbeats after CLOSE_WAIT            TestConsumerHeartbeats
//	C3   a write per FIN                           TestConnCoalescesWrites
//	C4   RDY not raised after a loss               TestConsumerSharesRDY
//	C5   the remainder of max in flight unused     TestConsumerSharesRDY
//	C6   lowering max in flight refused            TestLoweringTakesEffectAtOnce
//	C7   an even split whatever the load           TestIdleLeavesRDY
//	C8   turns for those that have RDY             TestEveryNSQDGetsItsTurn, TestConsumerRedistributes
//	C9   the sum of RDY drifts                     TestRDYNeverExceedsMaxInFlight, TestConsumerBooks
//	C10  SUB's answer not awaited                  TestSubRefused, TestSubNotAnswered
//	C11  a hot loop of rechecks                    TestRecheckGrows
//	C12  reconnect after 60 s, or never            TestLostConnectionsAreTriedLessOften, TestFailedAddressIsTriedAgain
//	C13  one nsqlookupd, one nsqd at a time        TestAllLookupdsAreAsked
//	C14  404 is an error, three times              TestUnknownTopicIsNoError
//	C15  unlisted nsqds stay                       TestDisconnectUnlisted: an option
//	C16  an unanswered message blocks all          TestConsumerAbandonsMessage, TestConsumerLosesConnection
//	C17  Stop beside a connect panics              TestConsumerStopWhileConnectionsComeAndGo
//	C18  Stop without handlers                     TestConsumerStopWithoutHandlers
//	C19  Disconnect drops what was pushed          TestDisconnectDrains
//	C20  giving up is a success                    TestGivenUpIsNoSuccess
//	C21  a failed FIN is only logged               TestFinishRefused, TestAnswersOfLostConnections
//	C22  a panic ends the process                  TestHandlerPanics: an option
//	C23  setup is a data race                      TestConcurrentSetup
//	C24  strategies are shared                     TestBackoffStrategyIsCopied
//	C25  teardown takes 100 ms                     TestTeardownTakesNoTime
//	N1   TLS not offered: plain text               TestTLSRequired: an option, and a warning
//	N2   ServerName overwritten                    TestConsumerTLSServerName
//	N3   no TLS 1.3 by options                     TestTLSVersionAndCloseNotify
//	N4   sockets left to the GC, no close_notify   every test in a bubble, TestTLSVersionAndCloseNotify
//	N5   a wrong port allocates 1.2 GB             TestProducerToHTTPPort, TestReadResponse
//	N6   deadlines, reads, allocations per frame   TestFrameAllocations, TestDeadlinesStay
//	N7   buffers of 4 KiB                          TestConnCoalescesWrites
//	N8   an empty IDENTIFY answer panics           TestConnHandshakeBytes
//	N9   Set panics, wraps, or hits the inside     TestConfigCoercion, TestConfigSetNeverPanics
//	N10  idle without heartbeats: dropped          TestConnIdle
//	N11  the plain OK handshake is unbuffered      TestPlainOKHandshake
//	N12  one failure told twice, texts with nil    TestConnReportsFailureOnce, TestConnEvents
//	N13  no contexts, dialer, slog, hooks          TestConnWithContext, TestDialerHasDialTimeout, TestSlogger,
//	                                               TestConsumerState; Publisher, Logger
//	N14  short timeouts                            kept: defaults are contract; Config says so

// TestUnknownTopicIsNoError: that nsqlookupd does not know a topic yet is asked
// once a poll and logged below WARN.
func TestUnknownTopicIsNoError(t *testing.T) {
	inBubble(t, func(b *bubble) {
		l := newBubbleLookupd(b)
		r := b.consumer("t", b.config())
		lines := new(lineLogger)
		r.SetLogger(lines, LogLevelWarning)
		r.AddHandler(HandlerFunc(scriptedHandler))
		l.use(r, "l:4161")
		if n := len(l.times()); n != 1 || len(lines.lines) != 0 {
			b.Errorf("asked %d times, logged %q", n, lines.lines)
		}
	})
}

// TestConcurrentSetup sets a consumer up from many goroutines while it works, for
// the race detector.
func TestConcurrentSetup(t *testing.T) {
	l := startLookupd(t, false, startServer(t, nil).tcpAddr())
	second := startLookupd(t, false)
	config := testConfig()
	config.LookupdPollInterval = 10 * time.Millisecond
	r := newTestConsumer(t, "setup", config)
	r.AddHandler(HandlerFunc(scriptedHandler))
	var setups sync.WaitGroup
	for _, setup := range []func(){
		func() { _ = r.ConnectToNSQLookupd(l.URL) },
		func() { _ = r.ConnectToNSQLookupd(second.URL) },
		func() { _ = r.DisconnectFromNSQLookupd(second.URL) }, // it may not be known
		func() { r.SetLogger(log.New(io.Discard, "", 0), LogLevelDebug) },
		func() { r.SetLoggerForLevel(nil, LogLevelInfo) },
		func() { r.SetLoggerLevel(LogLevelError) },
		func() { r.SetSlogger(nil) },
		func() { r.SetBehaviorDelegate(without("nobody")) },
		func() { r.SetLookupdHttpClient(&http.Client{}) },
		func() { r.ChangeMaxInFlight(3) },
		func() { r.Stats(); r.State(); r.IsStarved() },
	} {
		setups.Go(func() {
			for range 20 {
				setup()
			}
		})
	}
	setups.Wait()
	http.DefaultClient.CloseIdleConnections() // &http.Client{} uses its transport
}

// TestTeardownTakesNoTime: with nothing in flight, Stop and Disconnect take as
// long as nsqd needs.
func TestTeardownTakesNoTime(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil)
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(scriptedHandler))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		w := newTestProducer(b, "a:4150", b.config())
		if err := w.Publish("discard", []byte("x")); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		w.Stop()
		if err := r.DisconnectFromNSQD("a:4150"); err != nil {
			b.Error(err)
		}
		synctest.Wait()
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Error(err)
		}
		r.Stop()
		<-r.StopChan
		if took := time.Since(start); took > 0 {
			b.Errorf("took %s", took)
		}
	})
}

// TestTLSVersionAndCloseNotify: TlsConfig made by options reaches TLS 1.3, and
// the end of a connection is told to nsqd by TLS.
func TestTLSVersionAndCloseNotify(t *testing.T) {
	certs := newTestCerts(t)
	ends := make(chan error, 1)
	s := startTLSServer(t, certs)
	s.intercept = func(c *fakeConn, params []string) (bool, string) {
		if params[0] != "SUB" {
			return false, ""
		}
		go func() {
			<-c.gone
			ends <- c.readErr
		}()
		return false, ""
	}
	config := testConfig()
	for option, value := range map[string]interface{}{
		"tls_v1": true, "tls_root_ca_file": certs.caFile, "tls_min_version": "tls1.2",
	} {
		if err := config.Set(option, value); err != nil {
			t.Fatal(err)
		}
	}
	r := newTestConsumer(t, "tls", config)
	r.AddHandler(HandlerFunc(scriptedHandler))
	if err := r.ConnectToNSQD(s.tcpAddr()); err != nil {
		t.Fatal(err)
	}
	if version := r.conns()[0].stream.tls.ConnectionState().Version; version != tls.VersionTLS13 {
		t.Errorf("TLS %x", version)
	}
	r.Stop()
	receive(t, "StopChan", r.StopChan)
	if err := receive(t, "end", ends); err != io.EOF {
		t.Errorf("the connection ended with %v, want close_notify", err)
	}
}

// deadlineConn counts deadlines.
type deadlineConn struct {
	*bubbleConn
	deadlines int
}

func (c *deadlineConn) SetReadDeadline(at time.Time) error {
	c.deadlines++
	return c.bubbleConn.SetReadDeadline(at)
}

func (c *deadlineConn) SetWriteDeadline(at time.Time) error {
	c.deadlines++
	return c.bubbleConn.SetWriteDeadline(at)
}

// dialerFunc is a function as a Dialer.
type dialerFunc func(addr string) (*deadlineConn, error)

func (f dialerFunc) DialContext(_ context.Context, _, addr string) (net.Conn, error) { return f(addr) }

// TestDeadlinesStay: a deadline is set once in a while, not for each command.
func TestDeadlinesStay(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil)
		config := b.config()
		var socket *deadlineConn
		config.Dialer = dialerFunc(func(addr string) (*deadlineConn, error) {
			conn, err := b.DialContext(b.Context(), "tcp", addr)
			if err != nil {
				return nil, err
			}
			socket = &deadlineConn{bubbleConn: conn.(*bubbleConn)}
			return socket, nil
		})
		w := newTestProducer(b, "a:4150", config)
		for range 1000 {
			if err := w.Publish("discard", []byte("x")); err != nil {
				b.Fatal(err)
			}
		}
		if socket.deadlines > 10 {
			b.Errorf("%d deadlines for 1000 publishes", socket.deadlines)
		}
	})
}

// TestConfigSetNeverPanics: every option takes, or refuses with an error, values
// of any type, and what it refuses changes nothing.
func TestConfigSetNeverPanics(t *testing.T) {
	var values []interface{}
	values = append(values, nil, "", "x", "-1", true, -1, int8(1), int16(-1), int32(-1), int64(1)<<62, uint(1), uint8(1), uint16(1),
		uint32(1), ^uint64(0), float32(1.5), 1e300, time.Second, []byte("1"), struct{}{}, errors.New("x"), (*tls.Config)(nil), NewConfig())
	names := []string{"", "initialized", "tlsCertFile", "tls_cert", "tls_key", "tls_root_ca_file", "tls_insecure_skip_verify", "tls_min_version"}
	for field := range options() {
		names = append(names, field.Tag.Get("opt"))
	}
	for _, name := range names {
		for _, value := range values {
			c := NewConfig()
			before := *c
			err := c.Set(name, value)
			if err != nil && !strings.HasPrefix(name, "tls_") {
				if *c != before {
					t.Errorf("%s = %#v: %v, and changed", name, value, err)
				}
			}
			if err == nil && (name == "" || name == "initialized" || name == "tlsCertFile") {
				t.Errorf("%q = %#v was accepted", name, value)
			}
			if err == nil {
				_ = c.Validate() // a Config that Set made is still one
			}
		}
	}
}

// TestInsideNames compiles uses of unexported names that programs' own tests of
// the published client, put into this package, rely on.
func TestInsideNames(t *testing.T) {
	config := NewConfig()
	_ = &ExponentialStrategy{cfg: config}
	_ = &FullJitterStrategy{cfg: config, rng: nil}
	var _ logger = log.Default()
	var _ producerConn = new(Conn)
	w := newTestProducer(t, "127.0.0.1:1", config)
	var _ ConnDelegate = &producerConnDelegate{w}
	var _ int32 = w.state
	var _ chan int = w.closeChan
	var _ func() = w.router
	r := newTestConsumer(t, "t", config)
	var _ []*Conn = r.conns()
}
