package nsqd

import "sync/atomic"

// A credit is memory that bodies get before they have arrived. A client may announce
// what it never sends, so in general memory grows with what has come, which costs
// copies. As long as there is credit, which all clients of the daemon share, a body gets
// its memory at once.
type credit struct{ used atomic.Int64 }

const (
	creditLimit = 32 << 20  // bytes, of all clients together
	freeCredit  = 128 << 10 // bytes that every body gets, beside the limit
)

// borrow returns how much memory a body of n bytes gets before it has come: n, or less
// if there is no credit. That must be given back when the body is there, or will not
// come.
func (c *credit) borrow(n int) (ahead int) {
	if n <= freeCredit {
		return n
	}
	if c.used.Add(int64(n)) > creditLimit {
		c.used.Add(-int64(n))
		return freeCredit
	}
	return n
}

// giveBack ends what borrow has begun.
func (c *credit) giveBack(ahead int) {
	if ahead > freeCredit {
		c.used.Add(-int64(ahead))
	}
}
