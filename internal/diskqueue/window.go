package diskqueue

import "math"

// A Ticket stands for one record that was taken, until [Queue.Finish] is told
// that nobody needs it any more. A queue gives each of its tickets to one record
// only; none is 0.
type Ticket int64

// replayBytes is how many bytes stand for one record where Options.MaxReplay
// bounds bytes: files that are held back take room, however few records are in
// them.
const replayBytes = 4 << 10

// A window is the stretch of records from the oldest that was taken and is not
// finished up to the read position. Its beginning is the read position that is
// saved, so that all of it is read again after a crash. Guarded by Queue.mu.
type window struct {
	start position // of the first record; means nothing while there is none
	end   position // behind the last
	first Ticket   // of the first record, or of the next one taken

	// The records are those from head on.
	sizes  []uint32 // in the file, lengths included
	states []recordState
	head   int
	jumps  []jump // where a record does not begin at the end of the one before

	unfinished, finished stretch // of the records, but for those moved
}

// A stretch is an amount of records, by number and by size.
type stretch struct{ records, bytes int64 }

func (s *stretch) add(records, bytes int64) {
	s.records += records
	s.bytes += bytes
}

type recordState uint8

const (
	unfinished recordState = iota // somebody has it
	moved                         // somebody has it, and it is in the file of the kept
	finished
)

// A jump says that the record of a ticket begins at to.
type jump struct {
	ticket Ticket
	to     position
}

// never is the ticket of the jump that does not come.
const never = Ticket(math.MaxInt64)

// A run is the records that one Take has taken.
type run struct {
	sizes []uint32
	bytes int64
	start position // of the first
	end   position // behind the last
	jumps []jump   // as in a window, but the tickets count from 0
}

// add adds a record of size bytes that begins at at.
func (r *run) add(at position, size int64) {
	switch {
	case len(r.sizes) == 0:
		r.start = at
	case at != r.end:
		r.jumps = append(r.jumps, jump{Ticket(len(r.sizes)), at})
	}
	r.sizes = append(r.sizes, uint32(size))
	r.bytes += size
	r.end = position{file: at.file, offset: at.offset + size}
}

// reset empties r, and keeps its memory.
func (r *run) reset() { *r = run{sizes: r.sizes[:0], jumps: r.jumps[:0]} }

func (w *window) len() int { return len(w.sizes) - w.head }

// next is the ticket of the record that is taken next.
func (w *window) next() Ticket { return w.first + Ticket(w.len()) }

// floor is the position before which all records are finished or moved. read is
// the read position.
func (w *window) floor(read position) position {
	if w.len() == 0 {
		return read
	}
	return w.start
}

// push adds records that were taken, under the next tickets.
func (w *window) push(r *run) {
	if len(r.sizes) == 0 {
		return
	}
	base := w.next()
	if w.len() == 0 {
		w.start = r.start
	} else if r.start != w.end {
		w.jumps = append(w.jumps, jump{base, r.start})
	}
	for _, j := range r.jumps {
		w.jumps = append(w.jumps, jump{base + j.ticket, j.to})
	}
	if w.head > w.len() {
		w.states = w.states[:copy(w.states, w.states[w.head:])]
		w.sizes = w.sizes[:copy(w.sizes, w.sizes[w.head:])]
		w.head = 0
	}
	w.sizes = append(w.sizes, r.sizes...)
	w.states = append(w.states, make([]recordState, len(r.sizes))...)
	w.end = r.end
	w.unfinished.add(int64(len(r.sizes)), r.bytes)
}

// set changes the state of an unfinished record, to moved or finished, and
// reports whether there was one under that ticket. What it adds to done is to be
// settled.
func (w *window) set(t Ticket, to recordState, done *stretch) bool {
	i := t - w.first
	if i < 0 || i >= Ticket(w.len()) {
		return false
	}
	at := w.head + int(i)
	if w.states[at] != unfinished {
		return false
	}
	w.states[at] = to
	done.add(1, int64(w.sizes[at]))
	return true
}

// settle counts the records that were set to a state, and leaves behind what need
// not be read again. It returns how many records that was.
func (w *window) settle(to recordState, done stretch) (passed int64) {
	w.unfinished.add(-done.records, -done.bytes)
	if to == finished {
		w.finished.add(done.records, done.bytes)
	}
	var gone stretch
	nextJump := w.nextJump()
	head := w.head
	for ; head < len(w.states) && w.states[head] != unfinished; head++ {
		size := int64(w.sizes[head])
		w.start.offset += size
		w.first++
		if w.first == nextJump {
			w.start = w.jumps[0].to
			w.jumps = w.jumps[1:]
			nextJump = w.nextJump()
		}
		if w.states[head] == finished {
			gone.add(1, size)
		}
	}
	passed = int64(head - w.head)
	w.head = head
	w.finished.add(-gone.records, -gone.bytes)
	if w.len() == 0 {
		w.forget()
	}
	return passed
}

func (w *window) nextJump() Ticket {
	if len(w.jumps) == 0 {
		return never
	}
	return w.jumps[0].ticket
}

// forget gives the memory of what was left behind back, if it is much.
func (w *window) forget() {
	w.sizes, w.states, w.head, w.jumps = w.sizes[:0], w.states[:0], 0, nil
	if cap(w.sizes) > 1024 {
		w.sizes, w.states = nil, nil
	}
}

// clear forgets all records; their tickets mean nothing from then on.
func (w *window) clear() {
	*w = window{first: w.next()}
}

// tooLong reports whether too much in the window is finished and would be read
// again after a crash only for the sake of what is not: a fixed amount, and as
// much again as is unfinished, four times. The latter is for many consumers that
// take their time: with a fixed amount nearly everything would be moved.
func (w *window) tooLong(maxReplay int64) bool {
	return w.finished.tooLong(w.unfinished, maxReplay)
}

func (s stretch) tooLong(unfinished stretch, maxReplay int64) bool {
	return s.records > maxReplay+4*unfinished.records || s.bytes > maxReplay*replayBytes+4*unfinished.bytes
}

// A heldRecord is an unfinished record that is to be moved.
type heldRecord struct {
	ticket Ticket
	at     position
	size   int64 // in the file, length included
}

// oldest returns the unfinished records, at most most and at least one, that make
// the window at most half as long as it may be when they are moved.
func (w *window) oldest(maxReplay int64, most int) (held []heldRecord) {
	at, jumps := w.start, w.jumps
	unfinishedLeft, finishedLeft := w.unfinished, w.finished
	for i, state := range w.states[w.head:] {
		ticket, size := w.first+Ticket(i), int64(w.sizes[w.head+i])
		if len(jumps) > 0 && jumps[0].ticket == ticket {
			at, jumps = jumps[0].to, jumps[1:]
		}
		switch state {
		case finished:
			finishedLeft.add(-1, -size)
		case unfinished:
			if len(held) == most || len(held) > 0 && !finishedLeft.tooLong(unfinishedLeft, maxReplay/2) {
				return held
			}
			held = append(held, heldRecord{ticket, at, size})
			unfinishedLeft.add(-1, -size)
		}
		at.offset += size
	}
	return held
}
