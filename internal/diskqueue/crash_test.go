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
	"testing/synctest"
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
			got, err := take(q, nil, 15)
			if err != nil {
				t.Fatal(err)
			}
			taken += len(got)
		}
	}
}

// TestRandom compares a queue with a slice over random puts, takes, closes,
// crashes (the files as they are between two operations) and emptyings.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		o := testOptions(t, t.TempDir())
		o.Logger, o.FS = nil, noSyncFS{}
		o.MaxBytesPerFile, o.SyncEvery = 500, 1+rng.Int64N(40)
		run := randomRun{t: t, rng: rng, o: o, q: open(t, o)}
		for range 700 {
			run.step()
			equalDepth(t, run.q, int64(len(run.model)))
		}
		equalRecords(t, takeAll(t, run.q), run.model)
		if err := run.q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

type randomRun struct {
	t      *testing.T
	rng    *rand.Rand
	o      Options
	q      *Queue
	model  [][]byte
	number int
}

func (x *randomRun) step() {
	switch n := x.rng.IntN(400); {
	case n < 190:
		var more [][]byte
		for range x.rng.IntN(8) {
			more = append(more, message(x.number, strings.Repeat("b", x.rng.IntN(80)*x.rng.IntN(10))))
			x.number++
		}
		put(x.t, x.q, more...)
		x.model = append(x.model, more...)
	case n < 380:
		got, err := take(x.q, nil, x.rng.IntN(10))
		if err != nil {
			x.t.Fatal(err)
		}
		equalRecords(x.t, got, x.model[:len(got)])
		x.model = x.model[len(got):]
	case n < 389:
		if err := x.q.Close(); err != nil {
			x.t.Fatal(err)
		}
		x.q = open(x.t, x.o)
	case n < 398:
		x.crash()
	default:
		if err := x.q.Empty(); err != nil {
			x.t.Fatal(err)
		}
		x.model = nil
	}
}

// crash opens a copy of the directory: all that waits comes out, perhaps behind
// some that was taken.
func (x *randomRun) crash() {
	synctest.Wait()
	t, o := x.t, x.o
	o.Dir = t.TempDir()
	for name, content := range directory(t, x.o.Dir) {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := open(t, o)
	depth := q.Depth()
	got := takeAll(t, q)
	if int64(len(got)) != depth {
		t.Fatalf("after a crash: depth %d, took %d", depth, len(got))
	}
	if len(got) < len(x.model) {
		t.Fatalf("after a crash: took %d instead of %d", len(got), len(x.model))
	}
	equalRecords(t, got[len(got)-len(x.model):], x.model)
	if d := q.Damage(); d != (Damage{}) {
		t.Fatalf("after a crash: damage %+v", d)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
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
	// A goroutine that has said it is done may take a moment to go.
	eventually(t, func() bool { return runtime.NumGoroutine() <= before })
}
