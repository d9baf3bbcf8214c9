package httpapi_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// Clients that say nothing, speak slowly or do not listen are dropped in time.
func TestSlowClients(t *testing.T) {
	for _, c := range []struct {
		name, sends string
		reads       bool
		after       time.Duration
	}{
		{"before the first request", "", true, 10 * time.Second},
		{"in the midst of the header", "GET /big HTTP/1.1\r\nHo", true, 10 * time.Second},
		{"in the midst of the body", "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", true, time.Minute},
		{"between requests", "GET /small HTTP/1.1\r\nHost: x\r\n\r\n", true, 5 * time.Minute},
		{"without reading the answer", "GET /big HTTP/1.1\r\nHost: x\r\n\r\n", false, 2 * time.Minute},
		{"without reading the answer to what took long", "GET /long HTTP/1.1\r\nHost: x\r\n\r\n", false, 7 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				network := nsqtest.NewNetwork()
				stop := serveIn(t, network)
				defer stop()
				conn, err := network.Dial()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, c.sends); err != nil {
					t.Fatal(err)
				}
				if !c.reads {
					time.Sleep(c.after + time.Second)
				}
				if _, err := io.ReadAll(conn); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < c.after || took > c.after+2*time.Second {
					t.Errorf("dropped after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// So is one that begins TLS and does not go on.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		network := nsqtest.NewNetwork()
		stop := serveIn(t, tls.NewListener(network, &tls.Config{Certificates: []tls.Certificate{nsqtest.NewCA(t).Issue("nsqd")}}))
		defer stop()
		conn, err := network.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{22, 3, 1, 2, 0}); err != nil { // a record of 512 bytes begins
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("dropped after %v", took)
		}
	})
}

// An answer that took long to find has all the time to arrive.
func TestLateAnswerArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := nsqtest.NewNetwork()
		stop := serveIn(t, network)
		defer stop()
		client := &http.Client{Transport: &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return network.Dial() },
			DisableKeepAlives: true,
		}}
		resp, err := client.Get("http://x/long")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != bigAnswer {
			t.Errorf("got %d bytes, %v", len(body), err)
		}
	})
}

// bigAnswer is more than any buffer on the way holds.
const bigAnswer = 1 << 20

// serveIn serves an API in a bubble until the returned function is called.
func serveIn(t *testing.T, network net.Listener) (stop func()) {
	a := httpapi.New(config(slog.New(slog.DiscardHandler)))
	a.Handle("GET", "/small", result("x"))
	a.Handle("GET", "/big", result(strings.Repeat("x", bigAnswer)))
	a.Handle("GET", "/long", func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
		time.Sleep(5 * time.Minute)
		return strings.Repeat("x", bigAnswer), nil
	})
	a.Handle("POST", "/body", func(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
		_, err := io.ReadAll(r.Body)
		return nil, err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- httpapi.Serve(ctx, httpapi.Listener{Listener: network, Name: "HTTP", Grace: time.Second, Log: slog.New(slog.DiscardHandler)}, a)
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
