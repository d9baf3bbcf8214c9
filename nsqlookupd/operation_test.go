package nsqlookupd_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/metrics/metricstest"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

const (
	healthy = `200 {"status":"ok"}`
	warming = `503 {"status":"unavailable","reasons":["nsqds may still be registering (--warmup)"]}`
)

func TestHealth(t *testing.T) {
	d := start(t)
	for _, path := range []string{"/health/live", "/health/ready"} {
		if got := d.get(path); got != healthy {
			t.Errorf("%s: %s", path, got)
		}
		if got := d.request("HEAD", path); got != "200 " {
			t.Errorf("HEAD %s: %s", path, got)
		}
	}
}

// TestWarmup: while nsqds come back after a restart, load balancers are told to wait;
// who asks is answered.
func TestWarmup(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.Warmup = 500 * time.Millisecond })
	if got := d.get("/health/ready"); got != warming {
		t.Errorf("at first: %s", got)
	}
	if got := d.get("/health/live"); got != healthy {
		t.Errorf("live: %s", got)
	}
	s := d.identified()
	s.do("REGISTER t c")
	if got := d.get("/lookup?topic=t"); got != `200 {"channels":["c"],"producers":[`+producer(s)+`]}` {
		t.Errorf("lookup: %s", got)
	}
	if got := d.get("/lookup?topic=none"); got != `404 {"message":"TOPIC_NOT_FOUND"}` {
		t.Errorf("lookup: %s", got)
	}
	d.eventually("/health/ready", healthy)
}

// TestShutdownDelay: a stop is announced before it happens.
func TestShutdownDelay(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.ShutdownDelay = time.Second })
	s := d.identified()
	s.do("REGISTER t")
	began := time.Now()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		d.stop()
	}()
	d.eventually("/health/ready", `503 {"status":"unavailable","reasons":["stopping"]}`)
	d.identified().do("REGISTER t c") // others may still come
	if got := d.get("/lookup?topic=t"); !strings.HasPrefix(got, `200 {"channels":["c"],"producers":[{`) {
		t.Errorf("lookup: %s", got)
	}
	<-stopped
	if took := time.Since(began); took < time.Second {
		t.Errorf("stopped after %s", took)
	}
	s.wantEnd()
}

func TestMetrics(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) {
		o.Warmup, o.MaxRegistrationsPerConnection, o.MaxConnections = time.Hour, 4, 3
		o.RegistrationSecretFile = secretFile(t, "s")
	})
	known := strings.TrimSuffix(identity, "}") + `,"secret":"s"}`
	one, two := d.v1(), d.v1()
	for _, c := range []*client{one, two} {
		c.send(identify(known))
		c.reply()
		c.do("REGISTER t a", "REGISTER t b", "PING")
	}
	one.do("REGISTER u")
	one.send("REGISTER v\n")
	one.reply()
	two.do("UNREGISTER t b")
	d.post("/channel/create?topic=created&channel=c")
	d.post("/topic/tombstone?topic=t&node=h:2")
	stranger := d.v1()
	d.dial().wantEnd()
	stranger.send(identify(identity))
	stranger.wantReply("E_UNAUTHORIZED IDENTIFY secret is missing or wrong")
	d.log.wait(t, "PROTOCOL(V1): ["+stranger.addr()+"] exiting ioloop")

	want := metricstest.Values{
		`nsqlookupd_producers{state="active"}`:                                              2,
		`nsqlookupd_producers{state="inactive"}`:                                            0,
		`nsqlookupd_topics{state="used"}`:                                                   2,
		`nsqlookupd_topics{state="unused"}`:                                                 1,
		`nsqlookupd_channels`:                                                               3,
		`nsqlookupd_registrations`:                                                          6,
		`nsqlookupd_tombstones`:                                                             2,
		`nsqlookupd_ready`:                                                                  0,
		`nsqlookupd_commands_total{command="identify"}`:                                     2,
		`nsqlookupd_commands_total{command="register"}`:                                     6,
		`nsqlookupd_commands_total{command="unregister"}`:                                   1,
		`nsqlookupd_commands_total{command="ping"}`:                                         2,
		`nsqlookupd_refused_total{what="connection"}`:                                       1,
		`nsqlookupd_refused_total{what="identify"}`:                                         1,
		`nsqlookupd_refused_total{what="register"}`:                                         1,
		`nsqlookupd_build_info{goversion="` + runtime.Version() + `",version="1.3.0"}`:      1,
		`nsqlookupd_http_requests_total{code="200",method="POST",route="/topic/tombstone"}`: 1,
	}
	metricstest.Scrape(t, d.base+"/metrics").Check(t, want)
	one.close()
	d.eventually("/lookup?topic=u", `200 {"channels":[],"producers":[]}`)
	metricstest.Scrape(t, d.base+"/metrics").Check(t, metricstest.Values{
		`nsqlookupd_producers{state="active"}`: 1,
		`nsqlookupd_registrations`:             2,
		`nsqlookupd_topics{state="unused"}`:    2,
	})
}
