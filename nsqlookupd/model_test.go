package nsqlookupd

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is the registry in the plainest form: sets of producer numbers. Producer
// p announces the host h<p%4>, so that some announce the same address.
type model struct {
	now                int64
	inactive, lifetime int64
	maxKeys, maxPer    int

	lastUpdate map[int]int64 // of the connected producers
	topics     map[string]map[int]bool
	channels   map[[2]string]map[int]bool
	tombstones map[string]map[int]int64
	departed   map[string]map[int]int64 // by p%4
}

func newModel(maxKeys, maxPer int) *model {
	return &model{
		inactive: 200, lifetime: 50, maxKeys: maxKeys, maxPer: maxPer,
		lastUpdate: map[int]int64{},
		topics:     map[string]map[int]bool{}, channels: map[[2]string]map[int]bool{},
		tombstones: map[string]map[int]int64{}, departed: map[string]map[int]int64{},
	}
}

func ephemeral(name string) bool { return strings.HasSuffix(name, "#ephemeral") }

func (m *model) active(p int) bool { return m.now-m.lastUpdate[p] <= m.inactive }

func (m *model) tombstoned(topicName string, p int) bool {
	at, ok := m.tombstones[topicName][p]
	return ok && m.now-at < m.lifetime
}

// room reports whether t and c can come into being, as far as they are missing.
func (m *model) room(t, c string) bool {
	keys := len(m.topics) + len(m.channels)
	if m.topics[t] == nil {
		keys++
	}
	if c != "" && m.channels[[2]string{t, c}] == nil {
		keys++
	}
	return keys <= m.maxKeys || keys == len(m.topics)+len(m.channels)
}

func (m *model) create(t, c string) error {
	if !m.room(t, c) {
		return errRegistryFull
	}
	if m.topics[t] == nil {
		m.topics[t], m.tombstones[t], m.departed[t] = map[int]bool{}, map[int]int64{}, map[int]int64{}
	}
	if key := [2]string{t, c}; c != "" && m.channels[key] == nil {
		m.channels[key] = map[int]bool{}
	}
	return nil
}

func (m *model) registrations(p int) (n int) {
	for _, set := range m.topics {
		n += count(set[p])
	}
	for _, set := range m.channels {
		n += count(set[p])
	}
	return n
}

func (m *model) register(p int, t, c string) (newInTopic, newInChannel bool, err error) {
	newInTopic, newInChannel = !m.topics[t][p], c != "" && !m.channels[[2]string{t, c}][p]
	switch fresh := count(newInTopic) + count(newInChannel); {
	case fresh == 0:
		return false, false, nil
	case !m.room(t, c):
		return false, false, errRegistryFull
	case m.registrations(p)+fresh > m.maxPer:
		return false, false, errProducerFull
	}
	if err := m.create(t, c); err != nil {
		return false, false, err
	}
	if newInTopic {
		m.topics[t][p] = true
		if at, ok := m.departed[t][p%4]; ok {
			delete(m.departed[t], p%4)
			if m.now-at < m.lifetime {
				m.tombstones[t][p] = at
			}
		}
	}
	if newInChannel {
		m.channels[[2]string{t, c}][p] = true
	}
	return newInTopic, newInChannel, nil
}

func (m *model) unregisterChannel(p int, t, c string) bool {
	key := [2]string{t, c}
	was := m.channels[key][p]
	delete(m.channels[key], p)
	if len(m.channels[key]) == 0 && ephemeral(c) {
		delete(m.channels, key)
	}
	return was
}

func (m *model) unregisterTopic(p int, t string) (channels []string, was bool) {
	for _, key := range slices.Collect(maps.Keys(m.channels)) {
		if key[0] == t && m.channels[key][p] {
			m.unregisterChannel(p, t, key[1])
			channels = append(channels, key[1])
		}
	}
	slices.Sort(channels)
	was = m.topics[t][p]
	delete(m.topics[t], p)
	delete(m.tombstones[t], p)
	if len(m.topics[t]) == 0 && ephemeral(t) {
		m.deleteTopic(t)
	}
	return channels, was
}

func (m *model) deleteTopic(t string) {
	delete(m.topics, t)
	delete(m.tombstones, t)
	delete(m.departed, t)
	maps.DeleteFunc(m.channels, func(key [2]string, _ map[int]bool) bool { return key[0] == t })
}

