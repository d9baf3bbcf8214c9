package nsqd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

// lookupd is an nsqlookupd at the other end of pipes, for tests on a fake clock.
type lookupd struct {
	t     *testing.T
	reply func(command string) []byte // bytes to send; nil hangs; empty closes
	down  bool                        // refuses connections

	mu       sync.Mutex
	commands []string    // IDENTIFY with its body
	dials    []time.Time // also of refused connections
	conn     net.Conn    // the last one
}

func newLookupd(t *testing.T) *lookupd {
	return &lookupd{t: t, reply: goodReply}
}

func goodReply(command string) []byte {
	if strings.HasPrefix(command, "IDENTIFY") {
		return protocol.AppendSized(nil, []byte(`{"broadcast_address":"h","hostname":"h","http_port":4161,"tcp_port":4160,"version":"1.3.0"}`))
	}
	return protocol.AppendSized(nil, []byte("OK"))
}

func (d *lookupd) dial() (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials = append(d.dials, time.Now())
	if d.down {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	d.conn = ours
	go d.serve(ours)
	return theirs, nil
}

func (d *lookupd) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	magic := make([]byte, 4)
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != "  V1" {
		d.t.Errorf("magic %q, %v", magic, err)
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		command := strings.TrimSuffix(line, "\n")
		if command == "IDENTIFY" {
			body, err := protocol.ReadSized(in, 0)
			if err != nil {
				return
			}
			command += " " + string(body)
		}
		d.mu.Lock()
		d.commands = append(d.commands, command)
		reply := d.reply
		d.mu.Unlock()
		b := reply(command)
		if b == nil {
			_, _ = io.Copy(io.Discard, in) // until the other side gives up
			return
		}
		if len(b) == 0 {
			return
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// set changes how the nsqlookupd behaves from now on.
func (d *lookupd) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// take returns the commands since the last call.
func (d *lookupd) take() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	commands := d.commands
	d.commands = nil
	return commands
}

func (d *lookupd) want(commands ...string) {
	d.t.Helper()
	if got := d.take(); !slices.Equal(got, commands) {
		d.t.Errorf("got commands\n%q\nwant\n%q", got, commands)
	}
}

// cut closes the connection.
func (d *lookupd) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.conn.Close()
}

// things is what a fake nsqd has to announce.
type things struct {
	mu   sync.Mutex
	list []registration
}

func (s *things) all() []registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *things) change(l *lookupLoop, r registration, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(x registration) bool { return x == r })
	if exists {
		s.list = append(s.list, r)
	}
	l.notify(r, exists)
}

const identifyLine = `IDENTIFY {"broadcast_address":"host","hostname":"os","http_port":4151,"tcp_port":4150,"topology_region":"","topology_zone":"z","version":"1.3.0"}`

type loopTest struct {
	*lookupLoop
	things things
	log    *lookupLog
}

// lookupLog collects log lines.
type lookupLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lookupLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lookupLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newLoop makes a loop whose addresses are names of nsqlookupds, with topic t
// without channels and topic u with two.
func newLoop(lookupds map[string]*lookupd, addresses ...string) *loopTest {
	lt := &loopTest{log: new(lookupLog)}
	lt.things.list = []registration{{"t", ""}, {"u", ""}, {"u", "a"}, {"u", "b#ephemeral"}}
	lt.lookupLoop = newLookup(lookupConfig{
		addresses: addresses,
		identity: func() lookupIdentity {
			return lookupIdentity{BroadcastAddress: "host", Hostname: "os", HTTPPort: 4151, TCPPort: 4150, TopologyZone: "z", Version: "1.3.0"}
		},
		registrations: lt.things.all,
		maxReplySize:  1 << 20,
		log:           logging.New(lt.log, "", logging.LevelDebug),
		dial: func(_ context.Context, addr string) (net.Conn, error) {
			return lookupds[addr].dial()
		},
	})
	return lt
}

// runLoop runs the test in a bubble beside a loop.
func runLoop(t *testing.T, addresses []string, test func(t *testing.T, lt *loopTest, lookupds map[string]*lookupd)) {
	synctest.Test(t, func(t *testing.T) {
		lookupds := map[string]*lookupd{}
		for _, name := range []string{"x", "y", "z"} {
			lookupds[name] = newLookupd(t)
		}
		lt := newLoop(lookupds, addresses...)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- lt.run(ctx) }()
		test(t, lt, lookupds)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if t.Failed() {
			t.Log(lt.log)
		}
	})
}

