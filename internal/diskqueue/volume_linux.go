package diskqueue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// volume is synced with syncfs(2). It is open for as long as it is used: only then
// does syncfs tell of all errors since.
type volume struct{ dir *os.File }

// openVolume returns the file system of dir if it is one of those whose syncfs is
// known to do what fsync does for every file (FUSE does nothing), and if the kernel
// is not older than Linux 5.8, where syncfs hid failed writes.
func openVolume(dir string) (Volume, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return nil, fmt.Errorf("look at file system of %q: %w", dir, err)
	}
	switch int64(stat.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
	default:
		return nil, errors.ErrUnsupported
	}
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		return nil, fmt.Errorf("look at kernel: %w", err)
	}
	if !isFrom5_8(unix.ByteSliceToString(system.Release[:])) {
		return nil, errors.ErrUnsupported
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return volume{d}, nil
}

// isFrom5_8 reports whether a kernel release such as "6.1.0-13-amd64" is at least 5.8.
func isFrom5_8(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

// mostDirty is up to how many bytes may wait to be written, for all programs and
// file systems, that syncfs is used: a slow disk writes them in some seconds.
const mostDirty = 256 << 20

func (v volume) Sync() error {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return errors.Join(errors.ErrUnsupported, err)
	}
	if dirty, ok := dirtyBytes(info); !ok || dirty > mostDirty {
		return errors.ErrUnsupported
	}
	for {
		err := unix.Syncfs(int(v.dir.Fd()))
		if err == nil {
			return nil
		}
		if err != syscall.EINTR {
			return &os.PathError{Op: "syncfs", Path: v.dir.Name(), Err: err}
		}
	}
}

// dirtyBytes returns how much of the page cache is not on disk yet, from the
// content of /proc/meminfo, whose lines are as "Dirty:    1234 kB".
func dirtyBytes(info []byte) (sum int64, ok bool) {
	for _, field := range []string{"\nDirty:", "\nWriteback:"} {
		_, rest, found := bytes.Cut(info, []byte(field))
		value, _, hasUnit := bytes.Cut(rest, []byte(" kB\n"))
		n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if !found || !hasUnit || err != nil {
			return 0, false
		}
		sum += n << 10
	}
	return sum, true
}
