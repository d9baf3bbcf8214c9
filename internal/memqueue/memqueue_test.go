package memqueue

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// A span is the messages numbered from first on.
type span struct{ first, n int }

func (s *span) Len() int { return s.n }

func (s *span) Cut(n int) span {
	first := span{s.first, n}
	s.first, s.n = s.first+n, s.n-n
	return first
}

// spans returns the n messages from first on as items of random lengths up to
// longest.
func spans(r *rand.Rand, first, n, longest int) (items []span) {
	for n > 0 {
		l := min(1+r.IntN(longest), n)
		items = append(items, span{first, l})
		first, n = first+l, n-l
	}
	return items
}

// numbers returns the messages of items.
func numbers(items []span) (list []int) {
	for _, s := range items {
		for i := range s.n {
			list = append(list, s.first+i)
		}
	}
	return list
}

// take takes up to most messages into up to room items, and checks what Take says
// of them.
func take(t *testing.T, q *Queue[span, *span], room, most int) []int {
	t.Helper()
	into := make([]span, room)
	items, messages := q.Take(into, most)
	list := numbers(into[:items])
	if len(list) != messages || messages > most {
		t.Errorf("took %d messages of at most %d, said %d", len(list), most, messages)
	}
	return list
}

func TestOrderAndLimit(t *testing.T) {
	q := New[span](1000)
	next, want := 0, 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		in := spans(r, next, r.IntN(40), 9)
		room := 1000 - (next - want)
		n := q.Put(in)
		if n != min(len(numbers(in)), room) {
			t.Fatalf("put %d of %d with room for %d", n, in, room)
		}
		next += n
		for _, got := range take(t, q, r.IntN(20), r.IntN(40)) {
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
	q := New[span](0)
	if n := q.Put([]span{{1, 1}}); n != 0 || q.Len() != 0 {
		t.Errorf("a queue of limit 0 took %d messages", n)
	}
	select {
	case <-q.Ready():
		t.Error("ready with nothing queued")
	default:
	}
	q.PutBeyond([]span{{1, 2}, {3, 1}})
	if q.Len() != 3 {
		t.Errorf("Len() = %d after PutBeyond of 3", q.Len())
	}
	if n := q.Clear(); n != 3 || q.Len() != 0 || len(take(t, q, 1, 1)) != 0 {
		t.Errorf("Clear() = %d, %d left", n, q.Len())
	}
}

// Beyond the limit lie the newest items; what stays keeps its order.
func TestTakeBeyond(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, limit := range []int{0, 1, 300, 1000} {
		q := New[span](limit)
		var model []int
		next := 0
		for range 2000 {
			switch r.IntN(4) {
			case 0, 1:
				in := spans(r, next, r.IntN(200), 1+r.IntN(20))
				q.PutBeyond(in)
				model = append(model, numbers(in)...)
				next += len(numbers(in))
			case 2:
				most := r.IntN(300)
				out := take(t, q, most, most)
				if !slices.Equal(out, model[:min(most, len(model))]) {
					t.Fatalf("took %d, want %d", out, model[:min(most, len(model))])
				}
				model = model[len(out):]
			case 3:
				stays := min(len(model), limit)
				items, n := q.TakeBeyond()
				if got := numbers(items); !slices.Equal(got, model[stays:]) || n != len(got) {
					t.Fatalf("beyond %d: %d, %d messages, want %d", limit, got, n, model[stays:])
				}
				model = model[:stays]
			}
			if q.Len() != len(model) {
				t.Fatalf("Len() = %d, want %d", q.Len(), len(model))
			}
			bound := next - r.IntN(1000)
			n := q.CountWhile(300, func(s *span) bool { return s.first < bound })
			within, _ := slices.BinarySearch(model, bound)
			// Those of one item count as its first does.
			if least, most := min(within, 300), min(within+20, 300, len(model)); n < least || n > most {
				t.Fatalf("CountWhile = %d, want %d to %d", n, least, most)
			}
		}
	}
}

func TestNotify(t *testing.T) {
	q := New[span](3)
	told := 0
	q.Notify(func() { told++ })
	for _, step := range []struct {
		name string
		do   func()
		want int
	}{
		{"Wake of an empty queue", q.Wake, 0},
		{"Put", func() { q.Put([]span{{1, 1}, {2, 2}}) }, 1},
		{"Put that does not fit", func() { q.Put([]span{{4, 1}}) }, 1},
		{"PutBeyond", func() { q.PutBeyond([]span{{4, 1}}) }, 2},
		{"Wake", q.Wake, 3},
		{"Take that leaves something", func() { q.Take(make([]span, 3), 2) }, 4},
		{"Take of the last", func() { q.Take(make([]span, 3), 3) }, 4},
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

// Producers and consumers that come and go: every message arrives once, and no
// consumer sleeps beside a queue with messages. In the bubble a lost wake-up is a
// deadlock, which fails the test.
func TestNoItemAndNoWakeUpIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const producers, perProducer, consumers = 4, 5000, 5
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		q := New[span](64)
		var made, done sync.WaitGroup
		for p := range producers {
			made.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(p)))
				for i := 0; i < perProducer; {
					n := min(1+r.IntN(20), perProducer-i)
					batch := spans(r, p*perProducer+i, n, 8)
					if r.IntN(8) == 0 {
						q.PutBeyond(batch)
						i += n
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
					list := take(t, q, 1+r.IntN(20), 1+r.IntN(32))
					mu.Lock()
					for _, v := range list {
						seen[v]++
					}
					mu.Unlock()
				}
			})
		}
		made.Wait()
		synctest.Wait() // consumers sleep: only an empty queue may let them
		if q.Len() != 0 {
			t.Errorf("consumers sleep beside %d messages", q.Len())
		}
		close(stop)
		done.Wait()
		if len(seen) != producers*perProducer {
			t.Errorf("saw %d messages, want %d", len(seen), producers*perProducer)
		}
		for v, n := range seen {
			if n != 1 {
				t.Errorf("message %d came %d times", v, n)
			}
		}
	})
}

func TestMemoryIsGivenBack(t *testing.T) {
	q := New[span](1 << 20)
	batch := spans(rand.New(rand.NewPCG(1, 2)), 0, 1000, 1)
	for range 100 {
		q.Put(batch)
	}
	for len(take(t, q, 1000, 1000)) > 0 {
	}
	if q.head != q.tail || q.spare != nil || cap(q.head.items) > maxBlock {
		t.Errorf("a drained queue keeps more than one block")
	}
}

// A queued is as large as what topics queue.
type queued struct {
	batch     *int
	at, delay uint32
	n         int
}

func (q *queued) Len() int { return q.n }

func (q *queued) Cut(n int) queued {
	first := *q
	first.n, q.n = n, q.n-n
	return first
}

// Batches through a long queue must not allocate once blocks are in rotation.
func TestNoAllocation(t *testing.T) {
	q := New[queued](1 << 20)
	in, out := slices.Repeat([]queued{{new(int), 1, 1, 3}}, 100), make([]queued, 300)
	q.Put(in)
	if n := testing.AllocsPerRun(1000, func() {
		q.Put(in)
		q.Take(out, 300)
	}); n > 0 {
		t.Errorf("%g allocations to put 300 messages and take them", n)
	}
}

func BenchmarkPutTake(b *testing.B) {
	q := New[queued](1 << 20)
	in, out := slices.Repeat([]queued{{new(int), 1, 1, 1}}, 100), make([]queued, 100)
	b.ReportAllocs()
	for b.Loop() {
		q.Put(in)
		q.Take(out, 100)
	}
}
