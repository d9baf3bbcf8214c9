package diskqueue

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
)

// The file of the kept records, which no other program looks at:
//
//	"NSQKEPT1"
//	records:
//	  mark     1 byte: 'U' unfinished, 'F' finished
//	  length   4 bytes, big-endian
//	  check    4 bytes, CRC-32C of length and payload, big-endian
//	  payload  length bytes
//
// A record that is finished is marked where it lies. The file goes when it has no
// unfinished record left; when most of it is finished it is written anew.
const (
	keptMagic      = "NSQKEPT1"
	keptHead       = 1 + 4 + 4
	markUnfinished = 'U'
	markFinished   = 'F'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A place is where a record lies in the file of the kept, head included.
type place struct{ offset, size int64 }

// keptFile is that file. Guarded by Queue.keptMu.
type keptFile struct {
	files *store
	file  File  // nil when closed
	size  int64 // where the next record goes; 0 when there is no file
	dirty bool  // not all is synced
	entry bool  // the file was made and the directory not synced since
}

// keptName is what its name ends with.
const keptName = "unfinished.dat"

func (s *store) keptPath() string { return s.base() + keptName }

// append adds payloads and says where each lies. An error means that none was
// added.
func (k *keptFile) append(payloads [][]byte, durable bool) ([]place, error) {
	places, err := k.write(payloads)
	if err == nil && durable {
		err = k.sync()
	}
	if err == nil {
		return places, nil
	}
	// What was written of it is cut off when the file is opened again.
	if len(places) > 0 {
		k.size = places[0].offset
	}
	end := k.close
	if k.size <= int64(len(keptMagic)) {
		end = k.remove
	}
	return nil, errors.Join(fmt.Errorf("keep records: %w", err), end())
}

func (k *keptFile) write(payloads [][]byte) ([]place, error) {
	if err := k.open(); err != nil {
		return nil, err
	}
	var buf []byte
	if k.size == 0 {
		buf = append(buf, keptMagic...)
	}
	places := make([]place, 0, len(payloads))
	for _, payload := range payloads {
		start := len(buf)
		buf = appendKept(buf, payload)
		places = append(places, place{k.size + int64(start), int64(len(buf) - start)})
	}
	if _, err := k.file.WriteAt(buf, k.size); err != nil {
		return nil, err
	}
	k.size += int64(len(buf))
	k.dirty = true
	return places, nil
}

func appendKept(dst, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, markUnfinished)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, payload...)
	binary.BigEndian.PutUint32(dst[start+5:], keptSum(dst[start:]))
	return dst
}

// keptSum is the checksum of a record, whose head and payload b is.
func keptSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[1:5], castagnoli), castagnoli, b[keptHead:])
}

