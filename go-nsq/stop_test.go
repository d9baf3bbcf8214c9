package nsq

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// TestConsumerStopInEveryState: Stop ends within its bound, whatever the
// consumer is doing; nothing is left of it, which the bubble checks.
func TestConsumerStopInEveryState(t *testing.T) {
	const addr = "a:4150"
	silent := func(b *bubble) { // accepts and says nothing
		listener := nsqtest.NewNetwork()
		b.listen(addr, listener)
		socket := make(chan net.Conn, 1)
		go func() {
			if c, err := listener.Accept(); err == nil {
				socket <- c
			}
		}()
		b.Cleanup(func() {
			listener.Close()
			(<-socket).Close()
		})
	}
	connecting := func(b *bubble, r *Consumer) {
		go func() {
			if err := r.ConnectToNSQD(addr); !errors.Is(err, errConsumerStopped) {
				b.Errorf("connecting: %v", err)
			}
		}()
		synctest.Wait()
	}
	connect := func(b *bubble, r *Consumer) {
		if err := r.ConnectToNSQD(addr); err != nil {
			b.Error(err)
		}
		synctest.Wait()
	}
	messages := func(b *bubble, configure func(*fakeNSQD)) { // a server with messages
		b.server(addr, configure).publish("t", testBodies(3)...)
	}
	hour := func(*Message) error { time.Sleep(time.Hour); return nil }
	for name, state := range map[string]struct {
		prepare func(b *bubble)
		handle  HandlerFunc
		enter   func(b *bubble, r *Consumer)
		bound   time.Duration
	}{
		"never connected": {enter: func(*bubble, *Consumer) {}},
		"dialing": {
			prepare: func(b *bubble) { b.hang(addr) },
			enter:   connecting,
		},
		"in the handshake": {
			prepare: silent,
			enter:   connecting,
		},
		"waiting for the answer to SUB": {
			prepare: func(b *bubble) {
				b.server(addr, func(s *fakeNSQD) {
					s.intercept = func(_ *fakeConn, params []string) (bool, string) { return params[0] == "SUB", "" }
				})
			},
			enter: connecting,
		},
		"idle": {
			prepare: func(b *bubble) { b.server(addr, nil) },
			enter:   connect,
		},
		"handling, more waiting": {
			prepare: func(b *bubble) { messages(b, nil) },
			handle:  func(*Message) error { time.Sleep(5 * time.Second); return nil },
			enter:   connect,
			bound:   15 * time.Second,
		},
		"handling without end": {
			prepare: func(b *bubble) { messages(b, nil) },
			handle:  hour,
			enter:   connect,
			bound:   consumerStopTimeout,
		},
		"a message unanswered": {
			prepare: func(b *bubble) { messages(b, nil) },
			handle:  func(m *Message) error { m.DisableAutoResponse(); return nil },
			enter:   connect,
			bound:   consumerStopTimeout,
		},
		"nsqd silent after CLS": {
			prepare: func(b *bubble) {
				b.server(addr, func(s *fakeNSQD) {
					s.intercept = func(_ *fakeConn, params []string) (bool, string) { return params[0] == "CLS", "" }
				})
			},
			enter: connect,
			bound: closeWaitTimeout + time.Second,
		},
		"in a backoff pause": {
			prepare: func(b *bubble) { messages(b, nil) },
			handle:  func(*Message) error { return errors.New("bad") },
			enter:   connect,
			bound:   time.Second,
		},
		"waiting to connect again": {
			enter: func(b *bubble, r *Consumer) {
				if err := r.ConnectToNSQD(addr); err == nil {
					b.Error("connected to nobody")
				}
			},
		},
		"connection lost with a message in a handler": {
			prepare: func(b *bubble) { messages(b, nil) },
			handle:  hour,
			enter: func(b *bubble, r *Consumer) {
				connect(b, r)
				b.listen(addr, nil)
				_ = r.conns()[0].conn.Close()
				synctest.Wait()
			},
			bound: consumerStopTimeout,
		},
		"disconnecting": {
			prepare: func(b *bubble) { messages(b, nil) },
			handle:  func(*Message) error { time.Sleep(5 * time.Second); return nil },
			enter: func(b *bubble, r *Consumer) {
				connect(b, r)
				if err := r.DisconnectFromNSQD(addr); err != nil {
					b.Error(err)
				}
			},
			bound: 15 * time.Second,
		},
		"asking nsqlookupd": {
			enter: func(b *bubble, r *Consumer) {
				r.SetLookupdHttpClient(&http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
					<-req.Context().Done()
					return nil, req.Context().Err()
				})})
				go func() {
					if err := r.ConnectToNSQLookupd("l:4161"); err != nil {
						b.Error(err)
					}
				}()
				synctest.Wait()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				if state.prepare != nil {
					state.prepare(b)
				}
				config := b.config()
				config.MaxInFlight = 2
				r, err := NewConsumer("t", "ch", config)
				if err != nil {
					b.Fatal(err)
				}
				r.SetLogger(nil, LogLevelError)
				handle := state.handle
				if handle == nil {
					handle = scriptedHandler
				}
				r.AddHandler(handle)
				state.enter(b, r)

				start := time.Now()
				var stops sync.WaitGroup
				for range 3 {
					stops.Go(r.Stop)
				}
				<-r.StopChan
				if took := time.Since(start); took > state.bound {
					b.Errorf("stopped after %s", took)
				}
				stops.Wait()
				if err := r.ConnectToNSQD(addr); !errors.Is(err, errConsumerStopped) {
					b.Errorf("connecting to a stopped consumer: %v", err)
				}
			})
		})
	}
}

