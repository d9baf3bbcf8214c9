package nsqlookupd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is the registry in the plainest form: sets of producer numbers.
type model struct {
	nodes      map[int]bool
	topics     map[string]map[int]bool
	channels   map[[2]string]map[int]bool
	tombstones map[string]map[int]int64
}

func newModel() *model {
	return &model{map[int]bool{}, map[string]map[int]bool{}, map[[2]string]map[int]bool{}, map[string]map[int]int64{}}
}

func ephemeral(name string) bool { return strings.HasSuffix(name, "#ephemeral") }

func (m *model) createTopic(t string) {
	if m.topics[t] == nil {
		m.topics[t] = map[int]bool{}
		m.tombstones[t] = map[int]int64{}
	}
}

func (m *model) createChannel(t, c string) {
	m.createTopic(t)
	if m.channels[[2]string{t, c}] == nil {
		m.channels[[2]string{t, c}] = map[int]bool{}
	}
}

func (m *model) register(p int, t, c string) {
	m.createTopic(t)
	m.topics[t][p] = true
	if c != "" {
		m.createChannel(t, c)
		m.channels[[2]string{t, c}][p] = true
	}
}

func (m *model) unregisterChannel(p int, t, c string) bool {
	key := [2]string{t, c}
	if !m.channels[key][p] {
		return false
	}
	delete(m.channels[key], p)
	if len(m.channels[key]) == 0 && ephemeral(c) {
		delete(m.channels, key)
	}
	return true
}

func (m *model) unregisterTopic(p int, t string) (channels []string, was bool) {
	for _, key := range slices.Collect(maps.Keys(m.channels)) {
		if key[0] == t && m.unregisterChannel(p, t, key[1]) {
			channels = append(channels, key[1])
		}
	}
	slices.Sort(channels)
	if !m.topics[t][p] {
		return channels, false
	}
	delete(m.topics[t], p)
	delete(m.tombstones[t], p)
	if len(m.topics[t]) == 0 && ephemeral(t) {
		m.deleteTopic(t)
	}
	return channels, true
}

func (m *model) deleteTopic(t string) {
	delete(m.topics, t)
	delete(m.tombstones, t)
	maps.DeleteFunc(m.channels, func(key [2]string, _ map[int]bool) bool { return key[0] == t })
}

func (m *model) disconnect(p int) {
	for _, t := range slices.Collect(maps.Keys(m.topics)) {
		m.unregisterTopic(p, t)
	}
	delete(m.nodes, p)
}

// TestRegistryAgainstModel does random things to a registry and a model and
// compares all that they answer.
func TestRegistryAgainstModel(t *testing.T) {
	const (
		lifetime = 50 * time.Nanosecond
		inactive = 200 * time.Nanosecond
	)
	topics := []string{"a", "b", "c-1", "c.1", "e#ephemeral", "f#ephemeral"}
	channels := []string{"x", "y", "z#ephemeral", "w#ephemeral"}
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		pick := func(list []string) string { return list[rnd.IntN(len(list))] }
		r, m := newRegistry(), newModel()
		producers := map[int]*producer{}
		lastUpdate := map[int]int64{}
		next := 0
		for now := int64(1); now <= 600; now++ {
			live := slices.Sorted(maps.Keys(producers))
			p := -1
			if len(live) > 0 {
				p = live[rnd.IntN(len(live))]
			}
			topicName, channelName := pick(topics), pick(channels)
			step := fmt.Sprintf("seed %d step %d", seed, now)
			switch op := rnd.IntN(20); {
			case op < 2 || p < 0:
				if len(live) < 6 {
					// Some announce the same address.
					producers[next] = newProducer(fmt.Sprintf("1.1.1.1:%d", next), identity{BroadcastAddress: fmt.Sprint("h", next%4), TCPPort: 1, HTTPPort: 2, Version: "v"}, now)
					r.add(producers[next])
					m.nodes[next] = true
					lastUpdate[next] = now
					next++
				}
			case op < 7:
				wasTopic, wasChannel := m.topics[topicName][p], m.channels[[2]string{topicName, channelName}][p]
				newTopic, newChannel := r.register(producers[p], topicName, channelName)
				if newTopic == wasTopic || newChannel == wasChannel {
					t.Fatalf("%s: register says %t %t, was %t %t", step, newTopic, newChannel, wasTopic, wasChannel)
				}
				m.register(p, topicName, channelName)
			case op < 9:
				r.register(producers[p], topicName, "")
				m.register(p, topicName, "")
			case op < 11:
				if got, want := r.unregisterChannel(producers[p], topicName, channelName), m.unregisterChannel(p, topicName, channelName); got != want {
					t.Fatalf("%s: unregisterChannel says %t, want %t", step, got, want)
				}
			case op < 13:
				got, gotWas := r.unregisterTopic(producers[p], topicName)
				want, wantWas := m.unregisterTopic(p, topicName)
				if !slices.Equal(got, want) || gotWas != wantWas {
					t.Fatalf("%s: unregisterTopic says %v %t, want %v %t", step, got, gotWas, want, wantWas)
				}
			case op < 14:
				r.disconnect(producers[p], nil)
				m.disconnect(p)
				delete(producers, p)
			case op < 15:
				r.createTopic(topicName)
				m.createTopic(topicName)
			case op < 16:
				r.createChannel(topicName, channelName)
				m.createChannel(topicName, channelName)
			case op < 17:
				_, existed := r.deleteTopic(topicName)
				if want := m.topics[topicName] != nil; existed != want {
					t.Fatalf("%s: deleteTopic says %t, want %t", step, existed, want)
				}
				m.deleteTopic(topicName)
			case op < 18:
				key := [2]string{topicName, channelName}
				if got, want := r.deleteChannel(topicName, channelName), m.channels[key] != nil; got != want {
					t.Fatalf("%s: deleteChannel says %t, want %t", step, got, want)
				}
				delete(m.channels, key)
			case op < 19:
				node := fmt.Sprintf("h%d:2", p%4)
				r.tombstone(topicName, node, now)
				for q := range m.topics[topicName] {
					if q%4 == p%4 {
						m.tombstones[topicName][q] = now
					}
				}
			default:
				producers[p].lastUpdate.Store(now)
				lastUpdate[p] = now
			}
			compare(t, step, r, m, producers, lastUpdate, now, inactive, lifetime)
		}
	}
}