func TestLookupAnnouncesEverythingOnConnect(t *testing.T) {
	runLoop(t, []string{"x"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		d["x"].want(identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral")
		for _, want := range []string{
			"INFO: LOOKUP(x): adding peer\n",
			"INFO: LOOKUP connecting to x\n",
			"INFO: LOOKUPD(x): peer info {TCPPort:4160 HTTPPort:4161 Version:1.3.0 BroadcastAddress:h}\n",
			"INFO: LOOKUPD(x): REGISTER t\n",
			"INFO: LOOKUPD(x): REGISTER u a\n",
		} {
			if !strings.Contains(lt.log.String(), want) {
				t.Errorf("the log lacks %q", want)
			}
		}
	})
}

func TestLookupPings(t *testing.T) {
	runLoop(t, []string{"x"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		d["x"].take()
		time.Sleep(15 * time.Second)
		d["x"].want("PING")
		time.Sleep(31 * time.Second)
		d["x"].want("PING", "PING")
	})
}

func TestLookupAnnouncesChangesInOrder(t *testing.T) {
	runLoop(t, []string{"x", "y"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		d["x"].take()
		d["y"].take()
		lt.things.change(lt.lookupLoop, registration{"n", ""}, true)
		lt.things.change(lt.lookupLoop, registration{"n", "c"}, true)
		lt.things.change(lt.lookupLoop, registration{"u", "a"}, false)
		lt.things.change(lt.lookupLoop, registration{"t", ""}, false)
		lt.things.change(lt.lookupLoop, registration{"t", ""}, true)
		want := []string{"REGISTER n", "REGISTER n c", "UNREGISTER u a", "UNREGISTER t", "REGISTER t"}
		d["x"].want(want...)
		d["y"].want(want...)
		for _, want := range []string{
			"INFO: LOOKUPD(x): topic REGISTER n\n",
			"INFO: LOOKUPD(x): channel REGISTER n c\n",
			"INFO: LOOKUPD(y): channel UNREGISTER u a\n",
			"INFO: LOOKUPD(y): topic UNREGISTER t\n",
		} {
			if !strings.Contains(lt.log.String(), want) {
				t.Errorf("the log lacks %q", want)
			}
		}
	})
}

func TestLookupManyTopics(t *testing.T) {
	runLoop(t, nil, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		lt.things.list = nil
		var want []string
		for i := range 1000 {
			lt.things.list = append(lt.things.list, registration{fmt.Sprint("t", i), ""})
			want = append(want, fmt.Sprint("REGISTER t", i))
		}
		lt.setAddresses([]string{"x"})
		d["x"].want(append([]string{identifyLine}, want...)...)
	})
}

