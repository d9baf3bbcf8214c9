package nsqlookupd_test

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/nsqlookupd"
)

// The weaknesses that the directory daemon of this protocol is known for, in the
// order of the nsqlookupd spec, section 13, and the tests that show them gone.
//
// Robustness
//
//	 1  a negative IDENTIFY length ends the daemon       TestExactBytes, FuzzSession
//	 2  an announced length is reserved                  TestWeakness2
//	 3  lines have no limit                              TestExactBytes: too long line, line without end
//	 4  silent connections stay                          TestDeadlines, TestIdleConnectionsAreClosed, TestPeerThatDoesNotRead
//	 5  HTTP has no limits of time and size              TestWeakness5, and package httpapi
//	 6  no limit on connections, topics, channels        TestMaxConnections and the others of limits_test.go
//	 7  tombstones are a data race                       TestQueriesDuringChanges, TestManyPeers, with -race
//	 8  topic=* is a wildcard                            TestWeakness8, TestParameters
//
// Semantics
//
//	 9  ephemeral registrations stay behind              TestCheckVectors 13, TestWeakness9, TestRegistryAgainstModel
//	10  topics without producers stay for ever           TestUnusedTopics; by default kept: channels survive an outage
//	11  tombstones die with the connection               TestWeakness11, TestRegistryAgainstModel
//	12  an IPv6 node cannot be tombstoned                TestTombstoneOfIPv6Node
//	13  tombstone and delete that match nothing          TestWeakness13: a WARNING; 200 is kept, tools send to all
//	14  REGISTER is no sign of life                      TestInactive: kept, check vector 20
//	15  two connections of one address are two           TestStableOrder: kept, tools merge them
//	16  anybody may announce any address                 TestAdmission
//	17  a restart empties the directory                  TestWarmup; nsqd comes back at once: TestLookupReconnectsAtOnce
//	18  lists are in random order                        TestStableOrder
//
// Performance
//
//	19  disconnect and /nodes scan everything            BenchmarkDisconnect, BenchmarkNodes, table in bench/README.md
//	20  /debug holds the lock                            TestQueriesDoNotWait; no query holds a lock for more than a topic
//
// Operations
//
//	21  no metrics                                       TestMetrics
//	22  no readiness                                     TestHealth, TestWarmup
//	23  the log level is fixed                           TestReload
//	24  the end of a connection is an ERROR              TestLogLines
//	25  the message of a failed bind is mangled          TestOutcomes in cmd/nsqlookupd
//	26  empty addresses bind random ports                TestBadOptions, TestHTTPS
//	27  the pprof index is broken, profiles are missing  TestRouting
//	28  SIGHUP kills, requests are cut                   TestReload; TestServe in package httpapi
//	29  nsqd connects again after two heartbeats         TestLookupReconnectsAtOnce in nsqd
//	30  one slow nsqlookupd delays the others            TestLookupHangingPeerDelaysNobody in nsqd

