package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// batch is how many REGISTERs a node sends before it waits for the replies, as nsqd
// does.
const batch = 64

// nodes are simulated nsqds. Each registers its topics, and begins again when the
// connection breaks, as nsqd does.
type nodes struct {
	cancel     context.CancelFunc
	running    sync.WaitGroup
	registered chan struct{} // one token for each node that has registered everything once more
	count      int
	seen       int // tokens taken
}

func startNodes(ctx context.Context, c cluster, addr string) *nodes {
	ctx, cancel := context.WithCancel(ctx)
	n := &nodes{cancel: cancel, registered: make(chan struct{}, 4*c.nsqds), count: c.nsqds}
	for i := range c.nsqds {
		n.running.Go(func() {
			node := newNode(c, i)
			for delay := time.Duration(0); ctx.Err() == nil; delay = min(max(2*delay, 100*time.Millisecond), 10*time.Second) {
				if node.session(ctx, addr, n.registered) {
					delay = 0
				}
				select {
				case <-ctx.Done():
				case <-time.After(delay/2 + rand.N(delay/2+1)):
				}
			}
		})
	}
	return n
}

// awaitRegistered waits until every node has registered everything for the n-th time.
func (n *nodes) awaitRegistered(ctx context.Context, times int) error {
	for n.seen < times*n.count {
		select {
		case <-n.registered:
			n.seen++
		case <-ctx.Done():
			return fmt.Errorf("%d of %d nsqds have registered: %w", n.seen-(times-1)*n.count, n.count, context.Cause(ctx))
		}
	}
	return nil
}

// stop disconnects all nodes.
func (n *nodes) stop() {
	n.cancel()
	n.running.Wait()
}

// A node is one simulated nsqd.
type node struct {
	identify []byte
	batches  [][]byte
	replies  []int // how many bytes answer each batch, all OK
}

func newNode(c cluster, i int) *node {
	name := fmt.Sprintf("nsqd-%04d.example", i)
	identity, err := json.Marshal(map[string]any{
		"broadcast_address": name, "hostname": name, "http_port": 4151, "tcp_port": 4150,
		"topology_region": "", "topology_zone": "", "version": "1.3.0",
	})
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	n := &node{identify: protocol.AppendSized([]byte(protocol.MagicV1+"IDENTIFY\n"), identity)}
	var commands []byte
	pending := 0
	flush := func() {
		n.batches, n.replies = append(n.batches, commands), append(n.replies, pending*len("size"+"OK"))
		commands, pending = nil, 0
	}
	for _, topic := range rand.New(rand.NewPCG(uint64(i), 0)).Perm(c.topics)[:c.perNSQD] {
		for channel := range c.channels {
			commands = protocol.AppendCommand(commands, "REGISTER", topicName(topic), fmt.Sprint("channel-", channel))
			if pending++; pending == batch {
				flush()
			}
		}
	}
	if pending > 0 {
		flush()
	}
	return n
}

func topicName(i int) string { return fmt.Sprintf("orders.topic-%05d", i) }

// session is one connection until it ends. It reports whether everything was
// registered.
func (n *node) session(ctx context.Context, addr string, registered chan<- struct{}) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // the reads below end
	if _, err := conn.Write(n.identify); err != nil {
		return false
	}
	if reply, err := protocol.ReadSized(conn, 0); err != nil || !strings.HasPrefix(string(reply), "{") {
		return false
	}
	replies := make([]byte, batch*len("size"+"OK"))
	for i, commands := range n.batches {
		if _, err := conn.Write(commands); err != nil {
			return false
		}
		if _, err := io.ReadFull(conn, replies[:n.replies[i]]); err != nil {
			return false
		}
	}
	registered <- struct{}{}
	_, _ = conn.Read(replies) // until the connection ends
	return true
}