// TestLookupReconnectsAtOnce: upstream waits for the PING after the next.
func TestLookupReconnectsAtOnce(t *testing.T) {
	runLoop(t, []string{"x"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		x := d["x"]
		time.Sleep(50 * time.Second) // between two PINGs
		x.take()
		x.cut()
		want := []string{identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral"}
		x.want(want...)
		if last := x.dials[len(x.dials)-1]; time.Since(last) != 0 {
			t.Errorf("connected %s ago, want at once", time.Since(last))
		}
		if !strings.Contains(lt.log.String(), "ERROR: LOOKUPD(x): connection lost - ") {
			t.Error("the log does not tell")
		}

		// A change while the connection breaks comes with the list, after it, or both.
		x.cut()
		lt.things.change(lt.lookupLoop, registration{"n", ""}, true)
		time.Sleep(lookupMaxDelay)
		want = append(want, "REGISTER n")
		if got := x.take(); !slices.Equal(got, want) && !slices.Equal(got, append(want, "REGISTER n")) {
			t.Errorf("got %q", got)
		}
	})
}

func TestLookupBacksOff(t *testing.T) {
	runLoop(t, []string{"x"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		x := d["x"]
		time.Sleep(50 * time.Second) // between two PINGs
		x.take()
		x.set(func() { x.down, x.dials = true, nil })
		x.cut()
		time.Sleep(time.Minute)
		synctest.Wait()
		// At once, after 0.1, 0.2, 0.4 ... 6.4, 10, 10 ... seconds, each less up to half.
		if n := len(x.dials); n < 11 || n > 20 {
			t.Errorf("%d attempts in a minute", n)
		}
		for i := 1; i < len(x.dials); i++ {
			most := min(lookupMinDelay<<(i-1), lookupMaxDelay)
			if pause := x.dials[i].Sub(x.dials[i-1]); pause < most/2 || pause > most+1 {
				t.Errorf("pause %d was %s, want %s to %s", i, pause, most/2, most)
			}
		}
		x.take()
		x.set(func() { x.down = false })
		time.Sleep(lookupMaxDelay)
		x.want(identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral")
	})
}

func TestLookupHangingPeerDelaysNobody(t *testing.T) {
	runLoop(t, []string{"x", "y"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		x, y := d["x"], d["y"]
		y.take()
		x.take()
		x.set(func() { x.reply = func(string) []byte { return nil } })
		lt.things.change(lt.lookupLoop, registration{"n", ""}, true)
		lt.things.change(lt.lookupLoop, registration{"n", "c"}, true)
		y.want("REGISTER n", "REGISTER n c") // at once: the clock stands
		if got := x.take(); len(got) == 0 || got[0] != "REGISTER n" {
			t.Errorf("x got %q", got)
		}
		x.set(func() { x.reply = goodReply })
		time.Sleep(lookupTimeout)
		got := x.take()
		want := []string{identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral", "REGISTER n c"}
		if !slices.Equal(got, want) {
			t.Errorf("x got %q, want %q", got, want)
		}
		y.want()
	})
}

func TestLookupBadReplies(t *testing.T) {
	const negative = "\xff\xff\xff\xff"
	for _, tt := range []struct {
		name, identify, register string
		log                      string
	}{
		{"negative size", negative, "", "ERROR: LOOKUPD(x): IDENTIFY - negative size"},
		{"negative size later", "", negative, "ERROR: LOOKUPD(x): REGISTER - negative size"},
		{"too big", "\x00\x10\x00\x01", "", "ERROR: LOOKUPD(x): IDENTIFY - size exceeds the limit"},
		{"E_INVALID", sizedReply("E_INVALID"), "", "ERROR: LOOKUPD(x): parsing response - E_INVALID\n"},
		{"error", sizedReply("E_BAD_BODY IDENTIFY missing fields"), "", "ERROR: LOOKUPD(x): parsing response - E_BAD_BODY IDENTIFY missing fields\n"},
		{"null", sizedReply("null"), "", "ERROR: LOOKUPD(x): parsing response - null\n"},
		{"wrong types", sizedReply(`{"http_port":"x"}`), "", "ERROR: LOOKUPD(x): parsing response - {"},
		{"cut reply", "\x00\x00", "", "ERROR: LOOKUPD(x): IDENTIFY - no reply in time\n"},
		{"unasked reply", "", sizedReply("OK") + sizedReply("x"), "ERROR: LOOKUPD(x): "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runLoop(t, nil, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
				x := d["x"]
				x.reply = func(command string) []byte {
					if strings.HasPrefix(command, "IDENTIFY") {
						if tt.identify != "" {
							return []byte(tt.identify)
						}
					} else if tt.register != "" {
						return []byte(tt.register)
					}
					return goodReply(command)
				}
				lt.setAddresses([]string{"x"})
				time.Sleep(2 * time.Second)
				x.take()
				if !strings.Contains(lt.log.String(), tt.log) {
					t.Errorf("the log lacks %q:\n%s", tt.log, lt.log)
				}
				if len(x.dials) < 2 {
					t.Errorf("%d connections, want another after the bad reply", len(x.dials))
				}
				x.set(func() { x.reply = goodReply })
				time.Sleep(lookupMaxDelay)
				x.want(identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral")
			})
		})
	}
}

func sizedReply(text string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + text
}

// TestLookupRefusedRegistration: the text of other replies does not matter.
func TestLookupRefusedRegistration(t *testing.T) {
	runLoop(t, nil, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		x := d["x"]
		x.reply = func(command string) []byte {
			if strings.HasPrefix(command, "REGISTER") {
				return []byte(sizedReply("E_BAD_TOPIC"))
			}
			return goodReply(command)
		}
		lt.setAddresses([]string{"x"})
		time.Sleep(lookupPing)
		x.want(identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral", "PING")
	})
}

func TestLookupSetAddresses(t *testing.T) {
	runLoop(t, []string{"x", "y", "x"}, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		for _, name := range []string{"x", "y"} {
			if got := d[name].take(); len(got) != 4 {
				t.Errorf("%s got %q", name, got)
			}
		}
		lt.setAddresses([]string{"y", "z"})
		d["z"].want(identifyLine, "REGISTER t", "REGISTER u a", "REGISTER u b#ephemeral")
		d["y"].want()
		lt.things.change(lt.lookupLoop, registration{"n", ""}, true)
		d["x"].want()
		d["y"].want("REGISTER n")
		d["z"].want("REGISTER n")
		if len(d["y"].dials) != 1 {
			t.Errorf("y was connected %d times", len(d["y"].dials))
		}
		if _, err := d["x"].conn.Write([]byte("x")); err == nil {
			t.Error("x is still connected")
		}
		lt.setAddresses([]string{"x"})
		if got := d["x"].take(); len(got) != 5 {
			t.Errorf("x got %q", got)
		}
		for _, want := range []string{"INFO: LOOKUP(x): removing peer\n", "INFO: LOOKUP(z): adding peer\n"} {
			if !strings.Contains(lt.log.String(), want) {
				t.Errorf("the log lacks %q", want)
			}
		}
	})
}

func TestLookupPending(t *testing.T) {
	topic, a, b := registration{"t", ""}, registration{"t", "a"}, registration{"t", "b"}
	other := registration{"o", ""}
	gone := func(r registration) lookupChange { return lookupChange{r, false} }
	there := func(r registration) lookupChange { return lookupChange{r, true} }
	for _, tt := range []struct {
		name     string
		in, want []lookupChange
	}{
		{"different names", []lookupChange{there(topic), there(a), gone(other)}, []lookupChange{there(topic), there(a), gone(other)}},
		{"the last one stays", []lookupChange{there(a), gone(a), there(a)}, []lookupChange{there(a)}},
		{"at the place of the last", []lookupChange{there(a), there(b), gone(a)}, []lookupChange{there(b), gone(a)}},
		{"the end of a topic is the end of its channels", []lookupChange{there(topic), there(a), there(other), gone(b), gone(topic)},
			[]lookupChange{there(other), gone(topic)}},
		{"the end of a topic is told before a new beginning", []lookupChange{gone(topic), there(topic), there(a)},
			[]lookupChange{gone(topic), there(topic), there(a)}},
		{"again and again", []lookupChange{gone(topic), there(topic), there(a), gone(topic), there(topic), there(topic)},
			[]lookupChange{gone(topic), there(topic)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := lookupPending{ready: make(chan struct{}, 1)}
			q.add(there(topic).registration, true) // dropped: there is no session
			q.enable()
			for _, c := range tt.in {
				q.add(c.registration, c.exists)
			}
			if got := q.take(); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := q.take(); len(got) != 0 {
				t.Errorf("taken twice: %v", got)
			}
		})
	}
}

// TestLookupPendingTellsTheTruth changes things at random, takes what is pending
// at random moments and applies it as nsqlookupd does: in the end it knows what
// there is.
func TestLookupPendingTellsTheTruth(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		q := lookupPending{ready: make(chan struct{}, 1)}
		q.enable()
		truth, told := map[registration]bool{}, map[registration]bool{}
		set := func(m map[registration]bool, r registration, exists bool) {
			switch {
			case exists:
				m[r], m[registration{r.topic, ""}] = true, true
			case r.channel != "":
				delete(m, r)
			default:
				for x := range m {
					if x.topic == r.topic {
						delete(m, x)
					}
				}
			}
		}
		tell := func() {
			for _, c := range q.take() {
				set(told, c.registration, c.exists)
			}
		}
		for range 200 {
			topic := registration{fmt.Sprint("t", rnd.IntN(3)), ""}
			channel := registration{topic.topic, fmt.Sprint("c", rnd.IntN(3))}
			switch {
			case !truth[topic]:
				set(truth, topic, true)
				q.add(topic, true)
			case rnd.IntN(4) == 0:
				set(truth, topic, false)
				q.add(topic, false)
			default:
				exists := !truth[channel]
				set(truth, channel, exists)
				q.add(channel, exists)
			}
			if rnd.IntN(10) == 0 {
				tell()
			}
			if n := len(q.changes); n > 3*(2+3) {
				t.Fatalf("seed %d: %d changes pending", seed, n)
			}
		}
		tell()
		if !reflect.DeepEqual(truth, told) {
			t.Fatalf("seed %d: told %v, truth %v", seed, told, truth)
		}
	}
}

