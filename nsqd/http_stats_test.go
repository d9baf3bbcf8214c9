package nsqd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/metrics/metricstest"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/version"
)

// gather asks /stats for JSON with further parameters.
func (d *daemon) gather(params string) (s stats, raw string) {
	d.t.Helper()
	resp, raw := d.request("GET", "/stats?format=json&"+params, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		d.t.Fatalf("/stats: got %d %q with %v", resp.StatusCode, raw, resp.Header)
	}
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		d.t.Fatal(err)
	}
	return s, raw
}

// settle waits until nsqd has executed all that c has sent. No frame may be on
// its way to c.
func settle(c *nsqtest.Conn) {
	const unknown = "0123456789abcdef"
	c.Command("TOUCH", unknown).ExpectError("E_TOUCH_FAILED TOUCH " + unknown + " failed ID not in flight")
}

// Which lists are null, which are empty, and what is left out.
func TestStatsNullAndEmpty(t *testing.T) {
	d := startDaemon(t)
	head := fmt.Sprintf(`{"version":"1.3.0","health":"OK","start_time":%d,`, d.started.Unix())
	check := func(params, want string) {
		t.Helper()
		if _, raw := d.gather("include_mem=0&" + params); raw != head+want {
			t.Errorf("/stats with %q:\n got %s\nwant %s", params, raw, head+want)
		}
	}
	const latency = `"e2e_processing_latency":{"count":0,"percentiles":null}`
	topic := func(name, channels string) string {
		return `{"topic_name":"` + name + `","channels":` + channels +
			`,"depth":0,"backend_depth":0,"message_count":0,"message_bytes":0,"paused":false,` + latency + `}`
	}
	channel := func(name, clients string) string {
		return `{"channel_name":"` + name + `","depth":0,"backend_depth":0,"in_flight_count":0,"deferred_count":0,"message_count":0,` +
			`"requeue_count":0,"timeout_count":0,"client_count":0,"clients":` + clients + `,"paused":false,` + latency + `}`
	}

	check("", `"topics":[],"producers":null}`)
	check("topic=nope", `"topics":null,"producers":null}`)
	d.post("/topic/create?topic=b", "", "")
	check("", `"topics":[`+topic("b", `[]`)+`],"producers":null}`)
	check("channel=nope", `"topics":[],"producers":null}`)
	d.post("/topic/create?topic=a", "", "")
	d.post("/channel/create?topic=b&channel=d", "", "")
	d.post("/channel/create?topic=b&channel=c", "", "")
	b := topic("b", `[`+channel("c", `[]`)+`,`+channel("d", `[]`)+`]`)
	check("", `"topics":[`+topic("a", `[]`)+`,`+b+`],"producers":null}`)
	check("topic=b", `"topics":[`+b+`],"producers":null}`)
	check("include_clients=FALSE&channel=", `"topics":[`+topic("a", `[]`)+`,`+b+`],"producers":null}`)
	check("channel=c", `"topics":[`+topic("b", `[`+channel("c", `[]`)+`]`)+`],"producers":null}`)
	check("topic=a&channel=c", `"topics":[],"producers":null}`)
	check("topic=b&include_clients=false", `"topics":[`+topic("b", `[`+channel("c", `null`)+`,`+channel("d", `null`)+`]`)+`],"producers":null}`)

	resp, body := d.request("GET", "/stats?format=json&topic=a;", "")
	if resp.StatusCode != 400 || body != `{"message":"INVALID_REQUEST"}` {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestStatsAfterKnownTraffic(t *testing.T) {
	d := startDaemon(t)
	consumer := d.dial()
	consumer.Identify(`{"client_id":"id","hostname":"host","user_agent":"agent/1","sample_rate":0}`)
	consumer.Sub("t", "c")
	d.post("/channel/create?topic=t&channel=idle", "", "")
	d.dial().Pub("t", "1").Pub("t", "22").Mpub("t", "333", "4444", "55555").Pub("other", "x")
	d.post("/pub?topic=t", "666666", "OK")
	d.post("/mpub?topic=t", "7777777", "OK")

	consumer.Rdy(3)
	finish, later, again := consumer.ReadMessage(), consumer.ReadMessage(), consumer.ReadMessage()
	consumer.Fin(finish.ID).ReadMessage()
	consumer.Req(later.ID, time.Hour).ReadMessage()
	consumer.Req(again.ID, 0).ReadMessage()
	settle(consumer)

	s, raw := d.gather("topic=t")
	topic := s.Topics[0]
	clients := topic.Channels[0].Clients
	nsqtest.Equal(t, topic, topicStats{
		Name: "t",
		Channels: []channelStats{{
			Name: "c", Depth: 2, InFlight: 3, Deferred: 1, Messages: 7, placeCounts: placeCounts{Global: 6}, Requeued: 2, ClientCount: 1, Clients: clients,
		}, {
			Name: "idle", Depth: 7, Messages: 7, Clients: []clientStats{},
		}},
		Messages: 7,
		Bytes:    28,
	})
	consumerAddr, producerAddr := clients[0].RemoteAddress, s.Producers[0].RemoteAddress
	nsqtest.Equal(t, clients, []clientStats{{
		ClientID: "id", Hostname: "host", UserAgent: "agent/1", Version: "V2", RemoteAddress: consumerAddr, State: 3, Ready: 3, InFlight: 3,
		Messages: 6, Finished: 1, Requeued: 2, Connected: clients[0].Connected,
	}})
	// No client other than those over TCP counts as a producer.
	nsqtest.Equal(t, s.Producers, []clientStats{{
		ClientID: "127.0.0.1", Hostname: "127.0.0.1", Version: "V2", RemoteAddress: producerAddr, Connected: s.Producers[0].Connected,
		PubCounts: []pubCount{{"t", 5}},
	}})
	for _, want := range []string{
		`"message_count":7,"global_msg_count":6,"requeue_count":2`,
		fmt.Sprintf(`{"client_id":"id","hostname":"host","version":"V2","remote_address":%q,"state":3,"ready_count":3,"in_flight_count":3,`+
			`"message_count":6,"finish_count":1,"requeue_count":2,"connect_ts":%d,"sample_rate":0,"deflate":false,"snappy":false,"user_agent":"agent/1",`+
			`"topology_zone":"","topology_region":"","tls":false,"tls_cipher_suite":"","tls_version":"","tls_negotiated_protocol":"",`+
			`"tls_negotiated_protocol_is_mutual":false}`, consumerAddr, clients[0].Connected),
		`"topology_region":"","pub_counts":[{"topic":"t","count":5}],"tls":false`,
	} {
		if !strings.Contains(raw, want) {
			t.Errorf("got %s\nwant in it %s", raw, want)
		}
	}

	s, _ = d.gather("")
	nsqtest.Equal(t, s.Producers[0].PubCounts, []pubCount{{"other", 1}, {"t", 5}})

	d.post("/channel/empty?topic=t&channel=c", "", "")
	consumer.Rdy(0)
	settle(consumer)
	s, _ = d.gather("topic=t&channel=c")
	c := s.Topics[0].Channels[0]
	nsqtest.Equal(t, []int64{c.Depth, c.InFlight, c.Deferred, int64(c.Messages), int64(c.Requeued), c.Clients[0].InFlight, c.Clients[0].Ready},
		[]int64{0, 0, 0, 7, 2, 0, 0})
}

// Both documents as a whole, to the byte, on a clock that stands still but for
// 25 seconds.
func TestStatsGolden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.E2EProcessingLatencyPercentiles = []float64{1, 0.99} })
		consumer := b.connect()
		consumer.Identify(`{"client_id":"<id>","hostname":"host","user_agent":"agent/1","sample_rate":0,"topology_zone":"z","topology_region":"r"}`)
		consumer.Sub("orders", "billing").Rdy(2)
		both := b.connect().Sub("orders", "idle#ephemeral")
		both.Pub("orders", "first").Pub("audit", "a")
		producer := b.connect().Mpub("orders", "2", "3", "4", "5", "6", "7").Pub("orders", "8")
		b.expect("POST", "/topic/pause?topic=audit", "", 200, "")
		b.expect("POST", "/channel/pause?topic=orders&channel=idle%23ephemeral", "", 200, "")
		time.Sleep(25*time.Second + 390*time.Millisecond)
		consumer.Fin(consumer.ReadMessage().ID)
		consumer.Req(consumer.ReadMessage().ID, time.Hour)
		synctest.Wait()

		address := func(c *nsqtest.Conn) string { return c.LocalAddr().String() }
		client := func(c *nsqtest.Conn, id, host, state, counts, agent, place, published string) string {
			return `{"client_id":"` + id + `","hostname":"` + host + `","version":"V2","remote_address":"` + address(c) + `","state":` + state + counts +
				`,"connect_ts":946684800,"sample_rate":0,"deflate":false,"snappy":false,"user_agent":"` + agent + `",` + place + published +
				`,"tls":false,"tls_cipher_suite":"","tls_version":"","tls_negotiated_protocol":"","tls_negotiated_protocol_is_mutual":false}`
		}
		const (
			none     = `,"ready_count":0,"in_flight_count":0,"message_count":0,"finish_count":0,"requeue_count":0`
			nowhere  = `"topology_zone":"","topology_region":""`
			latency  = `"e2e_processing_latency":{"count":1,"percentiles":[{"quantile":1,"value":25390000000},{"quantile":0.99,"value":25390000000}]}`
			noValues = `"e2e_processing_latency":{"count":0,"percentiles":[{"quantile":1,"value":0},{"quantile":0.99,"value":0}]}`
		)
		inBoth := client(both, "127.0.0.1", "127.0.0.1", "3", none, "", nowhere, `,"pub_counts":[{"topic":"audit","count":1},{"topic":"orders","count":1}]`)
		want := `{"version":"1.3.0","health":"OK","start_time":946684800,"topics":[` +
			`{"topic_name":"audit","channels":[],"depth":1,"backend_depth":0,"message_count":1,"message_bytes":1,"paused":true,` +
			`"e2e_processing_latency":{"count":0,"percentiles":null}},` +
			`{"topic_name":"orders","channels":[` +
			`{"channel_name":"billing","depth":4,"backend_depth":0,"in_flight_count":2,"deferred_count":1,"message_count":8,"global_msg_count":4,` +
			`"requeue_count":1,"timeout_count":0,"client_count":1,"clients":[` +
			client(consumer, "\\u003cid\\u003e", "host", "3", `,"ready_count":2,"in_flight_count":2,"message_count":4,"finish_count":1,"requeue_count":1`,
				"agent/1", `"topology_zone":"z","topology_region":"r"`, "") +
			`],"paused":false,` + latency + `},` +
			`{"channel_name":"idle#ephemeral","depth":8,"backend_depth":0,"in_flight_count":0,"deferred_count":0,"message_count":8,` +
			`"requeue_count":0,"timeout_count":0,"client_count":1,"clients":[` + inBoth + `],"paused":true,` + noValues + `}` +
			`],"depth":0,"backend_depth":0,"message_count":8,"message_bytes":12,"paused":false,` + latency + `}],"producers":[` + inBoth + `,` +
			client(producer, "127.0.0.1", "127.0.0.1", "0", none, "", nowhere, `,"pub_counts":[{"topic":"orders","count":7}]`) + `]}`
		nsqtest.Equal(t, b.get("/stats?format=json&include_mem=0"), want)

		// Columns for people: names are padded, and may be longer than their column.
		label := func(host string, c *nsqtest.Conn, agent string) string {
			_, port, _ := net.SplitHostPort(address(c))
			return fmt.Sprintf("[V2 %-21s]", host+":"+port+" "+agent)
		}
		text := version.String("nsqd") + "\nstart_time " + b.started.Format(time.RFC3339) + `
uptime 25.39s

Health: OK

Topics:
*P [audit          ] depth: 1     be-depth: 0     msgs: 1        e2e%: 

   [orders         ] depth: 0     be-depth: 0     msgs: 8        e2e%: 25.4s, 25.4s
      [billing                  ] depth: 4     be-depth: 0     inflt: 2    def: 1    re-q: 1     timeout: 0     msgs: 8        e2e%: 25.4s, 25.4s
        ` + label("host", consumer, "agent/1") + ` state: 3 inflt: 2    rdy: 2    fin: 1        re-q: 1        msgs: 4        connected: 25s
   *P [idle#ephemeral           ] depth: 8     be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 8        e2e%: 0.0ns, 0.0ns
        ` + label("127.0.0.1", both, "") + ` state: 3 inflt: 0    rdy: 0    fin: 0        re-q: 0        msgs: 0        connected: 25s

Producers:
   ` + label("127.0.0.1", both, "") + ` msgs: 2        topics: audit=1,orders=1 connected: 25s
   ` + label("127.0.0.1", producer, "") + ` msgs: 7        topics: orders=7 connected: 25s
`
		nsqtest.Equal(t, b.get("/stats?include_mem=0"), text)
	})
}

