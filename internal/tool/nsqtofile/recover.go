package nsqtofile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/durable"
)

// recover sees to the files that a crash has left: half a message, gzip member or
// zstd frame at the end is cut off, and with a work directory the files go to the
// output directory. A file that another process is writing is left alone; those of
// a process of another suite, which does not lock its files, cannot be told from
// files left behind, and must not share directory and host identifier with ours.
func (w *writer) recover() error {
	pattern := w.name.pattern()
	if w.opts.separate() {
		return w.recoverAll(pattern)
	}
	if !w.opts.exclusive() {
		return nil // opening repairs a file that is appended to
	}
	return w.recoverNewest(pattern)
}

// recoverAll moves all files that are left in the work directory.
func (w *writer) recoverAll(pattern *regexp.Regexp) error {
	return w.eachFile(w.opts.workDir(), pattern, func(path string, d fs.DirEntry) error {
		size, err := w.repair(path)
		if errors.Is(err, errInUse) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(w.opts.workDir(), path)
		if err != nil {
			return err
		}
		moved, err := sameContent(path, filepath.Join(w.opts.OutputDir, relative))
		if err != nil {
			return err
		}
		if size == 0 || moved {
			w.infof("removing %s, which is empty or was moved already", path)
			if err := os.Remove(path); err != nil {
				return err
			}
			return syncDir(filepath.Dir(path))
		}
		named, rev, _ := unrevise(pattern, filepath.ToSlash(relative))
		if err := durable.MkdirAll(filepath.Dir(filepath.Join(w.opts.OutputDir, relative)), 0o770); err != nil {
			return fmt.Errorf("unable to create dir: %w", err)
		}
		return w.moveToOutput(path, named, rev)
	})
}

// sameContent says whether there is a file dst that holds what src holds: then the
// crash came when src had been moved, and not removed yet.
func sameContent(src, dst string) (bool, error) {
	a, err := os.Open(src)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.Open(dst)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer b.Close()
	sizeA, errA := sizeOf(a)
	sizeB, errB := sizeOf(b)
	if err := errors.Join(errA, errB); err != nil || sizeA != sizeB {
		return false, err
	}
	bufA, bufB := make([]byte, bufferSize), make([]byte, bufferSize)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		switch {
		case n != m || !bytes.Equal(bufA[:n], bufB[:m]):
			return false, nil
		case errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF):
			return true, nil
		case errA != nil || errB != nil:
			return false, errors.Join(errA, errB)
		}
	}
}

// recoverNewest repairs the newest file: no other can have been open when a crash
// came.
func (w *writer) recoverNewest(pattern *regexp.Regexp) error {
	var newest string
	var when time.Time
	err := w.eachFile(w.opts.workDir(), pattern, func(path string, d fs.DirEntry) error {
		info, err := d.Info()
		if err == nil && (newest == "" || info.ModTime().After(when)) {
			newest, when = path, info.ModTime()
		}
		return nil // what has gone is not ours to repair
	})
	if err != nil || newest == "" {
		return err
	}
	if _, err := w.repair(newest); err != nil && !errors.Is(err, errInUse) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// eachFile calls do for the files of the topic below dir, but for those in the
// output directory if that is another one.
func (w *writer) eachFile(dir string, pattern *regexp.Regexp, do func(path string, d fs.DirEntry) error) error {
	output := filepath.Clean(w.opts.OutputDir)
	depth := strings.Count(filepath.ToSlash(w.name.at(time.Now())), "/")
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
			return nil // nothing there, or nothing of ours
		case err != nil:
			return err
		case path == dir:
			return nil
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		switch {
		case d.IsDir() && (path == output || strings.Count(relative, "/") >= depth):
			return filepath.SkipDir
		case !d.Type().IsRegular() || !pattern.MatchString(relative):
			return nil
		}
		return do(path, d)
	})
}

// errInUse is returned by repair for a file that another process has locked.
var errInUse = errors.New("in use by another process")

// repair cuts off what was not written completely, and returns what size is left.
func (w *writer) repair(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !lockAlone(f) {
		return 0, errInUse
	}
	var cut int64
	if kind := w.opts.compression(); kind == None {
		cut, err = cutTornLine(f)
	} else {
		cut, err = cutTornMember(f, kind)
	}
	if err != nil {
		return 0, fmt.Errorf("unable to repair %s: %w", path, err)
	}
	if cut > 0 {
		w.warnf("%s: cut off %d bytes that were not written completely", path, cut)
	}
	return sizeOf(f)
}
