package diskqueue

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
)

// verifyLimit is the size of a backlog, in bytes, whose depth is counted at
// every Open. The depth of a larger one is believed as long as the metadata
// agrees with the files.
const verifyLimit = 1 << 20

// errTooLong is returned by countUpTo when there is more to read than wanted.
var errTooLong = errors.New("backlog too long to count")

// recovered is the state in which a queue begins.
type recovered struct {
	metadata
	done        []doneFile // read to their end, to be removed
	hasMetadata bool
	hasKept     bool // there is a file of kept records
	changed     bool // the metadata file says something else, or data may be unsynced
}

// recover finds out where the queue ends and how deep it is. It trusts the
// metadata as far as the files agree, salvages what was written after the
// metadata was saved, and cuts off a torn last record.
func (s *store) recover(names *Names, maxRecord int32) (recovered, error) {
	left, err := s.left(names)
	if err != nil {
		return recovered{}, err
	}
	for _, name := range left.temporary {
		if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil && !isMissing(err) {
			s.warn("failed to remove leftover", err)
		}
	}
	stored, err := s.readMetadata()
	intact := err == nil
	switch {
	case isMissing(err) && len(left.numbers) == 0:
		return recovered{hasKept: left.kept}, nil
	case isMissing(err):
		s.lost(s.metadataPath(), 0, errMissing)
	case errors.Is(err, errMetadata):
		s.lost(s.metadataPath(), 0, err)
	case err != nil:
		return recovered{}, err
	}
	r := recovery{store: s, maxRecord: int64(maxRecord), stored: stored, sizes: make(map[int64]int64)}
	if !intact {
		// Upstream starts at 0 here and overwrites the data. All of it counts.
		r.stored = metadata{}
		if len(left.numbers) > 0 {
			r.stored.read.file = left.numbers[0]
		}
		r.stored.write = r.stored.read
	}
	found, err := r.run(left.numbers)
	if err != nil {
		return recovered{}, err
	}
	if intact && found != stored {
		s.log.Warn(s.head+"metadata corrected",
			slog.String("stored", fmt.Sprint(stored)), slog.String("found", fmt.Sprint(found)))
	}
	return recovered{
		metadata: found, done: r.done, hasMetadata: intact, hasKept: left.kept,
		changed: !intact || found != stored,
	}, nil
}

// left returns what the directory holds of this queue.
func (s *store) left(names *Names) (leftFiles, error) {
	if names != nil {
		if files, known := names.take(s.name); known {
			return files, nil
		}
	}
	names, err := list(s.fs, s.dir)
	if err != nil {
		return leftFiles{}, err
	}
	files, _ := names.take(s.name)
	return files, nil
}

// A recovery compares the stored metadata with the data files.
type recovery struct {
	*store
	maxRecord int64
	stored    metadata
	files     []int64         // numbers of the data files from the read file on, ascending
	sizes     map[int64]int64 // of files
	done      []doneFile      // read to their end
	sound     bool            // the files up to the stored write position are as the metadata says
}

func (r *recovery) run(numbers []int64) (found metadata, err error) {
	for _, n := range numbers {
		if n < r.stored.read.file {
			// Its last record was taken; the process died before removing it.
			if err := r.remove(n); err != nil {
				r.error("failed to remove data file", err)
			}
			continue
		}
		size, err := r.fs.Size(r.dataPath(n))
		if isMissing(err) {
			continue
		}
		if err != nil {
			return metadata{}, fmt.Errorf("look at data file: %w", err)
		}
		r.files = append(r.files, n)
		r.sizes[n] = size
	}
	if len(r.files) == 0 {
		if r.stored.read != r.stored.write {
			r.lost(r.dataPath(r.stored.read.file), r.stored.read.offset, errMissing)
		}
		at := position{file: r.stored.write.file}
		return metadata{read: at, write: at}, nil
	}
	r.sound = true
	read := r.findRead()
	write, err := r.findWrite(read)
	if err != nil {
		return metadata{}, err
	}
	if write.before(read) {
		read = write
	}
	depth, err := r.findDepth(read, write)
	return metadata{depth: depth, read: read, write: write}, err
}

// findRead returns the stored read position, or the beginning of the next file
// there is. Files read to their end are done with, unless the last.
func (r *recovery) findRead() position {
	read := r.stored.read
	for i, n := range r.files {
		if n > read.file {
			r.lost(r.dataPath(read.file), read.offset, errMissing)
			r.sound = false
			read = position{file: n}
		}
		last := i == len(r.files)-1
		if read.offset < r.sizes[n] || last && n >= r.stored.write.file {
			break
		}
		if read.offset > r.sizes[n] {
			r.lost(r.dataPath(n), r.sizes[n], errTorn)
			r.sound = false
		}
		r.done = append(r.done, doneFile{number: n})
		read = position{file: n + 1}
	}
	return read
}