func TestStatsOfDisk(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = 2 })
	d.post("/mpub?topic=t", "a\nb\nc\nd\ne", "OK")
	s, _ := d.gather("")
	nsqtest.Equal(t, [2]int64{s.Topics[0].Depth, s.Topics[0].BackendDepth}, [2]int64{5, 3})
	d.post("/topic/empty?topic=t", "", "")
	s, _ = d.gather("")
	nsqtest.Equal(t, [3]int64{s.Topics[0].Depth, s.Topics[0].BackendDepth, int64(s.Topics[0].Messages)}, [3]int64{0, 0, 5})
}

// What cannot be read is told, where there is such a thing; and how often the
// disk was waited for is counted.
func TestStatsOfDamage(t *testing.T) {
	first := startDaemon(t)
	first.dial().Sub("t", "c").Close()
	for _, topic := range []string{"t", "alone"} {
		first.post("/mpub?topic="+topic, "a\nb\nc", "OK")
	}
	_, raw := first.gather("")
	if strings.Contains(raw, "damaged") {
		t.Errorf("nothing is wrong: %s", raw)
	}
	first.shutdown()
	if first.syncs.count.Load() == 0 || first.syncs.nanos.Load() == 0 || first.syncs.failed.Load() != 0 {
		t.Errorf("fsyncs: %d, %d ns, %d failed", first.syncs.count.Load(), first.syncs.nanos.Load(), first.syncs.failed.Load())
	}
	for _, queue := range []string{"t:c", "alone"} {
		f, err := os.OpenFile(filepath.Join(first.dir, diskqueue.FileName(queue)+".diskqueue.000000.dat"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{0xff}, 4+26+1) // the length of the second record
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(first.dir, "alone.diskqueue.meta.dat")); err != nil {
		t.Fatal(err)
	}

	d := startDaemon(t, inDir(first.dir))
	nsqtest.Equal(t, drain(d.dial().Sub("t", "c").Rdy(10), 2), []string{"a", "c"})
	d.post("/channel/create?topic=alone&channel=c", "", "")
	nsqtest.Equal(t, drain(d.dial().Sub("alone", "c").Rdy(10), 2), []string{"a", "c"})
	s, raw := d.gather("")
	nsqtest.Equal(t, s.Topics[0].damageStats, damageStats{DamagedRecords: 1, DamagedBytes: 31, DamagedFiles: 1})
	nsqtest.Equal(t, s.Topics[1].damageStats, damageStats{})
	nsqtest.Equal(t, s.Topics[1].Channels[0].damageStats, damageStats{DamagedRecords: 1, DamagedBytes: 31})
	metricstest.Scrape(t, d.url("/metrics")).Check(t, metricstest.Values{
		"nsqd_disk_damaged_records": 2, "nsqd_disk_damaged_bytes": 62, "nsqd_disk_damaged_files": 1,
	})
	last := `"e2e_processing_latency":{"count":0,"percentiles":null},"disk_damaged_records":1,"disk_damaged_bytes":31}`
	if !strings.Contains(raw, last) {
		t.Errorf("%s not in %s", last, raw)
	}
}

func TestStatsOfTimeouts(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MsgTimeout = 20 * time.Millisecond })
	consumer := d.dial().Sub("t", "c").Rdy(1)
	d.post("/pub?topic=t", "m", "OK")
	first := consumer.ReadMessage()
	nsqtest.Equal(t, consumer.ReadMessage(), first.WithAttempts(2))
	s, _ := d.gather("")
	c := s.Topics[0].Channels[0]
	if c.Timeouts == 0 || c.Requeued != 0 {
		t.Errorf("got %d timeouts, %d requeued", c.Timeouts, c.Requeued)
	}
}

