package diskqueue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
)

// A position is a byte offset in the data file of that number.
type position struct{ file, offset int64 }

// before reports whether p comes before o in the queue.
func (p position) before(o position) bool {
	return p.file < o.file || p.file == o.file && p.offset < o.offset
}

// metadata is what the metadata file says: how many records wait, where the
// next one is read and where the next one will be written.
type metadata struct {
	depth       int64
	read, write position
}

// errMetadata is returned by parseMetadata for anything but five fitting
// numbers.
var errMetadata = errors.New("malformed metadata")

// append adds the file format to dst: three lines of decimal numbers,
// "<depth>\n<read file>,<offset>\n<write file>,<offset>\n".
func (m metadata) append(dst []byte) []byte {
	dst = append(strconv.AppendInt(dst, m.depth, 10), '\n')
	for _, p := range [2]position{m.read, m.write} {
		dst = append(strconv.AppendInt(dst, p.file, 10), ',')
		dst = append(strconv.AppendInt(dst, p.offset, 10), '\n')
	}
	return dst
}

// parseMetadata reads the format of append; the last newline may be missing.
// Depth may be negative (upstream saves that after salvage); positions may
// not, and the read position is never beyond the write position.
func parseMetadata(b []byte) (metadata, error) {
	b = bytes.TrimSuffix(b, []byte("\n"))
	lines := bytes.Split(b, []byte("\n"))
	if len(lines) != 3 {
		return metadata{}, fmt.Errorf("%w: %d lines instead of 3", errMetadata, len(lines))
	}
	depth, err := strconv.ParseInt(string(lines[0]), 10, 64)
	if err != nil {
		return metadata{}, fmt.Errorf("%w: depth %q", errMetadata, lines[0])
	}
	m := metadata{depth: depth}
	for i, p := range [2]*position{&m.read, &m.write} {
		file, offset, found := bytes.Cut(lines[i+1], []byte(","))
		var errs [2]error
		p.file, errs[0] = strconv.ParseInt(string(file), 10, 64)
		p.offset, errs[1] = strconv.ParseInt(string(offset), 10, 64)
		if !found || errors.Join(errs[:]...) != nil || p.file < 0 || p.offset < 0 {
			return metadata{}, fmt.Errorf("%w: position %q", errMetadata, lines[i+1])
		}
	}
	if m.write.before(m.read) {
		return metadata{}, fmt.Errorf("%w: read position %v beyond write position %v", errMetadata, m.read, m.write)
	}
	return m, nil
}

// readMetadata returns the stored metadata, fs.ErrNotExist or errMetadata.
func (s *store) readMetadata() (metadata, error) {
	f, err := s.fs.OpenFile(s.metadataPath(), os.O_RDONLY)
	if err != nil {
		return metadata{}, err
	}
	defer f.Close()
	var b [128]byte // five numbers of at most 20 digits and their separators
	n, err := readFull(f, b[:], 0)
	if err != nil {
		return metadata{}, fmt.Errorf("read metadata: %w", err)
	}
	return parseMetadata(b[:n])
}

// writeMetadata replaces the metadata file as a whole: a crash leaves the old
// one or the new one. Without durable, a power loss may leave neither.
func (s *store) writeMetadata(m metadata, durable bool) error {
	temporary, err := s.prepareMetadata(m, durable)
	if err == nil {
		err = s.placeMetadata(temporary)
	}
	if err != nil || !durable {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("sync directory of metadata: %w", err)
	}
	return nil
}

// prepareMetadata writes a temporary file that is to become the metadata file, and
// returns its path.
func (s *store) prepareMetadata(m metadata, durable bool) (temporary string, err error) {
	temporary = s.metadataPath() + "." + strconv.FormatInt(rand.Int64(), 10) + ".tmp"
	if err := s.writeTemporary(temporary, m.append(nil), durable); err != nil {
		s.dropTemporary(temporary)
		return "", fmt.Errorf("save metadata: %w", err)
	}
	return temporary, nil
}

// placeMetadata makes that file the metadata file.
func (s *store) placeMetadata(temporary string) error {
	if err := s.fs.Rename(temporary, s.metadataPath()); err != nil {
		s.dropTemporary(temporary)
		return fmt.Errorf("save metadata: %w", err)
	}
	return nil
}

// dropTemporary removes such a file. Whatever is left would be removed by the next
// Open.
func (s *store) dropTemporary(path string) { _ = s.fs.Remove(path) }

func (s *store) writeTemporary(path string, b []byte, durable bool) error {
	f, err := s.fs.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removeMetadata deletes the metadata file if there is one.
func (s *store) removeMetadata() error {
	if err := s.fs.Remove(s.metadataPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove metadata: %w", err)
	}
	return nil
}
