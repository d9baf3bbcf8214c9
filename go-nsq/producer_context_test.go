package nsq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// TestContextEndsEveryWait: a publish does not outlive its context, whatever it
// waits for, and says the context's error.
func TestContextEndsEveryWait(t *testing.T) {
	body := []byte("x")
	silent := func(b *bubble) { b.server("a:4150", func(s *fakeNSQD) { s.silent = true }) }
	for name, test := range map[string]struct {
		prepare func(b *bubble)
		enter   func(b *bubble, w *Producer)
	}{
		"dial": {
			prepare: func(b *bubble) { b.hang("a:4150") },
		},
		"dial of another": {
			prepare: func(b *bubble) { b.hang("a:4150") },
			enter: func(b *bubble, w *Producer) {
				go func() { _ = w.Ping() }()
				synctest.Wait()
			},
		},
		"handshake": {
			prepare: func(b *bubble) {
				b.server("a:4150", func(s *fakeNSQD) {
					s.intercept = func(*fakeConn, []string) (bool, string) { return true, "" }
				})
			},
		},
		"answer": {prepare: silent},
		"room in the queue": {
			prepare: silent,
			enter: func(b *bubble, w *Producer) {
				for {
					ctx, cancel := context.WithTimeout(b.Context(), 10*time.Millisecond)
					err := w.PublishAsyncWithContext(ctx, "discard", body, nil)
					cancel()
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							b.Errorf("filling the queue: %v", err)
						}
						return
					}
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				test.prepare(b)
				config := b.config()
				config.DialTimeout = time.Minute
				w := newTestProducer(b, "a:4150", config)
				if test.enter != nil {
					test.enter(b, w)
				}
				for publish, err := range map[string]func(context.Context) error{
					"Publish": func(ctx context.Context) error { return w.PublishWithContext(ctx, "discard", body) },
					"MultiPublish": func(ctx context.Context) error {
						return w.MultiPublishWithContext(ctx, "discard", [][]byte{body})
					},
					"DeferredPublish": func(ctx context.Context) error {
						return w.DeferredPublishWithContext(ctx, "discard", time.Second, body)
					},
				} {
					ctx, cancel := context.WithTimeout(b.Context(), 500*time.Millisecond)
					start := time.Now()
					if got := err(ctx); got != context.DeadlineExceeded || time.Since(start) != 500*time.Millisecond {
						b.Errorf("%s: %v after %s", publish, got, time.Since(start))
					}
					cancel()
				}
				ended, cancel := context.WithCancel(b.Context())
				cancel()
				done := make(chan *ProducerTransaction, 1)
				for publish, err := range map[string]error{
					"Ping":                 w.PingWithContext(ended),
					"PublishAsync":         w.PublishAsyncWithContext(ended, "discard", body, done),
					"MultiPublishAsync":    w.MultiPublishAsyncWithContext(ended, "discard", [][]byte{body}, done),
					"DeferredPublishAsync": w.DeferredPublishAsyncWithContext(ended, "discard", 0, body, done),
				} {
					if err != context.Canceled {
						b.Errorf("%s: %v", publish, err)
					}
				}
				if len(done) != 0 {
					b.Error("a publish that was not accepted has an outcome")
				}
			})
		})
	}
}

