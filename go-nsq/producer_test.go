package nsq

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestProducerConnection(t *testing.T) {
	addr, _ := startNSQD(t)
	config := testConfig()
	config.LocalAddr, _ = net.ResolveTCPAddr("tcp", "127.0.0.1:0")
	w := newTestProducer(t, addr, config)

	if err := w.Publish("write_test", []byte("test")); err != nil {
		t.Fatalf("should lazily connect - %s", err)
	}
	w.Stop()
	if err := w.Publish("write_test", []byte("fail test")); err != ErrStopped {
		t.Fatalf("should not be able to write after Stop(), got %v", err)
	}
	if err := w.Publish("not valid", nil); err != ErrStopped {
		t.Fatalf("an invalid publish after Stop gives %v", err)
	}
}

func TestProducerPing(t *testing.T) {
	addr, _ := startNSQD(t)
	w := newTestProducer(t, addr, testConfig())
	if err := w.Ping(); err != nil {
		t.Fatalf("should connect on ping - %s", err)
	}
	w.Stop()
	if err := w.Ping(); err != ErrStopped {
		t.Fatalf("should not be able to ping after Stop(), got %v", err)
	}
}

func TestProducerPublish(t *testing.T) {
	const n = 10
	w, addr := newProducerAndNSQD(t)
	for range n {
		if err := w.Publish("publish", []byte("publish_test_case")); err != nil {
			t.Fatal(err)
		}
	}
	publishFailing(t, w, "publish")
	readMessages(t, addr, "publish", n)
}

func TestProducerMultiPublish(t *testing.T) {
	w, addr := newProducerAndNSQD(t)
	if err := w.MultiPublish("multi", testBodies(10)); err != nil {
		t.Fatal(err)
	}
	publishFailing(t, w, "multi")
	readMessages(t, addr, "multi", 10)
}

func TestProducerDeferredPublish(t *testing.T) {
	server := startServer(t, nil)
	w := newTestProducer(t, server.tcpAddr(), testConfig())
	if err := w.DeferredPublish("deferred", 10*time.Millisecond, testBodies(1)[0]); err != nil {
		t.Fatal(err)
	}
	done := make(chan *ProducerTransaction, 1)
	if err := w.DeferredPublishAsync("deferred", time.Millisecond, testBodies(1)[0], done); err != nil {
		t.Fatal(err)
	}
	if result := <-done; result.Error != nil || result.Args != nil {
		t.Fatalf("got %+v", result)
	}
	waitFor(t, "deferred messages", func() bool { return server.backlog("deferred") == 2 })
	publishFailing(t, w, "deferred")
	readMessages(t, server.tcpAddr(), "deferred", 2)

	err := w.DeferredPublish("deferred", 24*time.Hour, []byte("x"))
	if want := (ErrProtocol{"E_INVALID DPUB timeout 86400000 out of range 0-3600000"}); err != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestProducerPublishAsync(t *testing.T) {
	const n = 10
	w, addr := newProducerAndNSQD(t)
	done := make(chan *ProducerTransaction, n)
	for range n {
		if err := w.PublishAsync("async", []byte("publish_test_case"), done, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		result := <-done
		if result.Error != nil {
			t.Fatal(result.Error)
		}
		if result.Args[0].(string) != "test" {
			t.Fatalf("args are %v", result.Args)
		}
	}
	publishFailing(t, w, "async")
	readMessages(t, addr, "async", n)
}

func TestProducerMultiPublishAsync(t *testing.T) {
	w, addr := newProducerAndNSQD(t)
	done := make(chan *ProducerTransaction)
	if err := w.MultiPublishAsync("multi_async", testBodies(10), done, "test0", 1); err != nil {
		t.Fatal(err)
	}
	result := <-done
	if result.Error != nil {
		t.Fatal(result.Error)
	}
	if result.Args[0].(string) != "test0" || result.Args[1].(int) != 1 {
		t.Fatalf("args are %v", result.Args)
	}
	publishFailing(t, w, "multi_async")
	readMessages(t, addr, "multi_async", 10)
}

func TestProducerHeartbeat(t *testing.T) {
	addr, _ := startNSQD(t)
	config := testConfig()
	config.HeartbeatInterval = 100 * time.Millisecond
	w := newTestProducer(t, addr, config)
	err := w.Publish("heartbeat", []byte("x"))
	want := ErrIdentify{"E_BAD_BODY IDENTIFY heartbeat interval (100) is invalid"}
	if got, ok := err.(ErrIdentify); !ok || got != want {
		t.Fatalf("got %v, want %v", err, want)
	}

	config.HeartbeatInterval = time.Second
	server := startServer(t, nil)
	w = newTestProducer(t, server.tcpAddr(), config)
	if err := w.Publish("heartbeat", []byte("publish_test_case")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "NOP", func() bool { return server.nops() > 0 })
	for range 10 {
		if err := w.Publish("heartbeat", []byte("publish_test_case")); err != nil {
			t.Fatal(err)
		}
	}
	publishFailing(t, w, "heartbeat")
	readMessages(t, server.tcpAddr(), "heartbeat", 11)
}

func TestProducerToHTTPPort(t *testing.T) {
	for _, maxMsgSize := range []int32{0, 1 << 20} {
		_, httpAddr := startNSQD(t)
		config := testConfig()
		config.MaxMsgSize = maxMsgSize
		w := newTestProducer(t, httpAddr, config)
		err := w.Publish("http", []byte("x"))
		if err == nil || !strings.Contains(err.Error(), "unexpected HTTP response") {
			t.Fatalf("max_msg_size %d: got %v", maxMsgSize, err)
		}
	}
}

// TestProducerBorrowedConn runs the router over a connection that is not ours,
// as programs do to measure publishing without a network.
func TestProducerBorrowedConn(t *testing.T) {
	w := newTestProducer(t, "127.0.0.1:0", testConfig())
	conn := &mockConn{delegate: &producerConnDelegate{w}, pubs: make(chan struct{}, 100)}
	w.conn = conn
	atomic.StoreInt32(&w.state, StateConnected)
	w.closeChan = make(chan int)
	go w.router()
	go conn.answer()
	for i := range 100 {
		if err := w.Publish("test", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	close(conn.pubs)
}

// mockConn has the methods of producerConn and no more.
type mockConn struct {
	delegate ConnDelegate
	pubs     chan struct{}
}

func (c *mockConn) String() string                             { return "127.0.0.1:0" }
func (c *mockConn) SetLogger(logger, LogLevel, string)         {}
func (c *mockConn) SetLoggerLevel(LogLevel)                    {}
func (c *mockConn) SetLoggerForLevel(logger, LogLevel, string) {}
func (c *mockConn) Connect() (*IdentifyResponse, error)        { return nil, nil }
func (c *mockConn) Close() error                               { return nil }

func (c *mockConn) WriteCommand(cmd *Command) error {
	if string(cmd.Name) == "PUB" {
		c.pubs <- struct{}{}
	}
	return nil
}

func (c *mockConn) answer() {
	for range c.pubs {
		c.delegate.OnResponse(nil, []byte("OK"))
	}
}
