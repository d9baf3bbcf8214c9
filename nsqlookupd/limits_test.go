package nsqlookupd_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/nsqlookupd"
)

// TestMaxConnections: one too many is closed without a word, and there is room again
// when another one goes. It shows in the log once.
func TestMaxConnections(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.MaxConnections = 2 })
	first, second := d.identified(), d.v1()
	second.do("PING")
	for range 3 {
		d.dial().wantEnd()
	}
	first.do("REGISTER t")
	second.closeWrite()
	second.wantEnd()
	d.log.wait(t, "client("+second.addr()+") - EOF")
	for { // the place is free a moment after the end is seen
		c := d.dial()
		_, err := io.WriteString(c.conn, "  V1PING\n")
		reply := make([]byte, 6)
		if err == nil {
			_, err = io.ReadFull(c.conn, reply)
		}
		if err == nil && string(reply[4:]) == "OK" {
			break
		}
	}
	if n := strings.Count(d.log.String(), "WARNING: TCP: refusing clients max_connections=2\n"); n < 1 || n > 2 {
		t.Errorf("%d lines in the log", n)
	}
}

// TestMaxRegistrationsPerConnection: what is beyond the limit is refused, the rest
// stays listed, and giving something up makes room.
func TestMaxRegistrationsPerConnection(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.MaxRegistrationsPerConnection = 3 })
	const refusal = "E_REGISTER_FAILED REGISTER too many registrations on this connection"
	c := d.identified()
	c.do("REGISTER a x", "REGISTER b")
	for _, line := range []string{"REGISTER c", "REGISTER a y", "REGISTER c z"} {
		c.send(line + "\n")
		c.wantReply(refusal)
	}
	c.do("REGISTER a x", "REGISTER a", "PING") // nothing new
	if got := d.get("/topics"); got != `200 {"topics":["a","b"]}` {
		t.Errorf("topics %s", got)
	}
	c.do("UNREGISTER a x", "REGISTER c")
	c.send("REGISTER a x\n")
	c.wantReply(refusal)
	d.post("/topic/delete?topic=b")
	c.do("REGISTER a x")
	if n := strings.Count(d.log.String(), "is refused, and so may be more: too many registrations on this connection\n"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	d.identified().do("REGISTER d", "REGISTER a x")
}

// TestMaxTopicsAndChannels: there is an end to what all together can make us hold,
// by TCP and HTTP.
func TestMaxTopicsAndChannels(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) { o.MaxTopicsAndChannels = 4 })
	const full = `503 {"message":"TOO_MANY_REGISTRATIONS"}`
	c := d.identified()
	c.do("REGISTER a x", "REGISTER e#ephemeral y#ephemeral")
	c.send("REGISTER b\n")
	c.wantReply("E_REGISTER_FAILED REGISTER nsqlookupd holds too many topics and channels")
	for _, path := range []string{"/topic/create?topic=b", "/channel/create?topic=a&channel=z", "/channel/create?topic=b&channel=z"} {
		if got := d.post(path); got != full {
			t.Errorf("%s: %s", path, got)
		}
	}
	other := d.identified()
	other.do("REGISTER a x") // what is known already costs nothing
	if got := d.post("/channel/create?topic=a&channel=x"); got != "200 " {
		t.Errorf("what is there: %s", got)
	}
	c.do("UNREGISTER e#ephemeral")
	if got := d.post("/channel/create?topic=b&channel=z"); got != "200 " {
		t.Errorf("with room again: %s", got)
	}
	if got := d.post("/topic/create?topic=c"); got != full {
		t.Errorf("full again: %s", got)
	}
	d.post("/channel/delete?topic=b&channel=z")
	d.post("/topic/delete?topic=b")
	other.do("REGISTER c z")
}

// TestHostilePeers: many connections that register as much as they can, leave and
// come again leave behind what the limit allows.
func TestHostilePeers(t *testing.T) {
	d := start(t, func(o *nsqlookupd.Options) {
		o.MaxTopicsAndChannels, o.MaxRegistrationsPerConnection = 1000, 100
	})
	for round := range 20 {
		c := d.identified()
		var run strings.Builder
		for i := range 200 {
			fmt.Fprintf(&run, "REGISTER t%d-%d c\n", round, i)
		}
		c.send(run.String())
		for range 200 {
			c.reply()
		}
		c.closeWrite()
		c.wantEnd()
	}
	if n := strings.Count(d.get("/topics"), `"t`) - 1; n != 500 {
		t.Errorf("%d topics, each with a channel", n)
	}
}
