package nsqd

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// connMemory is the most an idle subscribed connection may cost in bytes, heap and
// stacks, the client's end included. It takes 6 KiB, of which 2 are the IOLoop's
// stack; one that has grown makes it 8.
const connMemory = 7 << 10

// memoryInUse is the live heap and the stacks, after two collections, since pools
// keep what they have for one.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// A rawClient is a client that takes next to no memory itself.
type rawClient struct {
	t *testing.T
	net.Conn
}

// send writes a command and reads its answer.
func (c rawClient) send(command, answer string) {
	c.t.Helper()
	if _, err := io.WriteString(c, command); err != nil {
		c.t.Fatal(err)
	}
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != answer {
		c.t.Fatalf("%q is answered with %q, %v", command, got, err)
	}
}

// subscribeMany connects n consumers.
func (d *daemon) subscribeMany(n int) (clients []rawClient) {
	d.t.Helper()
	for range n {
		socket, err := net.Dial("tcp", d.TCPAddr().String())
		if err != nil {
			d.t.Fatal(err)
		}
		d.t.Cleanup(func() { _ = socket.Close() })
		c := rawClient{d.t, socket}
		c.send("  V2SUB t ch\n", okFrame)
		c.send("RDY 1\n", "")
		clients = append(clients, c)
	}
	return clients
}

// A connection that is idle takes little memory: also one that has published, and
// after its next heartbeat one that was busy.
func TestMemoryOfIdleConnections(t *testing.T) {
	if nsqtest.RaceDetector {
		t.Skip("with the race detector functions need more stack")
	}
	d := startDaemon(t, func(o *Options) { o.ClientTimeout, o.MemQueueSize = time.Hour, 1 })
	const n = 200
	// A new goroutine gets as much stack as those of the last collection used on
	// average: first, most of them have to be what the daemon's usually are.
	d.subscribeMany(n)
	before := memoryInUse()
	settles := func(when string) {
		t.Helper()
		var each int64
		for start := time.Now(); time.Since(start) < 20*time.Second; { // what ends takes a moment
			if each = (memoryInUse() - before) / n; each <= connMemory {
				return
			}
		}
		t.Errorf("%s: %d bytes per connection, more than %d", when, each, connMemory)
	}

	clients := d.subscribeMany(n)
	settles("subscribed")

	const pub = "PUB other#ephemeral\n\x00\x00\x00\x03abc"
	for _, c := range clients {
		c.send(pub, okFrame)
	}
	settles("after one message")

	for range 2 * calmReads {
		for _, c := range clients {
			c.send(pub, okFrame)
		}
	}
	for _, c := range clients {
		c.send("NOP\n", "")
	}
	settles("after many messages and a heartbeat")
}
