package deadline

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The set is compared with a map through random operations, with a good hash and
// with one that collides all the time, at the end of the table too.
func TestSetAgainstModel(t *testing.T) {
	for name, hash := range map[string]func(int) uint64{
		"mixed":     func(k int) uint64 { return uint64(k) * 0x9e3779b97f4a7c15 },
		"colliding": func(k int) uint64 { return math.MaxUint64 - uint64(k%3)<<60 },
	} {
		t.Run(name, func(t *testing.T) { compareSet(t, hash) })
	}
}

func compareSet(t *testing.T, hash func(int) uint64) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := NewSet[int, int](hash)
	model := make(map[int]int64)
	now := int64(0)
	for range 50_000 {
		key := r.IntN(300)
		due, present := model[key]
		switch r.IntN(6) {
		case 0, 1:
			d := now + 100 + r.Int64N(20)
			if s.Add(key, d, key) == present {
				t.Fatalf("Add(%d) with key present = %v", key, present)
			}
			if !present {
				model[key] = d
			}
		case 2:
			if v, ok := s.Remove(key); ok != present || ok && v != key {
				t.Fatalf("Remove(%d) = %d, %v; present %v", key, v, ok, present)
			}
			delete(model, key)
		case 3:
			d := now + r.Int64N(200)
			if s.Move(key, d) != present {
				t.Fatalf("Move(%d), present %v", key, present)
			}
			if present {
				model[key] = d
			}
		case 4:
			now += r.Int64N(10)
			for {
				v, ok := s.PopDue(now)
				if !ok {
					break
				}
				if model[v] > now {
					t.Fatalf("popped %d at %d, due at %d", v, now, model[v])
				}
				delete(model, v)
			}
		case 5:
			if v, ok := s.Get(key); ok != present || ok && v != key {
				t.Fatalf("Get(%d) = %d, %v; present %v", key, v, ok, present)
			}
		}
		next, ok := s.Next()
		if ok != (len(model) > 0) || s.Len() != len(model) {
			t.Fatalf("Len() = %d, want %d", s.Len(), len(model))
		}
		if ok {
			if want := slices.Min(slices.Collect(maps.Values(model))); next != want {
				t.Fatalf("Next() = %d, want %d (due %d)", next, want, due)
			}
		}
	}
	keys := slices.Collect(s.All())
	if !slices.IsSortedFunc(keys, func(a, b int) int { return cmp.Compare(model[a], model[b]) }) || len(keys) != len(model) {
		t.Errorf("All() is not in the order of due times")
	}
	s.Clear()
	if _, ok := s.Next(); ok || s.Len() != 0 || len(slices.Collect(s.All())) != 0 {
		t.Error("Clear() leaves something")
	}
}

func TestHeapAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var h Heap[int64]
	var model []int64
	for range 100 {
		for range r.IntN(400) { // some blocks
			d := r.Int64N(1000)
			h.Add(d, d)
			model = append(model, d)
		}
		slices.Sort(model)
		now := r.Int64N(1000)
		for len(model) > 0 && model[0] <= now {
			if v, ok := h.PopDue(now); !ok || v != model[0] {
				t.Fatalf("PopDue(%d) = %d, %v; want %d", now, v, ok, model[0])
			}
			model = model[1:]
		}
		if v, ok := h.PopDue(now); ok {
			t.Fatalf("PopDue(%d) = %d, want none", now, v)
		}
		if h.Len() != len(model) {
			t.Fatalf("Len() = %d, want %d", h.Len(), len(model))
		}
	}
}

func TestHeapGivesMemoryBack(t *testing.T) {
	var h Heap[int]
	for i := range 100_000 {
		h.Add(int64(i), i)
	}
	for i := range 99_000 {
		if v, ok := h.PopDue(1 << 40); !ok || v != i {
			t.Fatalf("PopDue = %d, %v; want %d", v, ok, i)
		}
	}
	room := cap(h.spare)
	for _, b := range h.blocks {
		room += cap(b)
	}
	if room > 2048 {
		t.Errorf("1,000 items keep room for %d", room)
	}
}

// As many come as go: the heap's length sways around the end of a block.
func BenchmarkHeap(b *testing.B) {
	var h Heap[[2]uint64]
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 * blockItems {
		h.Add(r.Int64(), [2]uint64{})
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Add(r.Int64(), [2]uint64{})
		h.PopDue(math.MaxInt64)
	}
}

// messageSet is a Set as nsqd has for messages in flight.
func messageSet() Set[[16]byte, *int] {
	return NewSet[[16]byte, *int](func(k [16]byte) uint64 {
		return (binary.LittleEndian.Uint64(k[:]) ^ binary.LittleEndian.Uint64(k[8:])*3) * 0x9e3779b97f4a7c15
	})
}

// messageKeys are as many as a consumer has in flight.
func messageKeys() (keys [2048][16]byte) {
	for i := range keys {
		keys[i] = [16]byte{byte(i), byte(i >> 8), 7}
	}
	return keys
}

func BenchmarkSetInFlight(b *testing.B) {
	s, keys := messageSet(), messageKeys()
	b.ReportAllocs()
	due := int64(0)
	for b.Loop() {
		for i := range keys {
			due++
			s.Add(keys[i], due, nil)
		}
		for i := range keys {
			s.Remove(keys[i])
		}
	}
}

// BenchmarkSetTouch moves each of the messages in flight to the end.
func BenchmarkSetTouch(b *testing.B) {
	s, keys := messageSet(), messageKeys()
	due := int64(0)
	for i := range keys {
		due++
		s.Add(keys[i], due, nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range keys {
			due++
			s.Move(keys[i], due)
		}
	}
}

// A set and a heap whose lengths sway use the same memory again.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	s, keys := messageSet(), messageKeys()
	var h Heap[[2]uint64]
	due := int64(0)
	for name, f := range map[string]func(){
		"set": func() {
			for i := range keys {
				due++
				s.Add(keys[i], due, nil)
			}
			for i := range keys[:len(keys)/2] {
				s.Move(keys[i], due+int64(i))
				s.Remove(keys[i])
			}
			for s.Len() > 0 {
				s.PopDue(math.MaxInt64)
			}
		},
		"heap": func() {
			for range 100 {
				due++
				h.Add(due, [2]uint64{})
			}
			for range 100 {
				h.PopDue(math.MaxInt64)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
