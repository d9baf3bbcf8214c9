package nsqlookupd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/nsqlookupd"
)

// producer is the object of /lookup for a connection identified by the harness.
func producer(c *client) string {
	return fmt.Sprintf(`{"remote_address":%q,"hostname":"","broadcast_address":"h","tcp_port":1,"http_port":2,"version":"x","topology_zone":"","topology_region":""}`, c.addr())
}

// node is the object of /nodes.
func node(c *client, tombstones, topics string) string {
	return strings.TrimSuffix(producer(c), "}") + `,"tombstones":` + tombstones + `,"topics":` + topics + `}`
}

func TestCheckVectors(t *testing.T) {
	d := start(t)
	want := func(n, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("vector %s\n got %s\nwant %s", n, got, want)
		}
	}
	want("1", d.get("/topics"), `200 {"topics":[]}`)
	want("1", d.get("/nodes"), `200 {"producers":[]}`)
	want("1", d.get("/debug"), `200 {}`)
	want("2", d.get("/lookup?topic=la"), `404 {"message":"TOPIC_NOT_FOUND"}`)
	want("3", d.get("/channels?topic=la"), `200 {"channels":[]}`)
	s := d.identified()
	s.do("REGISTER la ca")
	listed := `200 {"channels":["ca"],"producers":[` + producer(s) + `]}`
	hidden := `200 {"channels":["ca"],"producers":[]}`
	want("4", d.get("/lookup?topic=la"), listed)
	want("5", d.get("/nodes"), `200 {"producers":[`+node(s, "[false]", `["la"]`)+`]}`)
	want("6", d.post("/topic/tombstone?topic=la&node=h:2"), "200 ")
	want("6", d.get("/lookup?topic=la"), hidden)
	want("7", d.get("/nodes"), `200 {"producers":[`+node(s, "[true]", `["la"]`)+`]}`)
	s.do("REGISTER la ca")
	want("8", d.get("/lookup?topic=la"), hidden)
	s.do("UNREGISTER la", "REGISTER la")
	want("9", d.get("/lookup?topic=la"), listed)
	s.do("UNREGISTER nosuch", "UNREGISTER nosuch ch")
	s.do("REGISTER e#ephemeral c#ephemeral", "UNREGISTER e#ephemeral c#ephemeral")
	want("11", d.get("/channels?topic=e%23ephemeral"), `200 {"channels":[]}`)
	s.do("UNREGISTER e#ephemeral")
	want("12", d.get("/lookup?topic=e%23ephemeral"), `404 {"message":"TOPIC_NOT_FOUND"}`)
	s.do("REGISTER e#ephemeral c#ephemeral", "REGISTER la d#ephemeral")
	s.closeWrite()
	s.wantEnd()
	want("13", d.get("/lookup?topic=e%23ephemeral"), `404 {"message":"TOPIC_NOT_FOUND"}`)
	want("14", d.get("/lookup?topic=la"), hidden)
	want("15", d.get("/nodes"), `200 {"producers":[]}`)
	want("16", d.post("/topic/delete?topic=la"), "200 ")
	want("16", d.post("/topic/delete?topic=la"), "200 ")
	want("16", d.get("/lookup?topic=la"), `404 {"message":"TOPIC_NOT_FOUND"}`)
	want("17", d.post("/channel/create?topic=nt&channel=nc"), "200 ")
	want("17", d.get("/lookup?topic=nt"), `200 {"channels":["nc"],"producers":[]}`)
	want("18", d.post("/channel/delete?topic=nt&channel=nc"), "200 ")
	want("18", d.post("/channel/delete?topic=nt&channel=nc"), `404 {"message":"CHANNEL_NOT_FOUND"}`)
	want("19", d.get("/topics"), `200 {"topics":["nt"]}`)
	want("22", d.post("/topic/create?topic=a%20b"), `400 {"message":"INVALID_ARG_TOPIC"}`)
	want("23", d.get("/ping"), `200 OK`)
}

