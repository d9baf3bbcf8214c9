//go:build unix && !illumos && !solaris && !aix

package nsqd

import (
	"fmt"
	"os"
	"syscall"
)

// A dirLock keeps a second daemon out of the data directory. The lock is on the
// directory itself, so it leaves no file behind, and it goes with the process.
type dirLock struct{ dir *os.File }

func lockDir(path string) (*dirLock, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = dir.Close() // the lock is what failed
		return nil, fmt.Errorf("cannot flock directory %s - %w (possibly in use by another instance of nsqd)", path, err)
	}
	return &dirLock{dir}, nil
}

func (l *dirLock) release() error { return l.dir.Close() }