// An IDENTIFY that announces much and sends nothing costs little, whatever it
// announces.
func TestWeakness2(t *testing.T) {
	d := start(t)
	const connections = 50
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range connections {
		c := d.v1()
		c.do("PING")
		c.send("IDENTIFY\n\x00\x0f\xff\xff") // just below the limit
		c.send("{")
	}
	for range connections {
		c := d.v1()
		c.send("IDENTIFY\n\x7f\xff\xff\xff")
		c.wantReply("E_BAD_BODY IDENTIFY body too big 2147483647 > 1048576")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 {
		t.Errorf("%d connections that send nothing reserve %d bytes", 2*connections, n)
	}
}

// A request body without end is not read for ever.
func TestWeakness5(t *testing.T) {
	d := start(t)
	conn, err := net.Dial("tcp", d.l.HTTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan int, 1)
	go func() {
		chunk := []byte("8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n")
		_, err := io.WriteString(conn, "POST /topic/create?topic=t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		n := 0
		for ; err == nil; n += len(chunk) {
			_, err = conn.Write(chunk)
		}
		sent <- n
	}()
	answer, err := io.ReadAll(conn) // until the daemon closes, which may be by a reset
	if !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("got %q, %v", answer, err)
	}
	if n := <-sent; n > 32<<20 { // the sockets' buffers take some of it
		t.Errorf("%d bytes of a body nobody wants were taken", n)
	}
}

// "*" is a name that nothing can have.
func TestWeakness8(t *testing.T) {
	d := start(t)
	s := d.identified()
	s.do("REGISTER a x", "REGISTER b y")
	for _, path := range []string{"/topic/delete?topic=*", "/topic/delete?topic=%2A", "/topic/tombstone?topic=*&node=h:2", "/topic/tombstone?topic=a&node=*", "/topic/tombstone?topic=a&node=*:2"} {
		if got := d.post(path); got != "200 " {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := d.get("/lookup?topic=*"); got != `404 {"message":"TOPIC_NOT_FOUND"}` {
		t.Errorf("lookup %s", got)
	}
	if got := d.get("/channels?topic=*"); got != `200 {"channels":[]}` {
		t.Errorf("channels %s", got)
	}
	if got := d.get("/nodes"); got != `200 {"producers":[`+node(s, "[false,false]", `["a","b"]`)+`]}` {
		t.Errorf("nodes %s", got)
	}
}

// UNREGISTER of a topic takes its ephemeral channels along, those of others stay.
func TestWeakness9(t *testing.T) {
	d := start(t)
	one, other := d.identified(), d.identified()
	one.do("REGISTER t a#ephemeral", "REGISTER t b#ephemeral", "REGISTER t c")
	other.do("REGISTER t b#ephemeral")
	one.do("UNREGISTER t")
	if got := d.get("/channels?topic=t"); got != `200 {"channels":["b#ephemeral","c"]}` {
		t.Errorf("after UNREGISTER: %s", got)
	}
	other.close()
	d.eventually("/channels?topic=t", `200 {"channels":["c"]}`)
}

// Topics that no nsqd has had for long are forgotten, where that is asked for.
func TestUnusedTopics(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.UnusedTopicLifetime = 300 * time.Millisecond })
	s, gone := d.identified(), d.identified()
	s.do("REGISTER used a")
	gone.do("REGISTER unused b", "REGISTER used b")
	d.post("/channel/create?topic=created&channel=c")
	gone.close()
	d.eventually("/topics", `200 {"topics":["used"]}`)
	if got := d.get("/lookup?topic=used"); got != `200 {"channels":["a","b"],"producers":[`+producer(s)+`]}` {
		t.Errorf("lookup %s", got)
	}
	d.log.wait(t, "INFO: DB: removing topic(unused) that no nsqd has had for 300ms\n")
	s.do("UNREGISTER used")
	d.eventually("/topics", `200 {"topics":[]}`)
}

// An nsqd that connects again while it is tombstoned is not listed at once.
func TestWeakness11(t *testing.T) {
	d := start(t)
	const hidden = `200 {"channels":[],"producers":[]}`
	s := d.identified()
	s.do("REGISTER t", "REGISTER u")
	d.post("/topic/tombstone?topic=t&node=h:2")
	for range 2 {
		s.closeWrite()
		s.wantEnd()
		s = d.identified()
		s.do("REGISTER t", "REGISTER u")
		if got := d.get("/lookup?topic=t"); got != hidden {
			t.Errorf("after it connects again: %s", got)
		}
		if got := d.get("/nodes"); got != `200 {"producers":[`+node(s, "[true,false]", `["t","u"]`)+`]}` {
			t.Errorf("nodes %s", got)
		}
	}
	s.do("UNREGISTER t", "REGISTER t")
	if got := d.get("/lookup?topic=t"); got != `200 {"channels":[],"producers":[`+producer(s)+`]}` {
		t.Errorf("after UNREGISTER and REGISTER: %s", got)
	}
}

// Orders that match nothing show in the log.
func TestWeakness13(t *testing.T) {
	d := start(t)
	s := d.identified()
	s.do("REGISTER t")
	for _, path := range []string{"/topic/tombstone?topic=t&node=h:3", "/topic/tombstone?topic=x&node=h:2", "/topic/delete?topic=x", "/topic/tombstone?topic=t&node=h:2"} {
		if got := d.post(path); got != "200 " {
			t.Errorf("%s: %s", path, got)
		}
	}
	log := d.log.String()
	for _, want := range []string{
		"WARNING: no producer@h:3 of topic(t) to set a tombstone for\n",
		"WARNING: no producer@h:2 of topic(x) to set a tombstone for\n",
		"WARNING: no topic(x) to remove\n",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if n := strings.Count(log, "WARNING"); n != 3 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
}
