//go:build !windows

package diskqueue

import (
	"math"
	"syscall"
)

// channelSeparator stands between topic and channel in file names.
const channelSeparator = ':'

// openFileLimit is how many files the process may have open.
func openFileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 256 // the least of the usual limits
	}
	return int(min(uint64(limit.Cur), math.MaxInt32))
}
