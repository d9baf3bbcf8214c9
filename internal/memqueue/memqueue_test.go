package memqueue

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func TestOrderAndLimit(t *testing.T) {
	q := New[int](1000)
	next, want := 0, 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		in := make([]int, r.IntN(40))
		for i := range in {
			in[i] = next + i
		}
		room := 1000 - (next - want)
		n := q.Put(in)
		if n != min(len(in), room) {
			t.Fatalf("put %d of %d with room for %d", n, len(in), room)
		}
		next += n
		out := make([]int, r.IntN(40))
		for _, got := range out[:q.Take(out)] {
			if got != want {
				t.Fatalf("took %d, want %d", got, want)
			}
			want++
		}
		if q.Len() != next-want {
			t.Fatalf("Len() = %d, want %d", q.Len(), next-want)
		}
	}
}

func TestLimits(t *testing.T) {
	q := New[int](0)
	if n := q.Put([]int{1}); n != 0 || q.Len() != 0 {
		t.Errorf("a queue of limit 0 took %d items", n)
	}
	select {
	case <-q.Ready():
		t.Error("ready with nothing queued")
	default:
	}
	q.PutBeyond([]int{1, 2, 3})
	if q.Len() != 3 {
		t.Errorf("Len() = %d after PutBeyond of 3", q.Len())
	}
	if n := q.Clear(); n != 3 || q.Len() != 0 || q.Take(make([]int, 1)) != 0 {
		t.Errorf("Clear() = %d, %d left", n, q.Len())
	}
}

// Beyond the limit lie the newest items; what stays keeps its order.
func TestTakeBeyond(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, limit := range []int{0, 1, 300, 1000} {
		q := New[int](limit)
		var model []int
		next := 0
		for range 2000 {
			switch r.IntN(4) {
			case 0, 1:
				in := make([]int, r.IntN(200))
				for i := range in {
					in[i] = next
					next++
				}
				q.PutBeyond(in)
				model = append(model, in...)
			case 2:
				out := make([]int, r.IntN(300))
				n := q.Take(out)
				if !slices.Equal(out[:n], model[:min(len(out), len(model))]) {
					t.Fatalf("took %d, want %d", out[:n], model[:min(len(out), len(model))])
				}
				model = model[n:]
			case 3:
				stays := min(len(model), limit)
				if got := q.TakeBeyond(); !slices.Equal(got, model[stays:]) {
					t.Fatalf("beyond %d: %d, want %d", limit, got, model[stays:])
				}
				model = model[:stays]
			}
			if q.Len() != len(model) {
				t.Fatalf("Len() = %d, want %d", q.Len(), len(model))
			}
			bound := next - r.IntN(1000)
			n := q.CountWhile(300, func(v int) bool { return v < bound })
			within, _ := slices.BinarySearch(model, bound)
			if want := min(within, 300, len(model)); n != want {
				t.Fatalf("CountWhile = %d, want %d", n, want)
			}
		}
	}
}

func TestNotify(t *testing.T) {
	q := New[int](3)
	told := 0
	q.Notify(func() { told++ })
	for _, step := range []struct {
		name string
		do   func()
		want int
	}{
		{"Wake of an empty queue", q.Wake, 0},
		{"Put", func() { q.Put([]int{1, 2, 3}) }, 1},
		{"Put that does not fit", func() { q.Put([]int{4}) }, 1},
		{"PutBeyond", func() { q.PutBeyond([]int{4}) }, 2},
		{"Wake", q.Wake, 3},
		{"Take that leaves something", func() { q.Take(make([]int, 3)) }, 4},
		{"Take of the last", func() { q.Take(make([]int, 3)) }, 4},
	} {
		if step.do(); told != step.want {
			t.Errorf("%s: told %d times, want %d", step.name, told, step.want)
		}
	}
	select {
	case <-q.Ready():
	default:
		t.Error("told without a token")
	}
}

// Producers and consumers that come and go: every item arrives once, and no
// consumer sleeps beside a queue with items. In the bubble a lost wake-up is a
// deadlock, which fails the test.
func TestNoItemAndNoWakeUpIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const producers, perProducer, consumers = 4, 5000, 5
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		q := New[int](64)
		var made, done sync.WaitGroup
		for p := range producers {
			made.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(p)))
				for i := 0; i < perProducer; {
					batch := make([]int, min(1+r.IntN(20), perProducer-i))
					for j := range batch {
						batch[j] = p*perProducer + i + j
					}
					if r.IntN(8) == 0 {
						q.PutBeyond(batch)
						i += len(batch)
						continue
					}
					i += q.Put(batch)
				}
			})
		}
		var mu sync.Mutex
		seen := make(map[int]int)
		stop := make(chan struct{})
		for c := range consumers {
			done.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(100+c)))
				buf := make([]int, 32)
				for {
					select {
					case <-q.Ready():
					case <-stop:
						return
					}
					if r.IntN(4) == 0 { // a consumer that leaves instead of taking
						q.Wake()
						continue
					}
					n := q.Take(buf[:1+r.IntN(len(buf))])
					mu.Lock()
					for _, v := range buf[:n] {
						seen[v]++
					}
					mu.Unlock()
				}
			})
		}
		made.Wait()
		synctest.Wait() // consumers sleep: only an empty queue may let them
		if q.Len() != 0 {
			t.Errorf("consumers sleep beside %d items", q.Len())
		}
		close(stop)
		done.Wait()
		if len(seen) != producers*perProducer {
			t.Errorf("saw %d items, want %d", len(seen), producers*perProducer)
		}
		for v, n := range seen {
			if n != 1 {
				t.Errorf("item %d came %d times", v, n)
			}
		}
	})
}

func TestMemoryIsGivenBack(t *testing.T) {
	q := New[[64]byte](1 << 20)
	batch := make([][64]byte, 1000)
	for range 100 {
		q.Put(batch)
	}
	for q.Take(batch) > 0 {
	}
	if q.head != q.tail || q.spare != nil || cap(q.head.items) > maxBlock {
		t.Errorf("a drained queue keeps more than one block")
	}
}

// Batches through a long queue must not allocate once blocks are in rotation.
func BenchmarkPutTake(b *testing.B) {
	q := New[[2]*int](1 << 20) // as large as what topics queue
	in, out := make([][2]*int, 100), make([][2]*int, 100)
	b.ReportAllocs()
	for b.Loop() {
		q.Put(in)
		q.Take(out)
	}
}