// Clients come in the same order each time.
func TestStatsAreStable(t *testing.T) {
	d := startDaemon(t)
	for range 10 {
		d.dial().Sub("t", "c")
		d.dial().Pub("p", "m")
	}
	_, first := d.gather("include_mem=false")
	for range 5 {
		_, again := d.gather("include_mem=false")
		nsqtest.Equal(t, again, first)
	}
}

func TestStatsOfMemory(t *testing.T) {
	d := startDaemon(t)
	runtime.GC()
	s, raw := d.gather("")
	order := regexp.MustCompile(`"memory":\{"heap_objects":\d+,"heap_idle_bytes":\d+,"heap_in_use_bytes":\d+,"heap_released_bytes":\d+,` +
		`"gc_pause_usec_100":\d+,"gc_pause_usec_99":\d+,"gc_pause_usec_95":\d+,"next_gc_bytes":\d+,"gc_total_runs":\d+\},"producers"`)
	if !order.MatchString(raw) {
		t.Errorf("got %s", raw)
	}
	m := s.Memory
	if m.HeapObjects == 0 || m.HeapInUseBytes == 0 || m.NextGCBytes == 0 || m.GCTotalRuns == 0 || m.HeapReleasedBytes > m.HeapIdleBytes {
		t.Errorf("got %+v", m)
	}
}

