package diskqueue

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// Publishers and takers at once: everything comes once, and in order for each
// publisher.
func TestStress(t *testing.T) {
	for _, syncEvery := range []int64{1, 50, 2500} {
		t.Run(fmt.Sprint("sync every ", syncEvery), func(t *testing.T) {
			dir := t.TempDir()
			o := testOptions(t, dir)
			o.MaxBytesPerFile, o.SyncEvery, o.SyncTimeout = 20_000, syncEvery, time.Millisecond
			q := open(t, o)
			const publishers, takers, each = 4, 3, 1000
			var mu sync.Mutex
			got := make(map[string]int)
			all := make(chan struct{})
			var takersDone, publishersDone sync.WaitGroup
			for range takers {
				takersDone.Go(func() {
					for {
						select {
						case <-q.Ready():
						case <-all:
							return
						}
						records, err := take(q, nil, 10)
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						for _, r := range records {
							got[string(r)]++
						}
						if len(got) == publishers*each {
							select {
							case <-all:
							default:
								close(all)
							}
						}
						mu.Unlock()
					}
				})
			}
			body := strings.Repeat("b", 100)
			for p := range publishers {
				publishersDone.Go(func() {
					for n := 0; n < each; {
						var b Batch
						for range min(1+n%13, each-n) {
							b.Append(func(dst []byte) []byte { return append(dst, message(p*each+n, body[:n%100])...) })
							n++
						}
						if err := q.Put(&b); err != nil {
							t.Error(err)
						}
					}
				})
			}
			publishersDone.Wait()
			takersDone.Wait()
			for n := range publishers * each {
				if times := got[string(message(n, body[:n%each%100]))]; times != 1 {
					t.Fatalf("message %d came %d times", n, times)
				}
			}
			equalDepth(t, q, 0)
			if d := q.Damage(); d != (Damage{}) {
				t.Fatalf("damage %+v", d)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			if files := directory(t, dir); len(files) != 2 {
				t.Fatalf("%d files left", len(files))
			}
		})
	}
}

// Put, Take, Empty and Close at once: no record comes twice or damaged, and
// nothing blocks.
func TestEmptyAndCloseWhileInUse(t *testing.T) {
	for _, end := range []func(*Queue) error{(*Queue).Close, (*Queue).Delete} {
		o := testOptions(t, t.TempDir())
		o.MaxBytesPerFile, o.SyncEvery, o.SyncTimeout = 500, 20, time.Millisecond
		q := open(t, o)
		var users sync.WaitGroup
		for p := range 3 {
			users.Go(func() {
				for n := 0; ; n++ {
					err := q.Put(batch(message(p<<32+n, "a"), message(p<<32+n, "b")))
					if err == ErrClosed {
						return
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		users.Go(func() {
			seen := make(map[string]bool)
			for {
				records, err := take(q, nil, 5)
				if err == ErrClosed {
					return
				}
				if err != nil {
					t.Error(err)
				}
				for _, payload := range records {
					s := string(payload)
					if len(s) != 27 || seen[s] {
						t.Errorf("record %x", s)
					}
					seen[s] = true
				}
			}
		})
		for range 30 {
			<-q.Ready()
			if err := q.Empty(); err != nil {
				t.Error(err)
			}
		}
		if err := end(q); err != nil {
			t.Error(err)
		}
		users.Wait()
		if d := q.Damage(); d != (Damage{}) {
			t.Errorf("damage %+v", d)
		}
	}
}