func (k *keptFile) open() error {
	if k.file != nil {
		return nil
	}
	f, err := k.files.fs.OpenFile(k.files.keptPath(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if err := cut(f, k.size); err != nil {
		return errors.Join(err, f.Close())
	}
	k.file = f
	k.entry = k.entry || k.size == 0
	return nil
}

func (k *keptFile) close() error {
	f := k.file
	if f == nil {
		return nil
	}
	k.file = nil
	return f.Close()
}

// sync makes what was added survive a power loss.
func (k *keptFile) sync() error {
	if !k.dirty {
		return nil
	}
	if err := k.open(); err != nil {
		return err
	}
	if err := k.file.Sync(); err != nil {
		return err
	}
	if k.entry {
		if err := k.files.fs.SyncDir(k.files.dir); err != nil {
			return err
		}
	}
	k.dirty, k.entry = false, false
	return nil
}

// mark notes that the records at these places are finished. It need not survive a
// power loss.
func (k *keptFile) mark(finished []place) error {
	if len(finished) == 0 {
		return nil
	}
	if err := k.open(); err != nil {
		return fmt.Errorf("mark finished records: %w", err)
	}
	for _, p := range finished {
		if _, err := k.file.WriteAt([]byte{markFinished}, p.offset); err != nil {
			return fmt.Errorf("mark finished records: %w", err)
		}
	}
	return nil
}

// payload reads one record.
func (k *keptFile) payload(p place) ([]byte, error) {
	if err := k.open(); err != nil {
		return nil, err
	}
	b := make([]byte, p.size-keptHead)
	n, err := readFull(k.file, b, p.offset+keptHead)
	if err == nil && n < len(b) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read kept record: %w", err)
	}
	return b, nil
}

// remove deletes the file.
func (k *keptFile) remove() error {
	err := k.close()
	k.size, k.dirty, k.entry = 0, false, false
	if rest := k.files.fs.Remove(k.files.keptPath()); rest != nil && !isMissing(rest) {
		err = errors.Join(err, fmt.Errorf("remove file of kept records: %w", rest))
	}
	return err
}

// rewrite replaces the file by one that has the given records only, and says
// where each lies in that. After an error the file is as before.
func (k *keptFile) rewrite(from map[Ticket]place) (to map[Ticket]place, err error) {
	path := k.files.keptPath()
	f, err := k.files.fs.OpenFile(path+".tmp", os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("rewrite kept records: %w", err)
	}
	to, size, err := k.copyTo(f, from)
	// Both are closed first: some systems do not rename open files.
	if err = errors.Join(err, f.Close(), k.close()); err == nil {
		err = k.files.fs.Rename(path+".tmp", path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rewrite kept records: %w", err), k.files.fs.Remove(path+".tmp"))
	}
	k.size, k.dirty, k.entry = size, true, true
	return to, nil
}

// copyTo writes the records at the places of from to f, in the order they have,
// and syncs them.
func (k *keptFile) copyTo(f File, from map[Ticket]place) (to map[Ticket]place, size int64, err error) {
	if err := cut(f, 0); err != nil {
		return nil, 0, err
	}
	if _, err := f.WriteAt([]byte(keptMagic), 0); err != nil {
		return nil, 0, err
	}
	size = int64(len(keptMagic))
	to = make(map[Ticket]place, len(from))
	tickets := slices.SortedFunc(maps.Keys(from), func(a, b Ticket) int { return int(from[a].offset - from[b].offset) })
	for _, t := range tickets {
		payload, err := k.payload(from[t])
		if err != nil {
			return nil, 0, err
		}
		if _, err := f.WriteAt(appendKept(nil, payload), size); err != nil {
			return nil, 0, err
		}
		to[t] = place{size, from[t].size}
		size += from[t].size
	}
	return to, size, f.Sync()
}

// scan reads the file that a former process has left and returns where its
// unfinished records lie. What is damaged is counted and logged. A file without
// any goes.
func (k *keptFile) scan() (left []place, err error) {
	path := k.files.keptPath()
	f, err := k.files.fs.OpenFile(path, os.O_RDONLY)
	if isMissing(err) {
		return nil, nil
	}
	if err == nil {
		left, err = k.scanOpen(f)
		err = errors.Join(err, f.Close())
	}
	switch {
	case errors.Is(err, errBadRecord):
		k.files.lost(path, 0, err)
		return nil, k.files.fs.Rename(path, path+".bad")
	case err != nil:
		return nil, fmt.Errorf("read kept records: %w", err)
	case len(left) == 0:
		return nil, k.remove()
	}
	return left, nil
}

// scanOpen is scan for the open file. It returns errBadRecord for one that is no
// file of kept records.
func (k *keptFile) scanOpen(f File) (left []place, err error) {
	size, err := f.Size()
	if err != nil || size < int64(len(keptMagic)) {
		return nil, err // the process died as it began the file
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), windowSize)
	magic := make([]byte, len(keptMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, err
	}
	if string(magic) != keptMagic {
		return nil, errBadRecord
	}
	k.size = int64(len(magic))
	for size-k.size >= keptHead {
		p, unfinished, err := k.scanOne(r, size)
		if err != nil {
			return nil, err
		}
		if p.size == 0 {
			break
		}
		if unfinished {
			left = append(left, p)
		}
		k.size += p.size
	}
	if k.size < size {
		k.files.log.Warn(k.files.head+"cut off a record that was not written to its end",
			slog.String("file", k.files.keptPath()), slog.Int64("offset", k.size), slog.Int64("bytes", size-k.size))
	}
	return left, nil
}

// scanOne reads the record at k.size and reports whether it is whole and
// unfinished. One that goes beyond the end of the file has no size.
func (k *keptFile) scanOne(r *bufio.Reader, size int64) (p place, unfinished bool, err error) {
	head, err := r.Peek(keptHead)
	if err != nil {
		return place{}, false, err
	}
	p = place{k.size, keptHead + int64(binary.BigEndian.Uint32(head[1:]))}
	if p.size > size-p.offset {
		return place{}, false, nil
	}
	b := make([]byte, p.size)
	if _, err := io.ReadFull(r, b); err != nil {
		return place{}, false, err
	}
	switch {
	case binary.BigEndian.Uint32(b[5:]) != keptSum(b) || b[0] != markUnfinished && b[0] != markFinished:
		k.files.damagedRecords.Add(1)
		k.files.corrupt("kept record damaged", &CorruptError{File: k.files.keptPath(), Offset: p.offset, Err: errBadRecord})
		return p, false, nil
	default:
		return p, b[0] == markUnfinished, nil
	}
}