func TestParameters(t *testing.T) {
	d := start(t)
	d.post("/channel/create?topic=t&channel=c")
	const (
		missingTopic   = `400 {"message":"MISSING_ARG_TOPIC"}`
		invalidTopic   = `400 {"message":"INVALID_ARG_TOPIC"}`
		missingChannel = `400 {"message":"MISSING_ARG_CHANNEL"}`
		invalidChannel = `400 {"message":"INVALID_ARG_CHANNEL"}`
		invalidRequest = `400 {"message":"INVALID_REQUEST"}`
		topicNotFound  = `404 {"message":"TOPIC_NOT_FOUND"}`
		noChannel      = `404 {"message":"CHANNEL_NOT_FOUND"}`
		notFound       = `404 {"message":"NOT_FOUND"}`
		refused        = `405 {"message":"METHOD_NOT_ALLOWED"}`
	)
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/info", `200 {"version":"1.3.0"}`},
		{"GET", "/lookup", missingTopic},
		{"GET", "/lookup?topic=", topicNotFound},
		{"GET", "/lookup?topic=*", topicNotFound},
		{"GET", "/lookup?topic=a%20b", topicNotFound},
		{"GET", "/lookup?topic=t;x", invalidRequest},
		{"GET", "/lookup?topic=t&topic=none", `200 {"channels":["c"],"producers":[]}`},
		{"GET", "/channels", missingTopic},
		{"GET", "/channels?topic=", `200 {"channels":[]}`},
		{"GET", "/channels?topic=unknown", `200 {"channels":[]}`},
		{"GET", "/channels?topic=*", `200 {"channels":[]}`},
		{"GET", "/channels?topic=t", `200 {"channels":["c"]}`},
		{"GET", "/channels?topic=%zz", invalidRequest},
		{"POST", "/topic/create", missingTopic},
		{"POST", "/topic/create?topic=", invalidTopic},
		{"POST", "/topic/create?topic=*", invalidTopic},
		{"POST", "/topic/create?topic=a;b", invalidRequest},
		{"POST", "/topic/create?topic=t", "200 "},
		{"POST", "/topic/delete", missingTopic},
		{"POST", "/topic/delete?topic=", "200 "},
		{"POST", "/topic/delete?topic=*", "200 "},
		{"POST", "/topic/delete?topic=a%20b", "200 "},
		{"POST", "/topic/tombstone", missingTopic},
		{"POST", "/topic/tombstone?node=h:2", missingTopic},
		{"POST", "/topic/tombstone?topic=t", `400 {"message":"MISSING_ARG_NODE"}`},
		{"POST", "/topic/tombstone?topic=t&node=", "200 "},
		{"POST", "/topic/tombstone?topic=*&node=h:2", "200 "},
		{"POST", "/topic/tombstone?topic=unknown&node=h:2", "200 "},
		{"POST", "/channel/create", missingTopic},
		{"POST", "/channel/create?topic=a%20b", invalidTopic},
		{"POST", "/channel/create?topic=t", missingChannel},
		{"POST", "/channel/create?topic=t&channel=", invalidChannel},
		{"POST", "/channel/create?topic=t&channel=c%23ephemeral", "200 "},
		{"POST", "/channel/delete", missingTopic},
		{"POST", "/channel/delete?topic=", invalidTopic},
		{"POST", "/channel/delete?topic=t", missingChannel},
		{"POST", "/channel/delete?topic=t&channel=*", invalidChannel},
		{"POST", "/channel/delete?topic=none&channel=c", noChannel},
		{"POST", "/channel/delete?topic=t&channel=none", noChannel},
		{"GET", "/topics", `200 {"topics":["t"]}`},
		{"GET", "/channels?topic=t", `200 {"channels":["c","c#ephemeral"]}`},
		{"GET", "/topic/create?topic=t", refused},
		{"POST", "/lookup?topic=t", refused},
		{"HEAD", "/ping", "405 "},
		{"GET", "/stats", notFound},
		{"GET", "/config/log_level", notFound},
		{"POST", "/create_topic?topic=t", notFound},
		{"GET", "/", notFound},
	} {
		if got := d.request(tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s\n got %s\nwant %s", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestRouting(t *testing.T) {
	d := start(t)
	for _, tt := range []struct {
		method, path    string
		status          int
		allow, location string
	}{
		{"GET", "/topic/create?topic=t", 405, "OPTIONS, POST", ""},
		{"POST", "/lookup?topic=t", 405, "GET, OPTIONS", ""},
		{"OPTIONS", "/lookup", 200, "GET, OPTIONS", ""},
		{"GET", "/lookup/?topic=t", 301, "", "/lookup?topic=t"},
		{"GET", "/LOOKUP?topic=t", 301, "", "/lookup?topic=t"},
		{"POST", "/Topic/create?topic=t", 307, "", "/topic/create?topic=t"},
		{"GET", "/debug/pprof", 200, "", ""},
		{"GET", "/debug/pprof/", 200, "", ""},
		{"GET", "/debug/pprof/cmdline", 200, "", ""},
		{"GET", "/debug/pprof/allocs", 200, "", ""},
		{"GET", "/debug/pprof/mutex", 200, "", ""},
		{"GET", "/debug/pprof/trace?seconds=0.01", 200, "", ""},
	} {
		req, err := http.NewRequest(tt.method, d.base+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status || resp.Header.Get("Allow") != tt.allow || resp.Header.Get("Location") != tt.location {
			t.Errorf("%s %s: %d, Allow %q, Location %q", tt.method, tt.path, resp.StatusCode, resp.Header.Get("Allow"), resp.Header.Get("Location"))
		}
		if has := resp.Header.Get("X-NSQ-Content-Type") != ""; has != (tt.status == 405) {
			t.Errorf("%s %s: X-NSQ-Content-Type present: %t", tt.method, tt.path, has)
		}
	}
}

// TestBodiesAreDiscarded: an endpoint that takes no body leaves the connection
// usable after one.
func TestBodiesAreDiscarded(t *testing.T) {
	d := start(t)
	resp, err := http.Post(d.base+"/topic/create?topic=t", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Close {
		t.Errorf("%s, close %t", resp.Status, resp.Close)
	}
}

func TestStableOrder(t *testing.T) {
	d := start(t)
	for _, host := range []string{"c", "a", "b", "a"} {
		c := d.v1()
		c.send(identify(strings.Replace(identity, `"h"`, `"`+host+`"`, 1)))
		c.reply()
		c.do("REGISTER z y", "REGISTER m b", "REGISTER a a", "REGISTER z x")
	}
	for path, want := range map[string]string{"/lookup?topic=z": "aabc", "/nodes": "aabc"} {
		got := ""
		for _, m := range regexp.MustCompile(`"broadcast_address":"(.)"`).FindAllStringSubmatch(d.get(path), -1) {
			got += m[1]
		}
		if got != want {
			t.Errorf("%s: order %s, want %s", path, got, want)
		}
	}
	if got, want := d.get("/topics"), `200 {"topics":["a","m","z"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := d.get("/channels?topic=z"), `200 {"channels":["x","y"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := strings.Count(d.get("/nodes"), `"tombstones":[false,false,false],"topics":["a","m","z"]`); got != 4 {
		t.Errorf("%d nodes with sorted topics, want 4", got)
	}
}

func TestTombstoneOfIPv6Node(t *testing.T) {
	for _, name := range []string{"%3A%3A1%3A2", "%5B%3A%3A1%5D%3A2"} {
		d := start(t)
		c := d.v1()
		c.send(identify(strings.Replace(identity, `"h"`, `"::1"`, 1)))
		c.reply()
		c.do("REGISTER t")
		d.post("/topic/tombstone?topic=t&node=" + name)
		if got, want := d.get("/lookup?topic=t"), `200 {"channels":[],"producers":[]}`; got != want {
			t.Errorf("node=%s: %s", name, got)
		}
	}
}

func TestTombstoneOfOneRegistration(t *testing.T) {
	d := start(t)
	s := d.identified()
	s.do("REGISTER t", "REGISTER u")
	d.post("/topic/tombstone?topic=t&node=h:3")
	d.post("/topic/tombstone?topic=t&node=H:2")
	d.post("/topic/tombstone?topic=t&node=hh:2")
	if got := d.get("/nodes"); !strings.Contains(got, `"tombstones":[false,false],"topics":["t","u"]`) {
		t.Errorf("tombstone for another node: %s", got)
	}
	d.post("/topic/tombstone?topic=t&node=h:2")
	if got := d.get("/nodes"); !strings.Contains(got, `"tombstones":[true,false],"topics":["t","u"]`) {
		t.Errorf("got %s", got)
	}
}

// What is ephemeral and has no producer goes with the UNREGISTER of anybody: HTTP
// can make such topics and channels, and nobody has registered those.
func TestUnregisterOfEphemeral(t *testing.T) {
	d := start(t)
	s := d.identified()
	d.post("/channel/create?topic=t%23ephemeral&channel=c%23ephemeral")
	d.post("/channel/create?topic=t%23ephemeral&channel=d")
	s.do("UNREGISTER t#ephemeral d", "UNREGISTER t#ephemeral c#ephemeral")
	if got, want := d.get("/channels?topic=t%23ephemeral"), `200 {"channels":["d"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.do("UNREGISTER t#ephemeral")
	if got, want := d.get("/lookup?topic=t%23ephemeral"), `404 {"message":"TOPIC_NOT_FOUND"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	other := d.identified()
	other.do("REGISTER u#ephemeral c#ephemeral")
	s.do("UNREGISTER u#ephemeral c#ephemeral", "UNREGISTER u#ephemeral")
	if got, want := d.get("/channels?topic=u%23ephemeral"), `200 {"channels":["c#ephemeral"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHTMLInIdentityIsEscaped(t *testing.T) {
	d := start(t)
	c := d.v1()
	c.send(identify(strings.Replace(identity, `"h"`, `"<a&b>\""`, 1)))
	c.reply()
	c.do("REGISTER t")
	for _, path := range []string{"/lookup?topic=t", "/nodes", "/debug"} {
		if got := d.get(path); !strings.Contains(got, `"broadcast_address":"\u003ca\u0026b\u003e\""`) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestDebug(t *testing.T) {
	d := start(t)
	before := time.Now().UnixNano()
	s := d.identified()
	s.do("REGISTER t c", "REGISTER t-1")
	d.post("/topic/create?topic=empty")
	d.post("/topic/tombstone?topic=t-1&node=h:2")
	got := d.get("/debug")
	one := func(tombstoned string) string {
		return `\[\{"broadcast_address":"h","hostname":"","http_port":2,"id":"` + regexp.QuoteMeta(s.addr()) +
			`","last_update":(\d+),"tcp_port":1,"tombstoned":` + tombstoned + `,"topology_region":"","topology_zone":"","version":"x"\}\]`
	}
	never, now := `false,"tombstoned_at":-6795364578871345152`, `true,"tombstoned_at":(\d+)`
	want := `^200 \{"channel:t:c":` + one(never) + `,"client::":` + one(never) + `,"topic:t-1:":` + one(now) + `,"topic:t:":` + one(never) + `\}$`
	m := regexp.MustCompile(want).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	for _, nanos := range m[1:] {
		var n int64
		if err := json.Unmarshal([]byte(nanos), &n); err != nil || n < before || n > time.Now().UnixNano() {
			t.Errorf("time %s is not now", nanos)
		}
	}
}

// TestInactive and TestTombstoneLifetime are check vectors 20 and 21. The
// limits are far apart from what a slow machine needs between two lines.
func TestInactive(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.InactiveProducerTimeout = time.Second })
	s := d.identified()
	s.do("REGISTER la ca")
	d.eventually("/lookup?topic=la", `200 {"channels":["ca"],"producers":[]}`)
	if got := d.get("/nodes"); got != `200 {"producers":[]}` {
		t.Errorf("nodes %s", got)
	}
	s.do("REGISTER la ca", "REGISTER la cb", "REGISTER lb")
	if got := d.get("/lookup?topic=lb"); got != `200 {"channels":[],"producers":[]}` {
		t.Errorf("REGISTER revives: %s", got)
	}
	if got := d.get("/debug"); !strings.Contains(got, `"topic:lb:":[{`) {
		t.Errorf("debug %s", got)
	}
	for range 10 { // a slow machine may need more than the timeout for one round
		s.do("PING")
		if d.get("/lookup?topic=lb") == `200 {"channels":[],"producers":[`+producer(s)+`]}` {
			return
		}
	}
	t.Errorf("PING does not revive: %s", d.get("/lookup?topic=lb"))
}

// TestTimeoutsThatHide: no value is refused. One that is not above 0 hides every
// nsqd, or makes tombstones ineffective.
func TestTimeoutsThatHide(t *testing.T) {
	for _, timeout := range []time.Duration{0, -time.Second} {
		d := start(t, func(o *nsqlookupd.Options) { o.InactiveProducerTimeout = timeout })
		s := d.identified()
		s.do("REGISTER t", "PING")
		if got := d.get("/lookup?topic=t") + d.get("/nodes"); got != `200 {"channels":[],"producers":[]}200 {"producers":[]}` {
			t.Errorf("--inactive-producer-timeout=%s: %s", timeout, got)
		}
		d = start(t, func(o *nsqlookupd.Options) { o.TombstoneLifetime = timeout })
		s = d.identified()
		s.do("REGISTER t")
		d.post("/topic/tombstone?topic=t&node=h:2")
		if got := d.get("/lookup?topic=t"); got != `200 {"channels":[],"producers":[`+producer(s)+`]}` {
			t.Errorf("--tombstone-lifetime=%s: %s", timeout, got)
		}
	}
}

func TestTombstoneLifetime(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.TombstoneLifetime = 500 * time.Millisecond })
	s := d.identified()
	s.do("REGISTER la")
	d.post("/topic/tombstone?topic=la&node=h:2")
	d.eventually("/lookup?topic=la", `200 {"channels":[],"producers":[`+producer(s)+`]}`)
	if got := d.get("/nodes"); !strings.Contains(got, `"tombstones":[false]`) {
		t.Errorf("nodes %s", got)
	}
	if got := d.get("/debug"); !strings.Contains(got, `"tombstoned":true`) {
		t.Errorf("debug %s", got)
	}
}
