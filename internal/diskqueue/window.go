package diskqueue

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
	items []item   // the records, from head on
	head  int
	jumps []jump // where a record does not begin at the end of the one before

	unfinished, finished stretch // of the records, but for those moved
}

// A stretch is an amount of records, by number and by size.
type stretch struct{ records, bytes int64 }

func (s *stretch) add(records, bytes int64) {
	s.records += records
	s.bytes += bytes
}

// An item is a record in a window.
type item struct {
	size  uint32 // in the file, length included
	state recordState
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

// A taken is where a record lies that was taken.
type taken struct {
	at   position
	size int64 // length included
}

func (w *window) len() int { return len(w.items) - w.head }

// floor is the position before which all records are finished or moved. read is
// the read position.
func (w *window) floor(read position) position {
	if w.len() == 0 {
		return read
	}
	return w.start
}

// push adds a record that was taken, under the next ticket.
func (w *window) push(t taken) {
	if w.len() == 0 {
		w.start = t.at
	} else if t.at != w.end {
		w.jumps = append(w.jumps, jump{w.first + Ticket(w.len()), t.at})
	}
	if w.head > 64 && w.head > w.len() {
		w.items = w.items[:copy(w.items, w.items[w.head:])]
		w.head = 0
	}
	w.items = append(w.items, item{size: uint32(t.size)})
	w.end = position{file: t.at.file, offset: t.at.offset + t.size}
	w.unfinished.add(1, t.size)
}

// set changes the state of an unfinished record, to moved or finished, and
// reports whether there was one under that ticket.
func (w *window) set(t Ticket, to recordState) bool {
	i := t - w.first
	if i < 0 || i >= Ticket(w.len()) {
		return false
	}
	it := &w.items[w.head+int(i)]
	if it.state != unfinished {
		return false
	}
	it.state = to
	w.unfinished.add(-1, -int64(it.size))
	if to == finished {
		w.finished.add(1, int64(it.size))
	}
	return true
}

// advance leaves behind what need not be read again, and returns how many
// records that were.
func (w *window) advance() (passed int64) {
	for w.head < len(w.items) && w.items[w.head].state != unfinished {
		w.passFirst()
		passed++
	}
	if w.len() == 0 {
		w.items, w.head = w.items[:0], 0
		if cap(w.items) > 4096 {
			w.items = nil
		}
	}
	return passed
}

func (w *window) passFirst() {
	it := w.items[w.head]
	w.head++
	w.first++
	w.start.offset += int64(it.size)
	if len(w.jumps) > 0 && w.jumps[0].ticket == w.first {
		w.start = w.jumps[0].to
		if w.jumps = w.jumps[1:]; len(w.jumps) == 0 {
			w.jumps = nil
		}
	}
	if it.state == finished {
		w.finished.add(-1, -int64(it.size))
	}
}

// clear forgets all records; their tickets mean nothing from then on.
func (w *window) clear() {
	*w = window{first: w.first + Ticket(w.len())}
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
	taken
}

// oldest returns the unfinished records, at most most and at least one, that make
// the window at most half as long as it may be when they are moved.
func (w *window) oldest(maxReplay int64, most int) (held []heldRecord) {
	at, jumps := w.start, w.jumps
	unfinishedLeft, finishedLeft := w.unfinished, w.finished
	for i, it := range w.items[w.head:] {
		ticket, size := w.first+Ticket(i), int64(it.size)
		if len(jumps) > 0 && jumps[0].ticket == ticket {
			at, jumps = jumps[0].to, jumps[1:]
		}
		switch it.state {
		case finished:
			finishedLeft.add(-1, -size)
		case unfinished:
			if len(held) == most || len(held) > 0 && !finishedLeft.tooLong(unfinishedLeft, maxReplay/2) {
				return held
			}
			held = append(held, heldRecord{ticket, taken{at, size}})
			unfinishedLeft.add(-1, -size)
		}
		at.offset += size
	}
	return held
}
