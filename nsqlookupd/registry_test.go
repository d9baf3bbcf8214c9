package nsqlookupd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// testRegistry returns a registry with the default times and no limits.
func testRegistry() *registry {
	opts := NewOptions()
	return newRegistry(registryConfig{inactive: opts.InactiveProducerTimeout, lifetime: opts.TombstoneLifetime, now: wallClock})
}

// addProducer connects a producer with the broadcast address.
func addProducer(r *registry, address string) *producer {
	p := newProducer("1.1.1.1:1", identity{BroadcastAddress: address, TCPPort: 1, HTTPPort: 2, Version: "v"}, r.now())
	r.add(p)
	return p
}

func mustRegister(t testing.TB, r *registry, p *producer, topicName, channelName string) {
	t.Helper()
	if _, _, err := r.register(p, []byte(topicName), []byte(channelName)); err != nil {
		t.Fatalf("register %s %s: %v", topicName, channelName, err)
	}
}

func TestDisconnectReportsEverything(t *testing.T) {
	r := testRegistry()
	p := addProducer(r, "h")
	want := map[string]bool{}
	for i := range 400 {
		name := fmt.Sprint("t", i)
		mustRegister(t, r, p, name, "c")
		want[name+":"], want[name+":c"] = true, true
	}
	got := map[string]bool{}
	r.disconnect(p, func(topicName, channelName string) { got[topicName+":"+channelName] = true })
	if !maps.Equal(got, want) {
		t.Errorf("reported %d registrations, want %d", len(got), len(want))
	}
	if len(r.entries()) != 0 {
		t.Errorf("left: %v", r.entries())
	}
}

// TestQueriesDuringChanges: connections come, register, unregister and go, HTTP
// deletes under their hands, while others ask. Every answer is sorted, without
// doubles, and about what was there. In the end the books balance.
func TestQueriesDuringChanges(t *testing.T) {
	r := testRegistry()
	const workers, rounds, topics = 4, 30, 20
	name := func(i int) string { return fmt.Sprintf("t%02d", i%topics) }
	done := make(chan struct{})
	var asking, working sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					checkAnswers(t, r, name)
				}
			}
		})
	}
	for w := range workers {
		working.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			for range rounds {
				p := addProducer(r, fmt.Sprint("h", w))
				for range 100 {
					topicName, channelName := name(rnd.IntN(topics)), fmt.Sprint("c", rnd.IntN(3), "#ephemeral")
					switch rnd.IntN(12) {
					case 0:
						r.deleteTopic(topicName)
					case 1:
						r.deleteChannel(topicName, channelName)
					case 2:
						r.unregisterTopic(p, topicName)
					case 3:
						r.tombstone(topicName, fmt.Sprintf("h%d:2", w))
					case 4:
						r.unregisterChannel(p, topicName, channelName)
					default:
						mustRegister(t, r, p, topicName, channelName)
					}
				}
				r.disconnect(p, nil)
				if n := p.registrations(); n != 0 {
					t.Errorf("a producer that is gone has %d registrations", n)
				}
			}
		})
	}
	working.Wait()
	close(done)
	asking.Wait()
	if left := r.entries(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if keys, topics := int(r.keys.Load()), len(r.sortedTopics()); keys != topics { // channels were all ephemeral
		t.Errorf("%d topics and channels are counted, %d are there", keys, topics)
	}
	if r.slots > workers {
		t.Errorf("%d slots for at most %d producers at a time", r.slots, workers)
	}
}

func checkAnswers(t *testing.T, r *registry, name func(int) string) {
	t.Helper()
	for i := range 20 {
		channels, producers, ok := r.lookup(name(i))
		if !slices.IsSorted(channels) || !slices.IsSortedFunc(producers, compareProducers) || !ok && len(producers) > 0 {
			t.Errorf("%s: %v, %d producers, %t", name(i), channels, len(producers), ok)
		}
	}
	if !slices.IsSortedFunc(r.sortedTopics(), func(a, b *topic) int { return strings.Compare(a.name, b.name) }) {
		t.Error("topics are not sorted")
	}
	var last *producer
	for p, topics := range r.nodes().all() {
		if last != nil && compareProducers(last, p) >= 0 {
			t.Errorf("%s after %s", p.BroadcastAddress, last.BroadcastAddress)
		}
		last = p
		for i, topic := range topics {
			if n, err := strconv.Atoi(topic.name[1:]); err != nil || n >= 20 || i > 0 && topics[i-1].name >= topic.name {
				t.Errorf("topics of a node: %v", topics)
			}
		}
	}
	for key, list := range r.entries() {
		if len(list) == 0 {
			t.Errorf("%s is empty", key)
		}
	}
}

