//go:build unix && !illumos && !solaris && !aix

package nsqtofile

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockAlone locks a file that nobody else has open for writing; it is false if
// somebody has, or the file system knows no locks. The lock goes with the file.
func lockAlone(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// sharedWait is how long lockShared waits: long enough for another process to
// repair a file of some gigabytes.
const sharedWait = 10 * time.Second

// lockShared lets others that append have the file, too. It waits a while for one
// that is alone with it.
func lockShared(f *os.File) error {
	for deadline := time.Now().Add(sharedWait); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil // locked, or a file system without locks
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is in use by another process: %w", f.Name(), err)
		}
	}
}
