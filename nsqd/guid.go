package nsqd

import (
	"sync/atomic"
	"time"
)

// An idSource makes message IDs that are unique within this nsqd and roughly
// ordered by time. As a 64-bit number an ID is
//
//	bits 63..22  ticks of 2^20 ns since 2012-10-28 16:23:42 UTC
//	bits 21..12  node id
//	bits 11..0   sequence within the tick
//
// and it is printed as 16 lower-case hex digits. Source: TCP protocol spec,
// "Message IDs". Unlike the daemon the layout comes from, one sequence serves all
// topics, and nobody waits: more than 4,096 IDs in a tick borrow from the next
// tick, and while the clock stands behind the last ID the sequence just goes on.
type idSource struct {
	node uint64
	now  func() int64  // nanoseconds since 1970
	last atomic.Uint64 // tick<<12 | sequence of the newest ID
}

const (
	idEpochTicks   = 1288834974288
	idSequenceBits = 12
	idNodeBits     = 10
)

// newIDSource returns a source for a node id of [0,1024) and a clock that tells
// nanoseconds since 1970.
func newIDSource(node int64, now func() int64) *idSource {
	return &idSource{node: uint64(node), now: now}
}

// wallClock is the system's time, in nanoseconds since 1970.
func wallClock() int64 { return time.Now().UnixNano() }

// reserve sets n IDs aside and returns the number to pass to id for the first;
// the others follow it.
func (s *idSource) reserve(n int) (first uint64) {
	tick := uint64(s.now()>>20 - idEpochTicks) // before the epoch it wraps, and still tells times apart
	for {
		last := s.last.Load()
		first = max(last+1, tick<<idSequenceBits)
		if s.last.CompareAndSwap(last, first+uint64(n)-1) {
			return first
		}
	}
}

// id renders one reserved number.
func (s *idSource) id(reserved uint64) (id MessageID) {
	tick, sequence := reserved>>idSequenceBits, reserved&(1<<idSequenceBits-1)
	v := tick<<(idSequenceBits+idNodeBits) | s.node<<idSequenceBits | sequence
	for i := len(id) - 2; i >= 0; i -= 2 {
		pair := hexPairs[v&0xff]
		id[i], id[i+1] = byte(pair>>8), byte(pair)
		v >>= 8
	}
	return id
}

// hexPairs holds the two digits of each byte value, the first in the high byte.
var hexPairs = func() (pairs [256]uint16) {
	const digits = "0123456789abcdef"
	for i := range pairs {
		pairs[i] = uint16(digits[i>>4])<<8 | uint16(digits[i&15])
	}
	return pairs
}()
