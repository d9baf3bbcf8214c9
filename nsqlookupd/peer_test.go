package nsqlookupd_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/nsqlookupd"
)

// TestExactBytes is section 4 of the spec: what comes back, to the bit. The
// connection has said the magic; rows that say so are the end of it.
func TestExactBytes(t *testing.T) {
	d := start(t)
	ids := identify(identity)
	for _, tt := range []struct {
		name       string
		identified bool
		send       string
		half       bool // close our side after sending
		reply      string
		end        bool
	}{
		{"PING", false, "PING\n", false, "000000024F4B", false},
		{"PING with parameter", false, "PING x\n", false, "000000024F4B", false},
		{"PING after IDENTIFY", true, "PING\n", false, "000000024F4B", false},
		{"CR LF and blanks around", false, " \t PING \r\n", false, "000000024F4B", false},
		{"REGISTER", true, "REGISTER t c\n", false, "000000024F4B", false},
		{"REGISTER, topic only", true, "REGISTER t\n", false, "000000024F4B", false},
		{"REGISTER, extra parameter", true, "REGISTER t c extra\n", false, "000000024F4B", false},
		{"REGISTER, empty channel", true, "REGISTER t  x\n", false, "000000024F4B", false},
		{"UNREGISTER", true, "UNREGISTER t c\n", false, "000000024F4B", false},
		{"UNREGISTER, nothing there", true, "UNREGISTER nosuch\n", false, "000000024F4B", false},
		{"REGISTER before IDENTIFY", false, "REGISTER t c\n", false, "0000001E" + text("E_INVALID client must IDENTIFY"), true},
		{"REGISTER alone before IDENTIFY", false, "REGISTER\n", false, "0000001E" + text("E_INVALID client must IDENTIFY"), true},
		{"UNREGISTER before IDENTIFY", false, "UNREGISTER a*b\n", false, "0000001E" + text("E_INVALID client must IDENTIFY"), true},
		{"second IDENTIFY", true, "IDENTIFY\n", false, "0000001F" + text("E_INVALID cannot IDENTIFY again"), true},
		{"second IDENTIFY with body", true, ids, false, "0000001F" + text("E_INVALID cannot IDENTIFY again"), true},
		{"empty line", false, "\n", false, "0000001A" + text("E_INVALID invalid command "), true},
		{"blank line", false, "  \r\n", false, "0000001A" + text("E_INVALID invalid command "), true},
		{"lower case", false, "ping\n", false, "0000001E" + text("E_INVALID invalid command ping"), true},
		{"unknown command", true, "NOP a b\n", false, "0000001D" + text("E_INVALID invalid command NOP"), true},
		{"IDENTIFY {}", false, identify("{}"), false, "00000022" + text("E_BAD_BODY IDENTIFY missing fields"), true},
		{"IDENTIFY xx", false, identify("xx"), false, "0000002E" + text("E_BAD_BODY IDENTIFY failed to decode JSON body"), true},
		{"IDENTIFY, length 0", false, identify(""), false, "0000002E" + text("E_BAD_BODY IDENTIFY failed to decode JSON body"), true},
		{"IDENTIFY, negative length", false, "IDENTIFY\n\xff\xff\xff\xff", false, "0000002E" + text("E_BAD_BODY IDENTIFY failed to decode JSON body"), true},
		{"IDENTIFY, lowest length", false, "IDENTIFY\n\x80\x00\x00\x00", false, "0000002E" + text("E_BAD_BODY IDENTIFY failed to decode JSON body"), true},
		{"IDENTIFY, 1 byte of length", false, "IDENTIFY\n\x00", true, "0000002C" + text("E_BAD_BODY IDENTIFY failed to read body size"), true},
		{"IDENTIFY, no length", false, "IDENTIFY\n", true, "0000002C" + text("E_BAD_BODY IDENTIFY failed to read body size"), true},
		{"IDENTIFY, short body", false, "IDENTIFY\n\x00\x00\x00\x05{}", true, "00000027" + text("E_BAD_BODY IDENTIFY failed to read body"), true},
		{"IDENTIFY, huge length", false, "IDENTIFY\n\x7f\xff\xff\xff", false,
			"00000035" + text("E_BAD_BODY IDENTIFY body too big 2147483647 > 1048576"), true},
		{"REGISTER alone", true, "REGISTER\n", false, "00000030" + text("E_INVALID REGISTER insufficient number of params"), true},
		{"REGISTER, two blanks", true, "REGISTER  t\n", false, "0000002F" + text("E_BAD_TOPIC REGISTER topic name '' is not valid"), true},
		{"REGISTER a*b c", true, "REGISTER a*b c\n", false, "00000032" + text("E_BAD_TOPIC REGISTER topic name 'a*b' is not valid"), true},
		{"REGISTER ab c*", true, "REGISTER ab c*\n", false, "00000035" + text("E_BAD_CHANNEL REGISTER channel name 'c*' is not valid"), true},
		{"both names bad: topic first", true, "REGISTER * *\n", false, "00000030" + text("E_BAD_TOPIC REGISTER topic name '*' is not valid"), true},
		{"UNREGISTER alone", true, "UNREGISTER\n", false, "00000032" + text("E_INVALID UNREGISTER insufficient number of params"), true},
		{"UNREGISTER a*b", true, "UNREGISTER a*b\n", false, "00000034" + text("E_BAD_TOPIC UNREGISTER topic name 'a*b' is not valid"), true},
		{"UNREGISTER ab c*", true, "UNREGISTER ab c*\n", false, "00000037" + text("E_BAD_CHANNEL UNREGISTER channel name 'c*' is not valid"), true},
		{"name of 65 bytes", true, "REGISTER " + strings.Repeat("x", 65) + "\n", false,
			"00000070" + text("E_BAD_TOPIC REGISTER topic name '"+strings.Repeat("x", 65)+"' is not valid"), true},
		{"long line", false, "PING " + strings.Repeat("x", 16<<10-5) + "\n", false, "000000024F4B", false},
		{"too long line", false, "PING " + strings.Repeat("x", 16<<10-4) + "\n", false,
			"0000002A" + text("E_INVALID command line exceeds 16384 bytes"), true},
		{"line without end", false, strings.Repeat("x", 100<<10), false,
			"0000002A" + text("E_INVALID command line exceeds 16384 bytes"), true},
		{"pipelined", false, "PING\nPING\n" + ids + "REGISTER t\nbad\nPING\n", false, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c *client
			if tt.identified {
				c = d.identified()
			} else {
				c = d.v1()
			}
			c.t = t
			c.send(tt.send)
			if tt.half {
				c.closeWrite()
			}
			if tt.name == "pipelined" {
				for _, want := range []string{"OK", "OK", identifyReply(t, d), "OK", "E_INVALID invalid command bad"} {
					c.wantReply(want)
				}
				c.wantEnd()
				return
			}
			got := make([]byte, len(tt.reply)/2)
			if _, err := io.ReadFull(c.conn, got); err != nil {
				t.Fatalf("read: %v after %x", err, got)
			}
			if want := strings.ToLower(tt.reply); hex.EncodeToString(got) != want {
				t.Errorf("reply\n got %q\nwant %s", got, want)
			}
			if tt.end {
				c.wantEnd()
			} else {
				c.do("PING") // still in session
			}
		})
	}
}