// findWrite returns where the records end: at the stored position if the file
// does, otherwise behind the last whole record of the last file.
func (r *recovery) findWrite(read position) (position, error) {
	stored, n := r.stored.write, r.files[len(r.files)-1]
	size := r.sizes[n]
	if n < stored.file {
		if stored.offset > 0 || n < stored.file-1 {
			r.lost(r.dataPath(n+1), 0, errMissing)
			r.sound = false
		}
		return position{file: n + 1}, nil
	}
	var from int64
	switch {
	case n > stored.file:
		// The metadata is more than a file behind: all of this one is new.
	case size == stored.offset:
		return stored, nil
	case size > stored.offset:
		from = stored.offset
	default:
		r.lost(r.dataPath(n), size, errTorn)
		r.sound = false
	}
	if read.file == n {
		from = max(from, min(read.offset, size))
	}
	f, err := r.openRead(n)
	if err != nil {
		return position{}, err
	}
	defer f.Close()
	x := extent{r: f, limit: size, min: r.min}
	_, end, err := x.count(from)
	if err != nil {
		return position{}, fmt.Errorf("scan data file: %w", err)
	}
	return position{file: n, offset: end}, r.cutTail(n, &x, end)
}

// cutTail removes what lies behind the last whole record of the last file. The
// beginning of a record that was being written when the process died is no
// loss; anything else is set aside.
func (r *recovery) cutTail(n int64, x *extent, end int64) error {
	if end == x.limit {
		return nil
	}
	torn, err := x.isTorn(end, r.maxRecord)
	if err != nil {
		return fmt.Errorf("scan data file: %w", err)
	}
	acknowledged := n == r.stored.write.file && end < r.stored.write.offset
	if torn && !acknowledged {
		r.log.Warn(r.head+"cut off a record that was not written to its end",
			slog.String("file", r.dataPath(n)), slog.Int64("offset", end), slog.Int64("bytes", x.limit-end))
	} else if !r.setAside(n, x.r, end, x.limit, errBadRecord) {
		return fmt.Errorf("set aside the end of data file %q: %w", r.dataPath(n), errBadRecord)
	}
	return r.cutFile(n, end)
}

// findDepth returns the number of records between read and write.
func (r *recovery) findDepth(read, write position) (int64, error) {
	whole, err := r.bytesBetween(read, write)
	if err != nil {
		return 0, err
	}
	stored, depth := r.stored.write, r.stored.depth
	if r.sound && whole > verifyLimit && !stored.before(read) {
		known, err := r.bytesBetween(read, stored)
		if err != nil {
			return 0, err
		}
		if depth >= 0 && depth <= known/(headerSize+r.min) && (depth > 0 || known == 0) {
			added, err := r.countUpTo(stored, write, math.MaxInt64)
			return depth + added, err
		}
	}
	return r.countUpTo(read, write, math.MaxInt64)
}

// bytesBetween returns the number of bytes from one position to another.
func (s *store) bytesBetween(from, to position) (int64, error) {
	var sum int64
	for n := from.file; n < to.file; n++ {
		size, err := s.fs.Size(s.dataPath(n))
		if err != nil && !isMissing(err) {
			return 0, fmt.Errorf("look at data file: %w", err)
		}
		sum += size
	}
	return sum + to.offset - from.offset, nil
}

// countUpTo returns how many records Take would find between two positions, or
// errTooLong if more than most bytes had to be read for it.
func (s *store) countUpTo(from, to position, most int64) (int64, error) {
	whole, err := s.bytesBetween(from, to)
	if err != nil {
		return 0, err
	}
	if whole == 0 {
		return 0, nil
	}
	if whole > most {
		return 0, errTooLong
	}
	var sum int64
	for n := from.file; n <= to.file; n++ {
		records, err := s.countFile(n, from, to)
		if err != nil {
			return 0, fmt.Errorf("count records: %w", err)
		}
		sum += records
	}
	return sum, nil
}

// countFile counts the records of data file n that are between two positions.
func (s *store) countFile(n int64, from, to position) (int64, error) {
	f, err := s.openRead(n)
	if isMissing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	x := extent{r: f, limit: to.offset, min: s.min}
	if n < to.file {
		if x.limit, err = f.Size(); err != nil {
			return 0, err
		}
	}
	var start int64
	if n == from.file {
		start = from.offset
	}
	records, _, err := x.count(start)
	return records, err
}