// TestQueriesDoNotWait: a query is answered while another one is stuck in the
// middle, holding what it holds, and a change waits for it. With one
// [sync.RWMutex] around all a query stands behind the change that waits.
func TestQueriesDoNotWait(t *testing.T) {
	r := testRegistry()
	p := addProducer(r, "h")
	mustRegister(t, r, p, "stuck", "c")
	other := 0
	for r.shard(fmt.Sprint("t", other)) == r.shard("stuck") {
		other++
	}
	mustRegister(t, r, p, fmt.Sprint("t", other), "c")

	s := r.shard("stuck")
	s.mu.RLock() // the first query
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		if err := r.createChannel("stuck", "d"); err != nil {
			t.Error(err)
		}
	}()
	for s.mu.TryRLock() { // until the change waits
		s.mu.RUnlock()
		runtime.Gosched()
	}
	if _, producers, ok := r.lookup(fmt.Sprint("t", other)); !ok || len(producers) != 1 {
		t.Error("no answer")
	}
	s.mu.RUnlock()
	<-changed
}

// fill registers every producer under every topic and returns the producers.
func fill(t testing.TB, r *registry, producers, topics int) []*producer {
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprintf("topic-%05d", i)
	}
	list := make([]*producer, producers)
	now := time.Now().UnixNano()
	for i := range list {
		list[i] = newProducer(fmt.Sprintf("10.0.0.%d:%d", i%256, 40000+i), identity{
			Hostname: fmt.Sprintf("nsqd-%04d", i), BroadcastAddress: fmt.Sprintf("nsqd-%04d.example", i), TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
		}, now)
		r.add(list[i])
		rand.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
		for _, name := range names {
			mustRegister(t, r, list[i], name, "")
			mustRegister(t, r, list[i], name, "a")
			mustRegister(t, r, list[i], name, "b")
		}
	}
	return list
}

func TestMemoryPerRegistration(t *testing.T) {
	const producers, topics, limit = 100, 500, 20 // bytes
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := testRegistry()
	list := fill(t, r, producers, topics)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perRegistration := (after.HeapAlloc - before.HeapAlloc) / (producers * topics * 3)
	t.Logf("%d bytes per registration", perRegistration)
	if perRegistration > limit {
		t.Errorf("%d bytes per registration, want at most %d", perRegistration, limit)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(list)
}

func BenchmarkRegister(b *testing.B) {
	const producers, topics = 200, 1000
	for b.Loop() {
		fill(b, testRegistry(), producers, topics)
	}
	b.ReportMetric(float64(b.N)*producers*topics*3/b.Elapsed().Seconds(), "registrations/s")
}

// BenchmarkDisconnect is the end of a connection with 3,000 registrations, and
// the same beside ten times as many producers and as many topics of others: it
// costs what the producer had.
func BenchmarkDisconnect(b *testing.B) {
	for _, others := range []int{20, 200} {
		b.Run(fmt.Sprint(others, " others"), func(b *testing.B) {
			r := testRegistry()
			p := fill(b, r, others, 1000)[others/2]
			for i := range others * 100 {
				if err := r.createTopic(fmt.Sprint("unrelated-", i)); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				r.disconnect(p, nil)
				b.StopTimer()
				p = newProducer(p.id, p.identity, r.now())
				r.add(p)
				for i := range 1000 {
					name := fmt.Sprintf("topic-%05d", i)
					mustRegister(b, r, p, name, "a")
					mustRegister(b, r, p, name, "b")
				}
				b.StartTimer()
			}
		})
	}
}