func text(s string) string { return hex.EncodeToString([]byte(s)) }

func identifyReply(t *testing.T, d *daemon) string {
	t.Helper()
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"broadcast_address":"lookup1","hostname":%q,"http_port":%d,"tcp_port":%d,"version":"1.3.0"}`,
		hostname, d.l.HTTPAddr().Port, d.l.TCPAddr().Port)
}

func TestMagic(t *testing.T) {
	d := start(t)
	for _, magic := range []string{"  V2", "GET ", "PING", "\n\n\n\n", "  v1"} {
		c := d.dial()
		c.send(magic)
		c.wantReply("E_BAD_PROTOCOL")
		c.wantEnd()
	}
	for _, start := range []string{"", " ", "  V"} {
		c := d.dial()
		c.send(start)
		c.closeWrite()
		c.wantEnd()
	}
	c := d.dial()
	for _, b := range "  V1PING\n" {
		c.send(string(b))
	}
	c.wantReply("OK")
}

func TestIdentifyBodies(t *testing.T) {
	d := start(t)
	const missing, undecodable = "E_BAD_BODY IDENTIFY missing fields", "E_BAD_BODY IDENTIFY failed to decode JSON body"
	reply := identifyReply(t, d)
	for body, want := range map[string]string{
		identity: reply,
		`{"broadcast_address":"nsqd1","hostname":"nsqd1","http_port":4151,"tcp_port":4150,"topology_region":"","topology_zone":"","version":"1.3.0"}`: reply,
		`{"Broadcast_Address":"h","HTTP_PORT":2,"Tcp_Port":-1,"VERSION":"x","more":[{}],"remote_address":"y"}`:                                        reply,
		"\n" + identity + "\n": reply,
		`{"broadcast_address":"","http_port":2,"tcp_port":1,"version":"x"}`:  missing,
		`{"broadcast_address":"h","http_port":0,"tcp_port":1,"version":"x"}`: missing,
		`{"broadcast_address":"h","http_port":2,"tcp_port":0,"version":"x"}`: missing,
		`{"broadcast_address":"h","http_port":2,"tcp_port":1}`:               missing,
		`null`: missing,
		`{"broadcast_address":"h","http_port":2,"tcp_port":"1","version":"x"}`:                  undecodable,
		`{"broadcast_address":"h","http_port":2,"tcp_port":1.5,"version":"x"}`:                  undecodable,
		`{"broadcast_address":"h","http_port":2,"tcp_port":99999999999999999999,"version":"x"}`: undecodable,
		`{"broadcast_address":5,"http_port":2,"tcp_port":1,"version":"x"}`:                      undecodable,
		`{"broadcast_address":"h","http_port":2,"tcp_port":1,"version":"x","remote_address":5}`: undecodable,
		`[]`:           undecodable,
		`"x"`:          undecodable,
		identity + "x": undecodable,
	} {
		c := d.v1()
		c.send(identify(body))
		if got := c.reply(); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
	}
}

// TestPiecewise sends a session byte by byte.
func TestPiecewise(t *testing.T) {
	d := start(t)
	c := d.dial()
	for _, b := range []byte("  V1" + identify(identity) + "REGISTER t c\r\n") {
		c.send(string(b))
	}
	c.reply()
	c.wantReply("OK")
	if got, want := d.get("/topics"), `200 {"topics":["t"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestEndDropsRegistrations: whoever sees the end of a connection finds its
// registrations gone.
func TestEndDropsRegistrations(t *testing.T) {
	d := start(t)
	const empty = `200 {"producers":[]}`
	c := d.identified()
	c.do("REGISTER t c")
	c.send("bad\n")
	c.wantReply("E_INVALID invalid command bad")
	if got := d.get("/nodes"); got != empty {
		t.Errorf("after an error: %s", got)
	}

	c = d.identified()
	c.do("REGISTER t c")
	c.closeWrite()
	c.wantEnd()
	if got := d.get("/nodes"); got != empty {
		t.Errorf("after the end: %s", got)
	}
	if got, want := d.get("/lookup?topic=t"), `200 {"channels":["c"],"producers":[]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	c = d.identified()
	if err := c.conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset
		t.Fatal(err)
	}
	c.close()
	d.eventually("/nodes", empty)
}

// TestRefusalIsNotLost: closing with unread input would reset the connection,
// and the reply with it.
func TestRefusalIsNotLost(t *testing.T) {
	d := start(t)
	c := d.v1()
	c.send("bad\n")
	c.send(strings.Repeat("more that nobody reads\n", 1000))
	c.wantReply("E_INVALID invalid command bad")
	c.wantEnd()
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) {
		o.TCPIdleTimeout = time.Millisecond
		o.InactiveProducerTimeout = 300 * time.Millisecond
	})
	began := time.Now()
	c := d.identified()
	c.wantEnd()
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("closed after %s: the producer was still listed", took)
	}
	d.eventually("/nodes", `200 {"producers":[]}`)
	d.log.wait(t, "WARNING: client("+c.addr()+") - silent for too long")
}

func TestShutdown(t *testing.T) {
	d := start(t)
	c := d.identified()
	c.do("REGISTER t c")
	silent := d.dial()
	d.stop()
	c.wantEnd()
	silent.wantEnd()
	log := d.log.String()
	tcp, http := "INFO: TCP: closing "+d.l.TCPAddr().String(), "INFO: HTTP: closing "+d.l.HTTPAddr().String()
	if at := strings.Index(log, tcp); at < 0 || strings.Index(log, http) < at {
		t.Errorf("the log lacks %q and %q, in this order:\n%s", tcp, http, log)
	}
	for _, addr := range []string{d.l.TCPAddr().String(), d.l.HTTPAddr().String()} {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Errorf("%s still accepts", addr)
		}
	}
	if strings.Contains(log, "ERROR") {
		t.Errorf("a regular shutdown logs errors:\n%s", log)
	}
}

func TestLogLines(t *testing.T) {
	d := start(t)
	c := d.identified()
	c.do("REGISTER t c", "REGISTER t c", "REGISTER u", "PING", "UNREGISTER t c", "REGISTER t d", "UNREGISTER t")
	c.close()
	d.log.wait(t, "client("+c.addr()+") - EOF")
	bad := d.v1()
	bad.send("IDENTIFY\n\x00\x00\x00\x02xx")
	bad.reply()
	bad.wantEnd()
	magic := d.dial()
	magic.send("a\nb\x00")
	magic.reply()
	short := d.dial()
	short.send("ab")
	short.close()
	d.log.wait(t, "failed to read protocol version")
	for _, path := range []string{"/topic/create?topic=n", "/channel/create?topic=n&channel=m", "/topic/tombstone?topic=n&node=h:2",
		"/channel/delete?topic=n&channel=m", "/channel/create?topic=n&channel=o", "/topic/delete?topic=n"} {
		d.post(path)
	}
	d.stop()

	a, b, m, s := c.addr(), bad.addr(), magic.addr(), short.addr()
	tcp, http := d.l.TCPAddr().String(), d.l.HTTPAddr().String()
	log := d.log.String()
	for _, want := range []string{
		"INFO: nsqlookupd v1.3.0 (built w/",
		"INFO: TCP: listening on " + tcp + "\n",
		"INFO: HTTP: listening on " + http + "\n",
		"INFO: TCP: new client(" + a + ")\n",
		"INFO: CLIENT(" + a + "): desired protocol magic '  V1'\n",
		"INFO: CLIENT(" + a + "): IDENTIFY Address:h TCP:1 HTTP:2 Version:x\n",
		"INFO: DB: client(" + a + ") REGISTER category:client key: subkey:\n",
		"INFO: DB: client(" + a + ") REGISTER category:channel key:t subkey:c\n",
		"INFO: DB: client(" + a + ") REGISTER category:topic key:t subkey:\n",
		"INFO: DB: client(" + a + ") UNREGISTER category:channel key:t subkey:c\n",
		"WARNING: client(" + a + ") unexpected UNREGISTER category:channel key:t subkey:d\n",
		"INFO: DB: client(" + a + ") UNREGISTER category:topic key:t subkey:\n",
		"INFO: PROTOCOL(V1): [" + a + "] exiting ioloop\n",
		"INFO: DB: client(" + a + ") UNREGISTER category:topic key:u subkey:\n",
		"INFO: DB: client(" + a + ") UNREGISTER category:client key: subkey:\n",
		"INFO: client(" + a + ") - EOF\n",
		"ERROR: [" + b + "] - E_BAD_BODY IDENTIFY failed to decode JSON body - invalid character 'x' looking for beginning of value\n",
		"ERROR: client(" + m + `) bad protocol magic 'a\nb\x00'` + "\n",
		"ERROR: client(" + s + ") - failed to read protocol version - unexpected EOF\n",
		"INFO: DB: adding topic(n)\n",
		"INFO: DB: adding channel(m) in topic(n)\n",
		"INFO: DB: setting tombstone for producer@h:2 of topic(n)\n",
		"INFO: DB: removing channel(m) from topic(n)\n",
		"INFO: DB: removing channel(o) from topic(n)\n",
		"INFO: DB: removing topic(n)\n",
		"INFO: 200 POST /topic/delete?topic=n (127.0.0.1:",
		"INFO: TCP: closing " + tcp + "\n",
		"INFO: HTTP: closing " + http + "\n",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if !regexp.MustCompile(`INFO: CLIENT\(` + regexp.QuoteMeta(a) + `\): pinged \(last ping [\d.]+(ns|µs|ms|s)\)\n`).MatchString(log) {
		t.Error("the log lacks the ping")
	}
	if n := strings.Count(log, ") REGISTER category:channel key:t subkey:c\n"); n != 1 {
		t.Errorf("%d lines for one change", n)
	}
	if t.Failed() {
		t.Log(log)
	}
}

// TestManyPeers runs random sessions side by side; at the end all is empty.
func TestManyPeers(t *testing.T) {
	d := start(t)
	done := make(chan struct{})
	const peers = 8
	for i := range peers {
		go func() {
			defer func() { done <- struct{}{} }()
			conn, err := net.Dial("tcp", d.l.TCPAddr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			var run strings.Builder
			fmt.Fprintf(&run, "  V1%s", identify(identity))
			for j := range 200 {
				fmt.Fprintf(&run, "REGISTER t%d c%d\nPING\n", j%10, (i+j)%7)
				if j%3 == 0 {
					fmt.Fprintf(&run, "UNREGISTER t%d\n", j%7)
				}
			}
			if _, err := io.WriteString(conn, run.String()); err != nil {
				t.Error(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Error(err)
			}
		}()
	}
	for range peers {
		for _, path := range []string{"/nodes", "/lookup?topic=t1", "/topics", "/debug", "/channels?topic=t2"} {
			if got := d.get(path); !json.Valid([]byte(got[4:])) {
				t.Errorf("%s: %s", path, got)
			}
		}
		d.post("/topic/delete?topic=t3")
		d.post("/topic/tombstone?topic=t1&node=h:2")
		<-done
	}
	if got := d.get("/debug"); got != "200 {}" {
		t.Errorf("left: %s", got)
	}
}