// roundTrip answers HTTP requests.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestProducerStopInEveryState is TestConsumerStopInEveryState for producers.
func TestProducerStopInEveryState(t *testing.T) {
	const addr = "a:4150"
	body := []byte("x")
	publishing := func(b *bubble, w *Producer, want ...error) {
		go func() {
			err := w.Publish("discard", body)
			for _, is := range want {
				if errors.Is(err, is) {
					return
				}
			}
			b.Errorf("publishing: %v", err)
		}()
		synctest.Wait()
	}
	for name, state := range map[string]struct {
		prepare func(b *bubble)
		enter   func(b *bubble, w *Producer)
		bound   time.Duration
	}{
		"never connected": {enter: func(*bubble, *Producer) {}},
		"dialing": {
			prepare: func(b *bubble) { b.hang(addr) },
			enter:   func(b *bubble, w *Producer) { publishing(b, w, ErrStopped) },
		},
		"idle": {
			prepare: func(b *bubble) { b.server(addr, nil) },
			enter: func(b *bubble, w *Producer) {
				if err := w.Ping(); err != nil {
					b.Error(err)
				}
			},
		},
		"after a lost connection": {
			prepare: func(b *bubble) { b.server(addr, nil) },
			enter: func(b *bubble, w *Producer) {
				if err := w.Ping(); err != nil {
					b.Error(err)
				}
				_ = w.conn.(*Conn).conn.Close()
			},
		},
		"waiting for an answer that does not come": {
			prepare: func(b *bubble) { b.server(addr, func(s *fakeNSQD) { s.silent = true }) },
			enter:   func(b *bubble, w *Producer) { publishing(b, w, ErrNotConnected) },
			bound:   stopTimeout,
		},
		"writing to an nsqd that does not read": {
			prepare: func(b *bubble) {
				release := make(chan struct{})
				b.server(addr, func(s *fakeNSQD) {
					s.intercept = func(*fakeConn, []string) (bool, string) { <-release; return false, "" }
				})
				b.Cleanup(func() { close(release) })
				time.AfterFunc(time.Minute, func() {})
			},
			enter: func(b *bubble, w *Producer) { publishing(b, w, ErrStopped) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				if state.prepare != nil {
					state.prepare(b)
				}
				w, err := NewProducer(addr, b.config())
				if err != nil {
					b.Fatal(err)
				}
				w.SetLogger(nil, LogLevelError)
				state.enter(b, w)
				start := time.Now()
				var stops sync.WaitGroup
				for range 3 {
					stops.Go(w.Stop)
				}
				stops.Wait()
				if took := time.Since(start); took > state.bound {
					b.Errorf("stopped after %s", took)
				}
				if err := w.Publish("t", body); err != ErrStopped {
					b.Errorf("publishing after Stop: %v", err)
				}
				if err := w.PublishAsync("t", body, nil); err != ErrStopped {
					b.Errorf("publishing after Stop: %v", err)
				}
				if err := w.PingWithContext(context.Background()); err != ErrStopped {
					b.Errorf("ping after Stop: %v", err)
				}
			})
		})
	}
}

// TestConsumerStopWhileConnectionsComeAndGo: Stop at any moment of a connect, a
// loss and a reconnect ends, without a panic of whoever is at it.
func TestConsumerStopWhileConnectionsComeAndGo(t *testing.T) {
	for i := range 60 {
		inBubble(t, func(b *bubble) {
			s := b.server("a:4150", nil)
			s.publish("t", testBodies(20)...)
			config := b.config()
			config.LookupdPollInterval = 10 * time.Millisecond
			r := b.consumer("t", config)
			r.AddConcurrentHandlers(HandlerFunc(func(*Message) error { time.Sleep(time.Millisecond); return nil }), 2)
			go func() { _ = r.ConnectToNSQD("a:4150") }()
			go func() {
				for range 3 {
					time.Sleep(7 * time.Millisecond)
					s.dropConnections()
				}
			}()
			time.Sleep(time.Duration(i) * 500 * time.Microsecond)
			r.Stop()
			<-r.StopChan
			time.Sleep(time.Second)
		})
	}
}

// TestHandlerEndsItsGoroutine: a handler that calls runtime.Goexit, as a failing
// test in it does, does not keep Stop from ending.
func TestHandlerEndsItsGoroutine(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil).publish("t", testBodies(1)...)
		r := b.consumer("t", b.config())
		r.AddHandler(HandlerFunc(func(m *Message) error { m.Finish(); runtime.Goexit(); return nil }))
		if err := r.ConnectToNSQD("a:4150"); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
	})
}
