package nsqd

import (
	"encoding/binary"
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
	node uint16
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
	return &idSource{node: uint16(node), now: now}
}

// wallClock is the system's time, in nanoseconds since 1970.
func wallClock() int64 { return time.Now().UnixNano() }

// reserve sets n IDs aside at the time now, in nanoseconds since 1970. It returns the
// number to pass to renderID for the first; the others follow it.
func (s *idSource) reserve(n int, now int64) (first uint64) {
	tick := uint64(now>>20 - idEpochTicks) // before the epoch it wraps, and still tells times apart
	for {
		last := s.last.Load()
		first = max(last+1, tick<<idSequenceBits)
		if s.last.CompareAndSwap(last, first+uint64(n)-1) {
			return first
		}
	}
}

// stamp gives the n messages of b their IDs and their time, which is now.
func (s *idSource) stamp(b *batch, n int) {
	b.nanos, b.node = s.now(), s.node
	b.number = s.reserve(n, b.nanos)
}

// renderID renders one reserved number of a node.
func renderID(reserved uint64, node uint16) (id MessageID) {
	tick, sequence := reserved>>idSequenceBits, reserved&(1<<idSequenceBits-1)
	v := tick<<(idSequenceBits+idNodeBits) | uint64(node)<<idSequenceBits | sequence
	binary.BigEndian.PutUint64(id[:8], hexDigits(uint32(v>>32)))
	binary.BigEndian.PutUint64(id[8:], hexDigits(uint32(v)))
	return id
}

// hexDigits returns the eight lower-case hex digits of v, the first in the highest
// byte. All are made at once: an ID is rendered for each delivery.
func hexDigits(v uint32) uint64 {
	const each = 0x0101010101010101
	x := uint64(v)
	x = (x<<16 | x) & 0x0000ffff0000ffff
	x = (x<<8 | x) & 0x00ff00ff00ff00ff
	x = (x<<4 | x) & 0x0f0f0f0f0f0f0f0f // a digit's value in each byte
	letters := (x + 6*each) >> 4 & each // 1 where it is above 9
	return x + '0'*each + letters*('a'-'0'-10)
}
