package nsqtofile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nsq-suite/nsq/internal/durable"
)

// syncDir makes what was done to a directory survive a power loss; tests watch it.
var syncDir = durable.SyncDir

// move gives a finished file another path, which must be free (fs.ErrExist). At
// every moment, a power loss included, there is a complete file at one of the two
// paths; what comes to be at dst is complete.
func move(src, dst string) error {
	err := os.Link(src, dst)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// Another file system, or one without hard links.
		err = copyTo(src, dst)
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(dst)); err != nil {
		return err
	}
	if err := os.Remove(src); err != nil {
		return err
	}
	return syncDir(filepath.Dir(src))
}

// copyTo copies a file to a path that must be free.
func copyTo(src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, &fs.PathError{Op: "copy", Path: dst, Err: fs.ErrExist})
	}
	removeLeft(dst)
	tmp, err := os.OpenFile(fmt.Sprintf("%s.%d.tmp", dst, os.Getpid()), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.Remove(tmp.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	lockAlone(tmp)
	_, err = io.Copy(tmp, in)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), dst); err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// Without hard links: an empty file keeps the name until the other replaces it.
	claim, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err := claim.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), dst)
}

// removeLeft removes copies to dst that a crash has interrupted; those that are being
// made are locked.
func removeLeft(dst string) {
	left, _ := filepath.Glob(globEscape.Replace(dst) + ".*.tmp")
	for _, path := range left {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if lockAlone(f) {
			_ = os.Remove(path) // one that stays is in nobody's way
		}
		_ = f.Close()
	}
}

var globEscape = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`)
