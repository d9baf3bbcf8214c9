package nsqd

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

// found is the answer to /lookup.
type found struct {
	Channels  []string `json:"channels"`
	Producers []struct {
		BroadcastAddress string `json:"broadcast_address"`
		TCPPort          int    `json:"tcp_port"`
		HTTPPort         int    `json:"http_port"`
	} `json:"producers"`
}

// startLookupd runs an nsqlookupd until the test ends.
func startLookupd(t *testing.T, change ...func(*nsqlookupd.Options)) *nsqlookupd.NSQLookupd {
	t.Helper()
	opts := nsqlookupd.NewOptions()
	opts.TCPAddress, opts.HTTPAddress, opts.BroadcastAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"
	for _, f := range change {
		f(opts)
	}
	l, err := nsqlookupd.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// awaitLookup asks for topic until the answer is as wanted.
func awaitLookup(t *testing.T, l *nsqlookupd.NSQLookupd, topic string, wanted func(found) bool) {
	t.Helper()
	var body []byte
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-ticks.C {
		resp, err := http.Get("http://" + l.HTTPAddr().String() + "/lookup?topic=" + topic)
		if err != nil {
			t.Fatal(err)
		}
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		var f found
		if err == nil && json.Unmarshal(body, &f) == nil && wanted(f) {
			return
		}
	}
	t.Fatalf("/lookup of %q stays at %s", topic, body)
}

// What happens on nsqd shows in a real nsqlookupd, and another nsqd begins the
// same topic with the same channels.
func TestCluster(t *testing.T) {
	l := startLookupd(t)
	withLookupd := func(o *Options) { o.NSQLookupdTCPAddresses = []string{l.TCPAddr().String()} }
	d := startDaemon(t, withLookupd)
	c := nsqtest.Dial(t, d.TCPAddr().String()).Sub("events", "archive").Rdy(10)
	awaitLookup(t, l, "events", func(f found) bool {
		return slices.Equal(f.Channels, []string{"archive"}) && len(f.Producers) == 1 &&
			f.Producers[0].BroadcastAddress == "127.0.0.1" &&
			f.Producers[0].TCPPort == boundPort(d.tcp) && f.Producers[0].HTTPPort == boundPort(d.http)
	})

	second := startDaemon(t, withLookupd)
	// It may ask nsqlookupd once it has heard from it.
	for second.lookup.peers[0].info.Load() == nil {
		awaitLookup(t, l, "events", func(found) bool { return true })
	}
	nsqtest.Dial(t, second.TCPAddr().String()).Pub("events", "first")
	if second.existingTopic("events").existingChannel("archive") == nil {
		t.Error("the second nsqd does not know the channel")
	}
	nsqtest.Equal(t, nsqtest.Dial(t, second.TCPAddr().String()).Sub("events", "archive").Rdy(1).ReadMessage().Body, "first")
	awaitLookup(t, l, "events", func(f found) bool { return len(f.Producers) == 2 })

	if err := d.deleteTopic(d.existingTopic("events")); err != nil {
		t.Fatal(err)
	}
	c.ExpectClosed()
	awaitLookup(t, l, "events", func(f found) bool { return len(f.Producers) == 1 })
	second.shutdown()
	awaitLookup(t, l, "events", func(f found) bool { return len(f.Producers) == 0 })
}