// TestLookupWithNSQLookupd runs the loop against the real thing.
func TestLookupWithNSQLookupd(t *testing.T) {
	opts := nsqlookupd.NewOptions()
	opts.TCPAddress, opts.HTTPAddress, opts.BroadcastAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"
	directory, err := nsqlookupd.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if err := directory.Run(ctx); err != nil {
			t.Error(err)
		}
	})

	held := things{list: []registration{{"t", ""}, {"t", "c"}}}
	loop := newLookup(lookupConfig{
		addresses: []string{directory.TCPAddr().String()},
		identity: func() lookupIdentity {
			return lookupIdentity{BroadcastAddress: "host", HTTPPort: 1, TCPPort: 2, Version: "1.3.0"}
		},
		registrations:      held.all,
		httpConnectTimeout: time.Second,
		httpRequestTimeout: 5 * time.Second,
		log:                slog.New(slog.DiscardHandler),
	})
	running.Go(func() {
		if err := loop.run(ctx); err != nil {
			t.Error(err)
		}
	})
	base := "http://" + directory.HTTPAddr().String()
	await := func(path, want string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			resp, err := http.Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s lacks %s", path, b, want)
			}
		}
	}
	await("/nodes", `"topics":["t"]`)
	await("/channels?topic=t", `["c"]`)
	held.change(loop, registration{"u", ""}, true)
	held.change(loop, registration{"u", "d#ephemeral"}, true)
	await("/nodes", `"topics":["t","u"]`)
	held.change(loop, registration{"t", ""}, false)
	await("/nodes", `"topics":["u"]`)

	for _, path := range []string{"/channel/create?topic=n&channel=b", "/channel/create?topic=n&channel=a", "/channel/create?topic=n&channel=e%23ephemeral"} {
		resp, err := http.Post(base+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if got := loop.channels(ctx, "n"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("channels %v", got)
	}
}

func TestLookupChannelsWithoutAnswer(t *testing.T) {
	runLoop(t, nil, func(t *testing.T, lt *loopTest, d map[string]*lookupd) {
		if got := lt.channels(context.Background(), "n"); len(got) != 0 || strings.Contains(lt.log.String(), "nsqlookupd to query") {
			t.Errorf("without peers: %v", got)
		}
		d["x"].down = true
		lt.setAddresses([]string{"x"})
		synctest.Wait()
		if got := lt.channels(context.Background(), "n"); len(got) != 0 {
			t.Errorf("channels %v", got)
		}
		if want := "ERROR: no available nsqlookupd to query for channels to pre-create for topic n\n"; !strings.Contains(lt.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	})
}

// TestLookupChannelsOfABadDirectory: no name that is not valid, no ephemeral
// one, and a word in the log for the one that fails.
func TestLookupChannelsOfABadDirectory(t *testing.T) {
	log := new(lookupLog)
	loop := newLookup(lookupConfig{addresses: []string{"x", "y", "z"}, log: logging.New(log, "", logging.LevelWarn), httpRequestTimeout: 5 * time.Second})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"channels":["ok","../../etc","","e#ephemeral"]}`)
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(listener) }()
	defer func() { _ = srv.Close(); <-served; loop.http.Close() }()
	port := listener.Addr().(*net.TCPAddr).Port
	loop.peers[0].info.Store(&lookupPeerInfo{BroadcastAddress: "127.0.0.1", HTTPPort: port})
	loop.peers[1].info.Store(&lookupPeerInfo{BroadcastAddress: "127.0.0.1", HTTPPort: 1})
	loop.peers[2].info.Store(&lookupPeerInfo{HTTPPort: port}) // no address: not asked
	if got := loop.channels(context.Background(), "n"); !slices.Equal(got, []string{"ok"}) {
		t.Errorf("channels %v", got)
	}
	if want := "WARNING: failed to query nsqlookupd for channels to pre-create for topic n - "; !strings.Contains(log.String(), want) {
		t.Errorf("logged %q", log)
	}
}
