package nsqd

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// startDraining runs a daemon that refuses publishes 5 s after a drain has begun,
// and stops after a minute.
func startDraining(t *testing.T, configure ...func(*Options)) *bubble {
	t.Helper()
	return startBubble(t, func(o *Options) {
		o.DrainGrace, o.DrainTimeout, o.StatsdMemStats = 5*time.Second, time.Minute, false
		for _, c := range configure {
			c(o)
		}
	})
}

// ask sends an HTTP request without a socket and returns status and body.
func (b *bubble) ask(method, path, body string) (int, string) {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.api.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// expect is ask with the answer that should come.
func (b *bubble) expect(method, path, body string, status int, want string) {
	b.t.Helper()
	if gotStatus, got := b.ask(method, path, body); gotStatus != status || got != want {
		b.t.Errorf("%s %s: got %d %s, want %d %s", method, path, gotStatus, got, status, want)
	}
}

// drainOf sends a request to /drain.
func (b *bubble) drainOf(method string) (s drainStatus) {
	b.t.Helper()
	synctest.Wait() // no message is on its way from one place to another
	status, body := b.ask(method, "/drain", "")
	if status != 200 {
		b.t.Fatalf("%s /drain: got %d %s", method, status, body)
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// stopsAfter checks that the daemon stops by itself, cleanly, after about d.
func (b *bubble) stopsAfter(d time.Duration) {
	b.t.Helper()
	began := time.Now()
	select {
	case <-b.ended:
	case <-time.After(time.Hour):
		b.t.Fatal("the daemon does not stop")
	}
	if took := time.Since(began); took < d || took > d+time.Second {
		b.t.Errorf("it took %v to stop, want %v", took, d)
	}
	if err := b.stop(); err != nil {
		b.t.Errorf("Run returned %v", err)
	}
}

const (
	ready    = `{"status":"ok"}`
	draining = `{"status":"unavailable","reasons":["draining"]}`
)

// A drain from beginning to end: not ready, publishes refused after the grace
// time, consumers go on, and a stop once all is finished.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t)
		producer, consumer := b.connect(), b.connect().Sub("t", "c").Rdy(1)
		producer.Mpub("t", "1", "2")
		b.expect("GET", "/health/ready", "", 200, ready)
		nsqtest.Equal(t, b.drainOf("GET"), drainStatus{Left: 2})
		began := time.Now()
		nsqtest.Equal(t, b.drainOf("POST"), drainStatus{Draining: true, Since: began.Unix(), Deadline: began.Unix() + 60, Left: 2})
		b.expect("GET", "/health/ready", "", 503, draining)
		b.expect("GET", "/health/live", "", 200, ready)
		b.expect("GET", "/ping", "", 200, "OK")

		time.Sleep(4900 * time.Millisecond)
		nsqtest.Equal(t, b.drainOf("POST").Since, began.Unix()) // the first one goes on
		producer.Pub("t", "3").Dpub("t", 10*time.Second, "4")
		b.expect("POST", "/pub?topic=t", "5", 200, "OK")
		b.connect().Pub("e#ephemeral", "gone with the daemon")
		b.connect().Sub("f", "x#ephemeral")
		b.connect().Pub("f", "gone as well")
		time.Sleep(200 * time.Millisecond)
		nsqtest.Equal(t, b.drainOf("GET").Refusing, true)
		b.expect("POST", "/pub?topic=t", "6", 503, `{"message":"DRAINING"}`)
		b.expect("POST", "/mpub?topic=new", "6", 503, `{"message":"DRAINING"}`)
		b.connect().CommandBody("6", "PUB", "new").ExpectError("E_PUB_FAILED PUB failed draining").ExpectClosed()
		b.connect().CommandBody("6", "DPUB", "t", "1000").ExpectError("E_DPUB_FAILED DPUB failed draining").ExpectClosed()
		b.connect().Send("MPUB t\n\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x01a").ExpectError("E_MPUB_FAILED MPUB failed draining").ExpectClosed()
		if b.existingTopic("new") != nil {
			t.Error("a publish that was refused has made a topic")
		}
		if body := b.get("/stats?format=json&include_mem=0"); !strings.HasSuffix(body, `,"drain":`+encode(t, b.drainOf("GET"))+"}") {
			t.Errorf("/stats does not end with the drain: %s", body)
		}
		if body := b.get("/stats?include_mem=0"); !strings.Contains(body, "\nHealth: OK\nDraining: publishes refused: true, messages left: 5\n") {
			t.Errorf("/stats does not tell of the drain: %s", body)
		}

		for range 3 {
			consumer.Fin(consumer.ReadMessage().ID)
		}
		time.Sleep(time.Second)
		nsqtest.Equal(t, b.drainOf("GET").Left, 2) // one in flight, one deferred
		consumer.Fin(consumer.ReadMessage().ID)
		last := consumer.ReadMessage()
		time.Sleep(20 * time.Second)
		consumer.Fin(last.ID)
		b.stopsAfter(0)
	})
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What nobody takes in time is on disk for the next start.
func TestDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := startDraining(t, inDir(dir))
		b.connect().Mpub("alone", "1", "2")
		b.connect().Sub("t", "c").Rdy(0)
		b.connect().Pub("t", "3")
		b.Drain()
		b.stopsAfter(time.Minute)
		again := startDraining(t, inDir(dir))
		nsqtest.Equal(t, again.drainOf("GET"), drainStatus{Left: 3})
	})
}

