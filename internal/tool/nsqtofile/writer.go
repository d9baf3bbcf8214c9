package nsqtofile

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nsq-suite/nsq/internal/durable"
)

// A writer writes the messages of a topic to one file after the other. Its methods
// do not overlap, and after an error there is nothing more to be done with it.
type writer struct {
	opts  *Options
	log   *slog.Logger
	label string // "[topic/channel] "
	name  name

	file     *file  // nil between two files
	current  string // name of the file, or of the last one, with <REV>
	rev      int    // its revision
	opened   time.Time
	size     int64 // before compression, with what was in the file when it was opened
	workPath string
}

func newWriter(opts *Options, log *slog.Logger, topic string) (*writer, error) {
	n, err := opts.newName(topic)
	if err != nil {
		return nil, err
	}
	return &writer{opts: opts, log: log, label: fmt.Sprintf("[%s/%s] ", topic, opts.Channel), name: n}, nil
}

func (w *writer) infof(format string, args ...any) {
	w.log.Info(w.label + fmt.Sprintf(format, args...))
}
func (w *writer) warnf(format string, args ...any) {
	w.log.Warn(w.label + fmt.Sprintf(format, args...))
}

// rotationDue says whether there is no file to write to, or it is time for another.
func (w *writer) rotationDue(now time.Time) bool {
	if w.file == nil {
		return true
	}
	if named := w.name.at(now); named != w.current {
		w.infof("new filename %s, rotating...", named)
		return true
	}
	if open := now.Sub(w.opened); w.opts.RotateInterval > 0 && open > w.opts.RotateInterval {
		w.infof("%s since last open, rotating...", open)
		return true
	}
	return w.oversize(w.size)
}

func (w *writer) oversize(size int64) bool {
	if w.opts.RotateSize <= 0 || size <= w.opts.RotateSize {
		return false
	}
	w.infof("%s currently %d bytes (> %d), rotating...", w.workPath, size, w.opts.RotateSize)
	return true
}

// write writes a message, to another file if it is time for one.
func (w *writer) write(now time.Time, body []byte) (rotated bool, err error) {
	if w.rotationDue(now) {
		rotated = true
		if err := w.rotate(now); err != nil {
			return true, err
		}
	}
	if err := w.file.write(body); err != nil {
		return rotated, fmt.Errorf("writing message to disk: %w", err)
	}
	w.size += int64(len(body)) + 1
	return rotated, nil
}

// tick opens another file if it is time for one, though there is no message for it.
// With --skip-empty-files that waits for one.
func (w *writer) tick(now time.Time) error {
	switch {
	case !w.rotationDue(now):
		return nil
	case w.opts.SkipEmptyFiles:
		return w.close()
	}
	return w.rotate(now)
}

func (w *writer) rotate(now time.Time) error {
	if err := w.close(); err != nil {
		return err
	}
	return w.open(now)
}

// flush makes messages visible to readers of the file, if it is not compressed.
func (w *writer) flush() error {
	if w.file == nil || w.file.member != nil {
		return nil
	}
	if err := w.file.flush(); err != nil {
		return fmt.Errorf("writing message to disk: %w", err)
	}
	return nil
}

// sync returns once all messages written are on disk.
func (w *writer) sync() error {
	if w.file == nil {
		return nil
	}
	if err := w.file.sync(); err != nil {
		return fmt.Errorf("failed syncing messages: %w", err)
	}
	return nil
}

// abandon gives up after an error.
func (w *writer) abandon() error {
	if w.file == nil {
		return nil
	}
	return w.file.abandon()
}

// open opens the next file.
func (w *writer) open(now time.Time) error {
	if named := w.name.at(now); named != w.current {
		w.current, w.rev = named, 0
	} else {
		w.rev++
	}
	for ; ; w.rev++ {
		opened, err := w.tryOpen(now)
		if opened || err != nil {
			return err
		}
	}
}

// tryOpen opens the file with the present revision. It is false if that is taken.
func (w *writer) tryOpen(now time.Time) (opened bool, err error) {
	w.workPath = filepath.Join(w.opts.workDir(), revision(w.current, w.rev))
	final := w.finalPath(w.rev)
	for _, path := range []string{w.workPath, final} {
		if err := durable.MkdirAll(filepath.Dir(path), 0o770); err != nil {
			return false, fmt.Errorf("unable to create dir: %w", err)
		}
	}
	if w.opts.separate() {
		if _, err := os.Lstat(final); err == nil {
			w.warnf("output file already exists: %s", final)
			return false, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("unable to stat output file %s: %w", final, err)
		}
	}
	f, cut, err := openFile(w.workPath, w.opts)
	switch {
	case errors.Is(err, fs.ErrExist):
		w.warnf("working file already exists: %s", w.workPath)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("unable to open %s: %w", w.workPath, err)
	}
	w.infof("opening %s", w.workPath)
	if cut > 0 {
		w.warnf("%s: cut off %d bytes of a message that was not written completely", w.workPath, cut)
	}
	if w.oversize(f.size) {
		if err := f.f.Close(); err != nil {
			return false, fmt.Errorf("failed to close output file: %w", err)
		}
		return false, nil
	}
	w.file, w.opened, w.size = f, now, f.size
	return true, nil
}

func (w *writer) finalPath(rev int) string {
	return filepath.Join(w.opts.OutputDir, revision(w.current, rev))
}

// close finishes the file, if there is one, and moves it to the output directory.
func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	if err := w.file.close(); err != nil {
		return err
	}
	w.file = nil
	if !w.opts.separate() {
		return nil
	}
	return w.moveToOutput(w.workPath, w.current, w.rev)
}

// moveToOutput moves a finished file to the output directory, under a higher
// revision if there is one of that name already.
func (w *writer) moveToOutput(src, named string, rev int) error {
	dst := filepath.Join(w.opts.OutputDir, revision(named, rev))
	w.infof("moving finished file %s to %s", src, dst)
	err := move(src, dst)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("unable to move file from %s to %s: %w", src, dst, err)
	}
	w.warnf("destination file already exists: %s", dst)
	for rev++; ; rev++ {
		dst = filepath.Join(w.opts.OutputDir, revision(named, rev))
		err := move(src, dst)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("unable to rename file from %s to %s: %w", src, dst, err)
		}
		w.infof("renamed finished file %s to %s to avoid overwrite", src, dst)
		return nil
	}
}
