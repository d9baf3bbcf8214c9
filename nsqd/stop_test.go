package nsqd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A publish in progress when the stop begins is answered, and its message stored.
func TestStopLetsRequestsFinish(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	conn, err := net.Dial("tcp", d.HTTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /pub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" { // it waits for the body now
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	d.stop()
	logged.await(t, `HTTP: closing `)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || string(body) != "OK" {
		t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
	}
	d.shutdown()
	next := startDaemon(t, inDir(d.dir))
	nsqtest.Equal(t, next.dial().Sub("t", "c").Rdy(1).ReadMessage().Body, "hello")
}

// While a stop waits, it can be asked for what.
func TestRemaining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		disk := useFailing(b.NSQD)
		p := b.connect()
		for i := range remainingShown + 2 {
			p.Pub(fmt.Sprintf("t%02d", i), "m")
		}
		nsqtest.Equal(t, b.Remaining(), "clients or HTTP requests; no topic is stored yet")
		release := disk.block("t07")
		defer release()
		var stopping sync.WaitGroup
		stopping.Go(func() {
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		time.Sleep(time.Second) // clients have been waited for
		nsqtest.Equal(t, b.Remaining(), "1 topics to be stored: t07")
		release()
		stopping.Wait()
		nsqtest.Equal(t, b.Remaining(), "what runs in the background; all topics are stored")
		b.unstored.set(b.topicList())
		if got := b.Remaining(); !strings.HasPrefix(got, "22 topics to be stored: t00, t01, ") || !strings.HasSuffix(got, ", t19, ...") {
			t.Errorf("remaining: %s", got)
		}
	})
}

// Topics and channels of the last run are there when the daemon says it is ready.
func TestReady(t *testing.T) {
	d := startDaemon(t)
	d.post("/topic/create?topic=t", "", "")
	d.post("/channel/create?topic=t&channel=c", "", "")
	d.shutdown()
	opts := NewOptions()
	opts.DataPath, opts.TCPAddress, opts.HTTPAddress = d.dir, "127.0.0.1:0", ""
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Ready():
		t.Error("ready before Run")
	default:
	}
	again := &daemon{NSQD: n, t: t, result: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	again.stop = stop
	go func() { again.result <- n.Run(ctx) }()
	t.Cleanup(again.shutdown)
	<-n.Ready()
	if n.existingTopic("t").existingChannel("c") == nil {
		t.Error("ready without the channel of the last run")
	}
}

// A client that is killed, or a probe of the port, is no error.
func TestResetConnectionsAreNoErrors(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	for _, sends := range []string{"", "  ", "  V2", "  V2SUB t c\nRDY 1\n"} {
		conn, err := net.Dial("tcp", d.TCPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, sends); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(sends, "SUB") {
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // closing sends a reset
			t.Fatal(err)
		}
		conn.Close()
	}
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); d.connections() > 0; <-ticks.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", d.connections())
		}
	}
	if strings.Contains(logged.String(), "ERROR") {
		t.Errorf("logged %s", &logged)
	}
}

// connections returns how many TCP connections there are.
func (d *daemon) connections() int {
	d.conns.mu.Lock()
	defer d.conns.mu.Unlock()
	return len(d.conns.conns)
}