// Nothing to wait for but the grace time; and not even that.
func TestDrainOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t)
		b.connect().Pub("e#ephemeral", "m")
		b.Drain()
		b.stopsAfter(5 * time.Second)
		b = startDraining(t, func(o *Options) { o.DrainGrace = 0 })
		b.Drain()
		b.stopsAfter(0)
		b = startDraining(t, func(o *Options) { o.DrainGrace = time.Hour })
		b.Drain()
		b.stopsAfter(time.Minute) // the limit counts from the beginning
	})
}

// A stop does not wait for a drain.
func TestStopWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t)
		b.connect().Pub("t", "m")
		b.Drain()
		time.Sleep(10 * time.Second)
		began := time.Now()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

// A cancelled drain leaves no trace, and the next one begins anew.
func TestDrainCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t)
		consumer := b.connect().Sub("t", "c").Rdy(1)
		nsqtest.Equal(t, b.drainOf("DELETE"), drainStatus{}) // none is under way
		for range 2 {
			b.expect("POST", "/pub?topic=t", "m", 200, "OK")
			b.Drain()
			time.Sleep(10 * time.Second)
			b.expect("POST", "/pub?topic=t", "m", 503, `{"message":"DRAINING"}`)
			b.expect("GET", "/health/ready", "", 503, draining)
			nsqtest.Equal(t, b.drainOf("DELETE"), drainStatus{Left: 1})
			b.expect("GET", "/health/ready", "", 200, ready)
			b.expect("POST", "/pub?topic=t", "m", 200, "OK")
			if strings.Contains(b.get("/stats?format=json"), "drain") {
				t.Error("/stats still tells of a drain")
			}
			time.Sleep(20 * time.Second)
			consumer.Fin(consumer.ReadMessage().ID).Fin(consumer.ReadMessage().ID)
		}
		b.Drain()
		time.Sleep(4 * time.Second)
		b.expect("POST", "/pub?topic=t", "m", 200, "OK")
		consumer.Fin(consumer.ReadMessage().ID)
		b.stopsAfter(time.Second)
	})
}

// A queue that fails makes the daemon not ready, not dead.
func TestNotReadyWithoutStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startDraining(t)
		q := newQueue(b.env, "q", false)
		b.health.failed(q, 1, errExiting)
		b.expect("GET", "/health/ready", "", 503, `{"status":"unavailable","reasons":["storage: exiting"]}`)
		b.expect("GET", "/health/live", "", 200, ready)
		b.health.forget(q)
		b.expect("GET", "/health/ready", "", 200, ready)
	})
}
