package diskqueue

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKill kills a process that writes and takes. Whatever it was told to be
// accepted must come out, in order and without a gap; what it has taken may
// come again.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		// The child goes on at the number the round before has ended with.
		child := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
		child.Env = append(os.Environ(), "DISKQUEUE_KILL_DIR="+dir)
		child.Stderr = os.Stderr
		pipe, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		accepted, taking := 0, 0
		stop := 2000 + rand.IntN(3000)
		killed := false
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			what, number, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(number)
			switch {
			case err != nil:
			case what == "accepted":
				accepted = n
			case what == "taking":
				taking = n
			}
			if accepted >= stop && !killed {
				killed = true
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("child ended by itself")
		}
		t.Logf("round %d: accepted %d, taking %d, files %v", round, accepted, taking, sizes(t, dir))

		q := open(t, killOptions(t, dir))
		depth := q.Depth()
		got := takeAll(t, q)
		if int64(len(got)) != depth {
			t.Errorf("depth %d, took %d", depth, len(got))
		}
		if len(got) == 0 && taking < accepted {
			t.Fatal("nothing came out")
		}
		for i, payload := range got {
			n, err := strconv.ParseInt(string(payload[10:26]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			first := int(n) - i
			if i == 0 && first > taking {
				t.Fatalf("first is %d, only %d were taken", first, taking)
			}
			if want := killMessage(int(n)); !bytes.Equal(payload, want) || i > 0 && !bytes.Equal(got[i-1], killMessage(int(n)-1)) {
				t.Fatalf("record %d of %d: %s", i, len(got), describe(got[max(0, i-1):i+1]))
			}
			if i == len(got)-1 && int(n) < accepted-1 {
				t.Fatalf("last is %d, %d were accepted", n, accepted)
			}
		}
		if d := q.Damage(); d != (Damage{}) {
			t.Fatalf("damage %+v", d)
		}
		if err := q.Empty(); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func sizes(t *testing.T, dir string) []string {
	var s []string
	for name, content := range directory(t, dir) {
		s = append(s, fmt.Sprintf("%s: %d", name, len(content)))
	}
	return s
}

func killOptions(t testing.TB, dir string) Options {
	o := testOptions(t, dir)
	o.MaxBytesPerFile, o.SyncEvery, o.SyncTimeout = 20_000, 300, time.Millisecond
	return o
}

func killMessage(n int) []byte { return message(n, strings.Repeat("b", n%300)) }

// TestKillChild is the process that TestKill kills.
func TestKillChild(t *testing.T) {
	dir := os.Getenv("DISKQUEUE_KILL_DIR")
	if dir == "" {
		t.Skip("runs as the child of TestKill")
	}
	q := open(t, killOptions(t, dir))
	var b Batch
	taken := 0
	for n := 0; n < 1_000_000; {
		b.Reset()
		for range 1 + n%20 {
			b.Append(func(dst []byte) []byte { return append(dst, killMessage(n)...) })
			n++
		}
		if err := q.Put(&b); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("accepted %d\n", n)
		if n%3 == 0 {
			fmt.Printf("taking %d\n", taken+15)
			got, err := q.Take(nil, 15)
			if err != nil {
				t.Fatal(err)
			}
			taken += len(got)
		}
	}
}

// TestRandom compares a queue with a slice over random puts, takes, closes,
// crashes (the files as they are at that moment) and emptyings.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	o := testOptions(t, t.TempDir())
	o.Logger = nil
	o.MaxBytesPerFile, o.SyncEvery, o.SyncTimeout = 500, 1+rng.Int64N(40), time.Hour
	q := open(t, o)
	var model [][]byte
	number := 0
	for range 700 {
		switch rng.IntN(40) {
		default:
			var more [][]byte
			for range rng.IntN(8) {
				more = append(more, message(number, strings.Repeat("b", rng.IntN(80)*rng.IntN(10))))
				number++
			}
			put(t, q, more...)
			model = append(model, more...)
		case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
			got, err := q.Take(nil, rng.IntN(10))
			if err != nil {
				t.Fatal(err)
			}
			equalRecords(t, got, model[:len(got)])
			model = model[len(got):]
		case 21:
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = open(t, o)
		case 22:
			if rng.IntN(10) == 0 {
				if err := q.Empty(); err != nil {
					t.Fatal(err)
				}
				model = nil
			}
		case 23:
			crash := t.TempDir()
			for name, content := range directory(t, o.Dir) {
				if err := os.WriteFile(filepath.Join(crash, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			after := o
			after.Dir = crash
			q := open(t, after)
			depth := q.Depth()
			got := takeAll(t, q)
			if int64(len(got)) != depth {
				t.Fatalf("after a crash: depth %d, took %d", depth, len(got))
			}
			if len(got) < len(model) {
				t.Fatalf("after a crash: took %d instead of %d", len(got), len(model))
			}
			equalRecords(t, got[len(got)-len(model):], model)
			if d := q.Damage(); d != (Damage{}) {
				t.Fatalf("after a crash: damage %+v", d)
			}
		}
		equalDepth(t, q, int64(len(model)))
	}
	equalRecords(t, takeAll(t, q), model)
}

func TestNoGoroutineLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	o := testOptions(t, t.TempDir())
	o.SyncEvery, o.SyncTimeout = 2, time.Millisecond
	for n := range 50 {
		o.Name = fmt.Sprint("topic", n)
		q := open(t, o)
		for i := range 5 {
			put(t, q, m(i))
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Fatalf("%d goroutines, %d before", after, before)
	}
}