func (m *model) disconnect(p int) {
	for _, t := range slices.Collect(maps.Keys(m.topics)) {
		if m.tombstoned(t, p) {
			m.departed[t][p%4] = m.tombstones[t][p]
		}
		if m.topics[t][p] {
			m.unregisterTopic(p, t)
		}
	}
	delete(m.lastUpdate, p)
}

func (m *model) tombstone(t string, host int) (marked int) {
	for p := range m.topics[t] {
		if p%4 == host {
			m.tombstones[t][p] = m.now
			marked++
		}
	}
	return marked
}

// A pair is a registry and the model of it.
type pair struct {
	t         *testing.T
	step      string
	r         *registry
	m         *model
	producers map[int]*producer
	next      int
}

func newPair(t *testing.T, maxKeys, maxPer int) *pair {
	x := &pair{t: t, m: newModel(maxKeys, maxPer), producers: map[int]*producer{}}
	x.r = newRegistry(registryConfig{
		inactive: time.Duration(x.m.inactive), lifetime: time.Duration(x.m.lifetime),
		maxKeys: maxKeys, maxPerProducer: maxPer,
		now: func() int64 { return x.m.now },
	})
	return x
}

func (x *pair) same(what string, got, want any) {
	x.t.Helper()
	if !reflect.DeepEqual(got, want) {
		x.t.Fatalf("%s: %s\n got %v\nwant %v", x.step, what, got, want)
	}
}

func (x *pair) connect() {
	p := newProducer(fmt.Sprintf("1.1.1.1:%d", x.next), identity{BroadcastAddress: fmt.Sprint("h", x.next%4), TCPPort: 1, HTTPPort: 2, Version: "v"}, x.m.now)
	x.r.add(p)
	x.producers[x.next], x.m.lastUpdate[x.next] = p, x.m.now
	x.next++
}

// do does one random thing to both, for producer p, and compares what they say.
func (x *pair) do(op, p int, t, c string) {
	r, m, producer := x.r, x.m, x.producers[p]
	switch {
	case op < 9:
		if op >= 6 {
			c = ""
		}
		newInTopic, newInChannel, err := r.register(producer, []byte(t), []byte(c))
		wantTopic, wantChannel, wantErr := m.register(p, t, c)
		x.same("register", []any{newInTopic, newInChannel, err}, []any{wantTopic, wantChannel, wantErr})
	case op < 11:
		x.same("unregisterChannel", r.unregisterChannel(producer, t, c), m.unregisterChannel(p, t, c))
	case op < 13:
		channels, was := r.unregisterTopic(producer, t)
		wantChannels, wantWas := m.unregisterTopic(p, t)
		x.same("unregisterTopic", []any{channels, was}, []any{wantChannels, wantWas})
	case op < 14:
		r.disconnect(producer, nil)
		m.disconnect(p)
		delete(x.producers, p)
	case op < 15:
		x.same("createTopic", r.createTopic(t), m.create(t, ""))
	case op < 16:
		x.same("createChannel", r.createChannel(t, c), m.create(t, c))
	case op < 17:
		_, existed := r.deleteTopic(t)
		x.same("deleteTopic", existed, m.topics[t] != nil)
		m.deleteTopic(t)
	case op < 18:
		key := [2]string{t, c}
		x.same("deleteChannel", r.deleteChannel(t, c), m.channels[key] != nil)
		delete(m.channels, key)
	case op < 20:
		x.same("tombstone", r.tombstone(t, fmt.Sprintf("h%d:2", p%4)), m.tombstone(t, p%4))
	default:
		producer.lastUpdate.Store(m.now)
		m.lastUpdate[p] = m.now
	}
}

