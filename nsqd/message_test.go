package nsqd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// entriesOf makes messages of bodies, as a run of PUBs does.
func entriesOf(ids *idSource, bodies [][]byte) []entry {
	wire, bounds := sizedForm(bodies)
	return appendEntries(nil, ids, wire, bounds, 0)
}

// recordOf is a message as it is read from disk.
func recordOf(id MessageID, nanos int64, body string) entry {
	e, err := decodeEntry(new(batch), protocol.AppendMessage(nil, nanos, 0, id, []byte(body)))
	if err != nil {
		panic(err)
	}
	return e
}

// listed returns IDs and bodies of entries.
func listed(entries []entry) (list []string) {
	for _, e := range entries {
		for _, one := range e.singly(nil) {
			list = append(list, fmt.Sprint(one.id(), " ", one.body()))
		}
	}
	return list
}

// However entries are cut, it is the same messages, and each cut has the sizes it
// says. The entries that were cut stay what they are: other channels have them too.
func TestCut(t *testing.T) {
	ids := newIDSource(1, wallClock)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var entries []entry
		for range r.IntN(5) {
			bodies := make([][]byte, 1+r.IntN(9))
			for i := range bodies {
				bodies[i] = []byte(strings.Repeat("x", 1+r.IntN(9)))
			}
			entries = append(entries, entriesOf(ids, bodies)...)
			entries = append(entries, newEntry(ids, []byte("alone"), 0), recordOf(MessageID([]byte("0123456789abcdef")), 7, "record"))
		}
		want := listed(entries)
		n := r.IntN(len(want) + 3)
		first, rest := cut(entries, n)
		nsqtest.Equal(t, fmt.Sprint(append(listed(first), listed(rest)...)), fmt.Sprint(want))
		nsqtest.Equal(t, countOf(first), min(n, len(want)))
		nsqtest.Equal(t, fmt.Sprint(listed(entries)), fmt.Sprint(want))
		size := 0
		for _, e := range slices.Concat(first, rest) {
			size += e.bodySize()
		}
		total := 0
		for _, text := range want {
			total += len(text) - protocol.MessageIDLength - 1
		}
		nsqtest.Equal(t, size, total)

		k := len(entries)
		expanded := append(slices.Clone(entries), make([]entry, len(want)-k)...)
		expand(expanded, k)
		nsqtest.Equal(t, fmt.Sprint(listed(expanded)), fmt.Sprint(want))
		for _, e := range expanded {
			nsqtest.Equal(t, e.Len(), 1)
			own := e.alone()
			nsqtest.Equal(t, fmt.Sprint(listed([]entry{own})), fmt.Sprint(listed([]entry{e})))
		}
	}
}

// A message that waits alone keeps nothing of its neighbours in memory.
func TestAlone(t *testing.T) {
	entries := entriesOf(newIDSource(1, wallClock), [][]byte{[]byte("a"), make([]byte, 1000), []byte("c")})
	one := entries[0].singly(nil)[2].alone()
	nsqtest.Equal(t, len(one.batch.wire), 1)
	nsqtest.Equal(t, one.body(), "c")
	nsqtest.Equal(t, len(one.batch.bounds), 0)
}

// A batch of more messages than one batch in memory takes, both ways in and out.
func TestHugeBatch(t *testing.T) {
	const count = 2*maxBatch + 10
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = maxBatch + 5 }) // the others go to disk
	bodies := make([]string, count)
	for i := range bodies {
		bodies[i] = fmt.Sprint(i)
	}
	d.dial().Mpub("t", bodies...)
	d.post("/mpub?topic=t", strings.Join(bodies, "\n"), "OK")
	c := d.dial().Sub("t", "ch").Rdy(2500)
	seen := make(map[string]int)
	for range 2 * count {
		m := c.ReadMessage()
		seen[m.Body]++
		c.Fin(m.ID)
	}
	for _, body := range bodies {
		if seen[body] != 2 {
			t.Fatalf("%s came %d times", body, seen[body])
		}
	}
}

func TestHexDigits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		reserved, node := r.Uint64()>>r.IntN(60), uint16(r.IntN(1024))
		v := reserved>>idSequenceBits<<(idSequenceBits+idNodeBits) | uint64(node)<<idSequenceBits | reserved&(1<<idSequenceBits-1)
		if got, want := renderID(reserved, node).String(), fmt.Sprintf("%016x", v); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}
