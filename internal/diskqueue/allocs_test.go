package diskqueue

import (
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// Records cost no memory each, on their way to disk and back: a batch that is taken
// has one piece for all of its records.
func TestBatchesAllocateLittle(t *testing.T) {
	o := testOptions(t, t.TempDir())
	o.Logger, o.SyncEvery, o.FS = nil, 1<<40, noSyncFS{}
	q := open(t, o)
	records := benchBatch()
	nsqtest.AllocatesAtMost(t, 3, "200 records are put", func() {
		if err := q.Put(records); err != nil {
			t.Fatal(err)
		}
	})
	into, tickets := make([][]byte, 0, 200), make([]Ticket, 200)
	nsqtest.AllocatesAtMost(t, 1, "200 records are taken and finished", func() {
		got, first, err := q.Take(into, 200)
		if err != nil || len(got) == 0 {
			t.Fatal(len(got), err)
		}
		for i := range got {
			tickets[i] = first + Ticket(i)
		}
		q.Finish(tickets[:len(got)]...)
	})
}
