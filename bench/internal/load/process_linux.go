package load

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// processUsage asks the kernel for the CPU time of the process in nanoseconds: what
// /proc/<pid>/stat has are ticks of 10 ms, too coarse for a load of half a second.
func processUsage(pid int) (Usage, error) {
	// clock_getcpuclockid(3): the number of a process's CPU clock is its ID inverted,
	// before three bits that say which clock, 2 for the exact one.
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &spent); err != nil {
		return Usage{}, fmt.Errorf("read its CPU clock: %w", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Measured: true, CPU: time.Duration(spent.Nano())}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		words := bytes.Fields(lines.Bytes()) // as "VmRSS:     5120 kB"
		if len(words) != 3 {
			continue
		}
		var into *int64
		switch string(words[0]) {
		case "VmRSS:":
			into = &u.Memory
		case "VmHWM:":
			into = &u.Peak
		default:
			continue
		}
		kib, err := strconv.ParseInt(string(words[1]), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read its memory: %w", err)
		}
		*into = kib << 10
	}
	return u, lines.Err()
}