func compare(t *testing.T, step string, r *registry, m *model, producers map[int]*producer, lastUpdate map[int]int64, now int64, inactive, lifetime time.Duration) {
	t.Helper()
	fatal := func(what string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %s\n got %v\nwant %v", step, what, got, want)
		}
	}
	numbers := map[*producer]int{}
	for n, p := range producers {
		numbers[p] = n
	}
	active := func(p int) bool { return now-lastUpdate[p] <= int64(inactive) }
	tombstoned := func(topicName string, p int) bool {
		at, ok := m.tombstones[topicName][p]
		return ok && now-at < int64(lifetime)
	}

	names := slices.Sorted(maps.Keys(m.topics))
	if got := r.topicNames(); !slices.Equal(got, names) {
		t.Fatalf("%s: topics %v, want %v", step, got, names)
	}
	for _, name := range names {
		channels, list, ok := r.lookup(name, now, inactive, lifetime)
		if !ok {
			t.Fatalf("%s: no topic %s", step, name)
		}
		wantChannels := []string{}
		for key := range m.channels {
			if key[0] == name {
				wantChannels = append(wantChannels, key[1])
			}
		}
		slices.Sort(wantChannels)
		fatal("channels of "+name, channels, wantChannels)
		got, want := map[int]bool{}, map[int]bool{}
		for _, p := range list {
			got[numbers[p]] = true
		}
		for p := range m.topics[name] {
			if active(p) && !tombstoned(name, p) {
				want[p] = true
			}
		}
		fatal("producers of "+name, got, want)
		if len(list) != len(got) || !slices.IsSortedFunc(list, compareProducers) {
			t.Fatalf("%s: producers of %s are doubled or not sorted", step, name)
		}
	}
	if _, _, ok := r.lookup("*", now, inactive, lifetime); ok {
		t.Fatalf("%s: the topic * is there", step)
	}

	gotNodes, wantNodes := map[int][]nodeTopic{}, map[int][]nodeTopic{}
	for p, topics := range r.nodes(now, inactive, lifetime) {
		gotNodes[numbers[p]] = append([]nodeTopic{}, topics...)
	}
	for p := range m.nodes {
		if active(p) {
			wantNodes[p] = []nodeTopic{}
			for _, name := range names {
				if m.topics[name][p] {
					wantNodes[p] = append(wantNodes[p], nodeTopic{name, tombstoned(name, p)})
				}
			}
		}
	}
	fatal("nodes", gotNodes, wantNodes)

	gotEntries, wantEntries := map[string]map[int]int64{}, map[string]map[int]int64{}
	for key, list := range r.entries() {
		gotEntries[key] = map[int]int64{}
		for _, e := range list {
			gotEntries[key][numbers[e.producer]] = e.tombstonedAt
		}
	}
	put := func(key string, set map[int]bool, at map[int]int64) {
		if len(set) > 0 {
			wantEntries[key] = map[int]int64{}
			for p := range set {
				wantEntries[key][p] = at[p]
			}
		}
	}
	put("client::", m.nodes, nil)
	for name, set := range m.topics {
		put("topic:"+name+":", set, m.tombstones[name])
	}
	for key, set := range m.channels {
		put("channel:"+key[0]+":"+key[1], set, nil)
	}
	fatal("entries", gotEntries, wantEntries)
}

func TestDisconnectReportsEverything(t *testing.T) {
	r := newRegistry()
	p := newProducer("1.1.1.1:1", identity{BroadcastAddress: "h"}, 0)
	r.add(p)
	want := map[string]bool{}
	for i := range 3 * removalBatch / 2 {
		name := fmt.Sprint("t", i)
		r.register(p, name, "c")
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

// fill registers every producer under every topic and returns the producers.
func fill(r *registry, producers, topics int) []*producer {
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
			r.register(list[i], name, "")
		}
	}
	return list
}

func TestMemoryPerRegistration(t *testing.T) {
	const producers, topics, limit = 200, 1000, 100 // bytes
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := newRegistry()
	list := fill(r, producers, topics)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perRegistration := (after.HeapAlloc - before.HeapAlloc) / (producers * topics)
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
		fill(newRegistry(), producers, topics)
	}
	b.ReportMetric(float64(b.N)*producers*topics/b.Elapsed().Seconds(), "registrations/s")
}

func BenchmarkDisconnect(b *testing.B) {
	r := newRegistry()
	p := fill(r, 200, 1000)[100]
	for b.Loop() {
		r.disconnect(p, nil)
		b.StopTimer()
		r.add(p)
		for _, name := range r.topicNames() {
			r.register(p, name, "")
		}
		b.StartTimer()
	}
}