// TestWithdrawnPublishIsNotSent: what is not written when its context ends never
// is, and those behind it are.
func TestWithdrawnPublishIsNotSent(t *testing.T) {
	inBubble(t, func(b *bubble) {
		release := make(chan struct{})
		s := b.server("a:4150", func(s *fakeNSQD) {
			s.intercept = func(_ *fakeConn, params []string) (bool, string) {
				if params[0] == "PUB" {
					<-release // reads nothing, so that writes wait
				}
				return false, ""
			}
		})
		config := b.config()
		config.WriteTimeout = time.Minute
		w := newTestProducer(b, "a:4150", config)
		done := make(chan *ProducerTransaction, 10)
		for range 3 { // more than the buffers on the way hold
			if err := w.PublishAsync("discard", make([]byte, 200<<10), done); err != nil {
				b.Fatal(err)
			}
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if err := w.PublishWithContext(ctx, "kept", []byte("withdrawn")); err != context.DeadlineExceeded {
			b.Fatalf("got %v", err)
		}
		if err := w.PublishAsync("kept", []byte("sent"), done, "last"); err != nil {
			b.Fatal(err)
		}
		close(release)
		for range 4 {
			if result := <-done; result.Error != nil {
				b.Error(result.Error)
			}
		}
		if n := s.backlog("kept"); n != 1 {
			b.Errorf("%d messages, want only the one that was not withdrawn", n)
		}
	})
}

// TestProducerCause: what is behind ErrNotConnected can be asked for, and a
// transaction tells whether its publish may have been stored.
func TestProducerCause(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := b.server("a:4150", func(s *fakeNSQD) { s.silent = true })
		w := newTestProducer(b, "a:4150", b.config())
		if err := w.LastError(); err != nil || w.State() != StateInit {
			b.Errorf("at first %v, state %d", err, w.State())
		}
		done := make(chan *ProducerTransaction, 1)
		if err := w.PublishAsync("discard", []byte("x"), done); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		if stats := *w.Stats(); stats != (ProducerStats{Unanswered: 1}) || w.State() != StateConnected {
			b.Errorf("got %+v, state %d", stats, w.State())
		}
		s.dropConnections()
		result := <-done
		if result.Error != ErrNotConnected || !result.Uncertain() || result.Cause() == nil || result.Cause() != w.LastError() {
			b.Errorf("got %+v, last error %v", result, w.LastError())
		}
		synctest.Wait()
		if stats := *w.Stats(); stats != (ProducerStats{Lost: 1}) || w.State() != StateInit {
			b.Errorf("got %+v, state %d", stats, w.State())
		}
		s.setSilent(false)
		if err := w.Publish("discard", []byte("x")); err != nil {
			b.Error(err)
		}
		if err := w.Publish("discard", make([]byte, 2<<20)); err == nil {
			b.Error("published too much")
		}
		if stats := *w.Stats(); stats.Published != 1 || stats.Refused != 1 {
			b.Errorf("got %+v", stats)
		}
		b.listen("a:4150", nil)
		synctest.Wait()
		if err := w.Publish("discard", []byte("x")); !errors.Is(err, syscall.ECONNREFUSED) || w.LastError() != err {
			b.Errorf("got %v, last error %v", err, w.LastError())
		}
	})
}

// TestProducerBackPressure: no more than a bounded number of publishes waits for
// an nsqd that does not answer.
func TestProducerBackPressure(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", func(s *fakeNSQD) { s.silent = true })
		w := newTestProducer(b, "a:4150", b.config())
		n := 0
		for {
			ctx, cancel := context.WithTimeout(b.Context(), time.Second)
			err := w.PublishAsyncWithContext(ctx, "discard", []byte("x"), nil)
			cancel()
			if err != nil {
				break
			}
			n++
		}
		if n < maxUnansweredTransactions || n > maxUnansweredTransactions+2*maxWaitingTransactions {
			b.Errorf("%d publishes were accepted", n)
		}
	})
}

// TestProducerLosesConnectionAtOnce: a connection that ends right after the
// handshake fails its publishes and does not hold up those on the next one.
func TestProducerLosesConnectionAtOnce(t *testing.T) {
	var losses atomic.Int32
	losses.Store(200)
	s := startServer(t, func(s *fakeNSQD) {
		s.intercept = func(c *fakeConn, params []string) (bool, string) {
			if params[0] != "IDENTIFY" || losses.Add(-1) < 0 {
				return false, ""
			}
			errText := c.identify()
			_ = c.socket.Close()
			return true, errText
		}
	})
	w := newTestProducer(t, s.tcpAddr(), testConfig())
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for losses.Load() > 0 {
				err := w.Publish("discard", []byte("x"))
				if _, ok := errors.AsType[ErrIdentify](err); err != nil && err != ErrNotConnected && !ok {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	publishers.Wait()
	for err := ErrNotConnected; err != nil; {
		if err = w.Publish("discard", []byte("x")); err != nil && err != ErrNotConnected {
			t.Fatal(err)
		}
	}
}

// TestPingWhileReconnecting races Ping with losses.
func TestPingWhileReconnecting(t *testing.T) {
	s := startServer(t, nil)
	w := newTestProducer(t, s.tcpAddr(), testConfig())
	var pingers sync.WaitGroup
	for range 4 {
		pingers.Go(func() {
			for range 200 {
				_ = w.Ping() // it may have been lost just now
			}
		})
	}
	for range 20 {
		s.dropConnections()
	}
	pingers.Wait()
	if err := w.Publish("discard", []byte("x")); err != nil && err != ErrNotConnected {
		t.Error(err)
	}
}

// TestPublishAsyncCoalesces: what is queued while a write is under way is one
// write; a lone publish is written at once.
func TestPublishAsyncCoalesces(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil)
		w := newTestProducer(b, "a:4150", b.config())
		if err := w.Ping(); err != nil {
			b.Fatal(err)
		}
		writes := func() int {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.conns[0].writes
		}
		synctest.Wait()
		before := writes()
		if err := w.Publish("discard", []byte("x")); err != nil {
			b.Fatal(err)
		}
		if n := writes() - before; n != 1 {
			b.Errorf("%d writes for a publish", n)
		}
		before = writes()
		done := make(chan *ProducerTransaction, 1000)
		for range 1000 {
			if err := w.PublishAsync("discard", []byte("x"), done); err != nil {
				b.Fatal(err)
			}
		}
		for range 1000 {
			if result := <-done; result.Error != nil {
				b.Fatal(result.Error)
			}
		}
		if n := writes() - before; n > 100 {
			b.Errorf("%d writes for 1000 publishes", n)
		}
	})
}