func TestPausePercentile(t *testing.T) {
	pauses := []time.Duration{1000, 2000, 3000, 4999}
	for percent, want := range map[int]uint64{100: 4, 95: 4, 62: 3, 50: 3, 12: 1} {
		nsqtest.Equal(t, pausePercentile(percent, pauses), want)
	}
	nsqtest.Equal(t, pausePercentile(99, nil), 0)
}

// The text document, to the byte.
func TestStatsText(t *testing.T) {
	started := time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)
	s := &stats{
		Health: "OK",
		Memory: &memoryStats{1955, 2, 3, 4, 5, 6, 7, 8, 9},
		Topics: []topicStats{{
			Name: "st1", Messages: 2,
			Latency: latencyStats{2, []percentile{{1, 253_946_837}, {0.99, 1_200_345}}},
			Channels: []channelStats{{
				Name: "ch", InFlight: 1, Messages: 2,
				Latency: latencyStats{2, []percentile{{1, 2.5e9}, {0.99, 1500}, {0.5, 1000}}},
				Clients: []clientStats{{
					Hostname: "h2", RemoteAddress: "127.0.0.1:57256", UserAgent: "ua/2", State: 3, InFlight: 1, Ready: 2, Finished: 1, Messages: 2,
					Connected: started.Unix() + 85,
				}},
			}, {
				Name: "c2", Depth: 123456, Paused: true,
			}},
		}, {
			Name: "st2", Depth: 1, Messages: 1, Paused: true,
		}},
		Producers: []clientStats{
			{Hostname: "h1", RemoteAddress: "[::1]:57244", UserAgent: "ua/1", PubCounts: []pubCount{{"st1", 2}}, Connected: started.Unix() + 73},
			{RemoteAddress: "@", PubCounts: []pubCount{{"a", 1}, {"b", 3}}, Connected: started.Unix() - 3600},
		},
	}
	want := version.String("nsqd") + `
start_time 2023-11-14T22:13:20Z
uptime 1m25.39103265s

Health: OK

Memory:
   heap_objects             	1955
   heap_idle_bytes          	2
   heap_in_use_bytes        	3
   heap_released_bytes      	4
   gc_pause_usec_100        	5
   gc_pause_usec_99         	6
   gc_pause_usec_95         	7
   next_gc_bytes            	8
   gc_total_runs            	9

Topics:
   [st1            ] depth: 0     be-depth: 0     msgs: 2        e2e%: 253.9ms, 1.2ms
      [ch                       ] depth: 0     be-depth: 0     inflt: 1    def: 0    re-q: 0     timeout: 0     msgs: 2        e2e%: 2.5s, 1.5us, 1000.0ns
        [V2 h2:57256 ua/2        ] state: 3 inflt: 1    rdy: 2    fin: 1        re-q: 0        msgs: 2        connected: 0s
   *P [c2                       ] depth: 123456 be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 0        e2e%: 

*P [st2            ] depth: 1     be-depth: 0     msgs: 1        e2e%: 

Producers:
   [V2 h1:57244 ua/1        ] msgs: 2        topics: st1=2 connected: 12s
   [V2 :                    ] msgs: 4        topics: a=1,b=3 connected: 1h1m25s
`
	if got := string(s.text(started, 85391032650)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStatsTextWithoutAnything(t *testing.T) {
	d := startDaemon(t)
	resp, body := d.request("GET", "/stats?include_mem=false&format=JSON", "")
	nsqtest.Equal(t, resp.Header.Get("Content-Type"), "text/plain; charset=utf-8")
	nsqtest.Equal(t, resp.Header.Get("X-Nsq-Content-Type"), "nsq; version=1.0")
	want := regexp.MustCompile(`^nsqd v1\.3\.0 \(built w/go.*\)\nstart_time \S+\nuptime \S+s\n\nHealth: OK\n\nTopics: None\n\nProducers: None\n$`)
	if !want.MatchString(body) {
		t.Errorf("got %s", body)
	}
}

// A daemon that listens on Unix sockets serves the same.
func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	d := startDaemon(t, func(o *Options) { o.TCPAddress, o.HTTPAddress = dir+"/tcp.sock", dir+"/http.sock" })
	c, err := net.Dial("unix", dir+"/http.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET /info HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(c); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(answer.String(), `"http_port":-1,"tcp_port":-1,`) {
		t.Errorf("got %s", answer.String())
	}
	nsqtest.Dial(t, d.TCPAddr().String()).Pub("t", "m")
}