// compare compares all that can be asked.
func (x *pair) compare() {
	x.t.Helper()
	r, m := x.r, x.m
	numbers := map[*producer]int{}
	for n, p := range x.producers {
		numbers[p] = n
		x.same("registrations", p.registrations(), m.registrations(n))
	}
	x.same("keys", int(r.keys.Load()), len(m.topics)+len(m.channels))

	names := slices.Sorted(maps.Keys(m.topics))
	got := []string(nil)
	for _, t := range r.sortedTopics() {
		got = append(got, t.name)
	}
	x.same("topics", got, names)
	for _, name := range append(names, "*", "") {
		x.compareLookup(name, numbers)
	}

	gotNodes, wantNodes := map[int][]nodeTopic{}, map[int][]nodeTopic{}
	for p, topics := range r.nodes().all() {
		gotNodes[numbers[p]] = append([]nodeTopic{}, topics...)
	}
	for p := range m.lastUpdate {
		if m.active(p) {
			wantNodes[p] = []nodeTopic{}
			for _, name := range names {
				if m.topics[name][p] {
					wantNodes[p] = append(wantNodes[p], nodeTopic{name, m.tombstoned(name, p)})
				}
			}
		}
	}
	x.same("nodes", gotNodes, wantNodes)

	gotEntries, wantEntries := map[string]map[int]int64{}, map[string]map[int]int64{}
	for key, list := range r.entries() {
		gotEntries[key] = map[int]int64{}
		for _, e := range list {
			gotEntries[key][numbers[e.producer]] = e.tombstonedAt
		}
	}
	for p := range m.lastUpdate {
		if wantEntries["client::"] == nil {
			wantEntries["client::"] = map[int]int64{}
		}
		wantEntries["client::"][p] = 0
	}
	put := func(key string, set map[int]bool, at map[int]int64) {
		if len(set) > 0 {
			wantEntries[key] = map[int]int64{}
			for p := range set {
				wantEntries[key][p] = at[p]
			}
		}
	}
	for name, set := range m.topics {
		put("topic:"+name+":", set, m.tombstones[name])
	}
	for key, set := range m.channels {
		put("channel:"+key[0]+":"+key[1], set, nil)
	}
	x.same("entries", gotEntries, wantEntries)
}

func (x *pair) compareLookup(name string, numbers map[*producer]int) {
	x.t.Helper()
	channels, list, ok := x.r.lookup(name)
	x.same("topic is there", ok, x.m.topics[name] != nil)
	if !ok {
		return
	}
	wantChannels := []string{}
	for key := range x.m.channels {
		if key[0] == name {
			wantChannels = append(wantChannels, key[1])
		}
	}
	slices.Sort(wantChannels)
	x.same("channels of "+name, channels, wantChannels)
	got, want := map[int]bool{}, map[int]bool{}
	for _, p := range list {
		got[numbers[p]] = true
	}
	for p := range x.m.topics[name] {
		if x.m.active(p) && !x.m.tombstoned(name, p) {
			want[p] = true
		}
	}
	x.same("producers of "+name, got, want)
	if len(list) != len(got) || !slices.IsSortedFunc(list, compareProducers) {
		x.t.Fatalf("%s: producers of %s are doubled or not sorted", x.step, name)
	}
}

// TestRegistryAgainstModel does random things to a registry and a model and
// compares all that they answer, with limits that are never, seldom and often
// reached.
func TestRegistryAgainstModel(t *testing.T) {
	topics := []string{"a", "b", "c-1", "c.1", "e#ephemeral", "f#ephemeral"}
	channels := []string{"x", "y", "z#ephemeral", "w#ephemeral"}
	for _, limits := range [][2]int{{1000, 1000}, {20, 15}, {8, 6}} {
		for seed := range uint64(4) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			x := newPair(t, limits[0], limits[1])
			refused := 0
			for x.m.now = 1; x.m.now <= 500; x.m.now++ {
				x.step = fmt.Sprintf("limits %v seed %d step %d", limits, seed, x.m.now)
				live := slices.Sorted(maps.Keys(x.producers))
				if len(live) < 6 && (len(live) == 0 || rnd.IntN(10) == 0) {
					x.connect()
				} else {
					p, topicName := live[rnd.IntN(len(live))], topics[rnd.IntN(len(topics))]
					x.do(rnd.IntN(22), p, topicName, channels[rnd.IntN(len(channels))])
				}
				x.compare()
				if errors.Is(x.r.createTopic("g"), errRegistryFull) {
					refused++
				} else {
					x.r.deleteTopic("g")
				}
			}
			if full := refused > 0; full != (limits[0] < 1000) {
				t.Errorf("%s: refused %d times", x.step, refused)
			}
		}
	}
}