// TestConnWithContext: Connect is given up with its context, at every step.
func TestConnWithContext(t *testing.T) {
	for _, step := range []string{"dial", "handshake"} {
		inBubble(t, func(b *bubble) {
			switch step {
			case "dial":
				b.hang("a:4150")
			default:
				b.server("a:4150", func(s *fakeNSQD) {
					s.intercept = func(*fakeConn, []string) (bool, string) { return true, "" }
				})
			}
			c := NewConn("a:4150", b.config(), newEventDelegate())
			ctx, cancel := context.WithTimeout(b.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := c.ConnectWithContext(ctx)
			if err != context.DeadlineExceeded || time.Since(start) != 100*time.Millisecond {
				b.Errorf("%s: %v after %s", step, err, time.Since(start))
			}
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				b.Error(err)
			}
		})
	}
	inBubble(t, func(b *bubble) {
		b.server("a:4150", nil)
		d := newEventDelegate()
		c := NewConn("a:4150", b.config(), d)
		ctx, cancel := context.WithCancel(b.Context())
		answer, err := c.ConnectWithContext(ctx)
		if err != nil || answer.MaxRdyCount != 2500 {
			b.Fatalf("got %+v, %v", answer, err)
		}
		if err := c.WriteCommandWithContext(ctx, Nop()); err != nil {
			b.Error(err)
		}
		cancel() // ends nothing now
		if err := c.WriteCommandWithContext(ctx, Nop()); err != context.Canceled {
			b.Error(err)
		}
		b.pass(time.Second)
		if c.IsClosing() {
			b.Error("the end of the context ended the connection")
		}
		if err := c.Close(); err != nil {
			b.Error(err)
		}
		<-d.closed
	})
}

// TestDialerHasDialTimeout: DialTimeout limits a Dialer of the user's.
func TestDialerHasDialTimeout(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.hang("a:4150")
		w := newTestProducer(b, "a:4150", b.config())
		start := time.Now()
		if err := w.Ping(); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			b.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// TestPlainOKHandshake: with an nsqd that does not negotiate, commands are one
// write each as well, and nothing is upgraded.
func TestPlainOKHandshake(t *testing.T) {
	inBubble(t, func(b *bubble) {
		s := startScripted(b, false)
		d := newEventDelegate()
		c := NewConn(scriptedAddr, b.config(), d)
		answer, err := c.Connect()
		if err != nil || answer != nil || c.MaxRDY() != 2500 {
			b.Fatalf("got %+v, %v", answer, err)
		}
		before := b.conns[0].writes
		if err := c.WriteCommand(Subscribe("t", "c")); err != nil {
			b.Fatal(err)
		}
		if n := b.conns[0].writes - before; n != 1 {
			b.Errorf("%d writes for a command", n)
		}
		s.expect("IDENTIFY", "SUB t c")
		_ = c.Close()
		<-d.closed
	})
}

// TestTLSRequired: without an offer of TLS tls_v1 goes on in plain text and
// warns, tls_required does not go on; both ask for it.
func TestTLSRequired(t *testing.T) {
	for _, plain := range []bool{false, true} {
		for _, required := range []bool{false, true} {
			inBubble(t, func(b *bubble) {
				if plain {
					startScripted(b, false)
				} else {
					listener := nsqtest.NewNetwork()
					b.listen(scriptedAddr, listener)
					s, err := startFakeNSQD("", func(s *fakeNSQD) { s.tcp = listener })
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(s.close)
				}
				config := b.config()
				config.TlsV1, config.TlsRequired = !required, required
				d := newEventDelegate()
				c := NewConn(scriptedAddr, config, d)
				lines := new(lineLogger)
				c.SetLogger(lines, LogLevelWarning, "")
				_, err := c.Connect()
				_ = c.Close()
				if required {
					if err != (ErrIdentify{"nsqd does not offer TLS, which is required"}) {
						b.Errorf("required: %v", err)
					}
					return
				}
				<-d.closed
				if err != nil || fmt.Sprint(lines.lines) !=
					"[WRN  (scripted:4150) nsqd does not offer TLS, the connection is not encrypted]" {
					b.Errorf("got %v, logged %q", err, lines.lines)
				}
				if c.identifyParams()["tls_v1"] != true {
					b.Error("TLS was not asked for")
				}
			})
		}
	}
}
