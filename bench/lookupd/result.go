package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const header = `| nsqds | registrations | memory | per registration | all known after | CPU per registration | /lookup in the storm, p50, p99 | /nodes in the storm, p50, max | /lookup in calm, p50 | /nodes in calm, p50 |
|---|---|---|---|---|---|---|---|---|---|`

// A result is what was measured of one cluster.
type result struct {
	cluster
	converged   time.Duration // from the start of nsqlookupd to the last reply to a REGISTER
	cpu         time.Duration // of nsqlookupd until then, with the queries
	memory      int64         // resident, in bytes; 0 where the system does not tell
	storm, calm times
}

// String is one line of the table.
func (r result) String() string {
	n := r.registrations()
	per := func(total, unit float64) string { return strconv.FormatFloat(total/unit/float64(n), 'f', 1, 64) }
	return fmt.Sprintf("| %d | %d | %.1f MiB | %s B | %.2f s | %s µs | %s, %s | %s, %s | %s | %s |",
		r.nsqds, n, float64(r.memory)/(1<<20), per(float64(r.memory), 1), r.converged.Seconds(), per(float64(r.cpu), float64(time.Microsecond)),
		millis(quantile(r.storm.lookup, 0.5)), millis(quantile(r.storm.lookup, 0.99)),
		millis(quantile(r.storm.nodes, 0.5)), millis(quantile(r.storm.nodes, 1)),
		millis(quantile(r.calm.lookup, 0.5)), millis(quantile(r.calm.nodes, 0.5)))
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 2, 64) + " ms"
}

// usage returns the CPU time and the resident memory of a process, 0 where there is
// no /proc.
func usage(pid int) (cpu time.Duration, memory int64) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// After the name of the program, in parentheses: user and system time are the
	// 12th and 13th field, in ticks of 10 ms, resident pages are the 22nd.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	number := func(i int) int64 {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	if len(fields) < 22 {
		return 0, 0
	}
	return time.Duration(number(11)+number(12)) * 10 * time.Millisecond, number(21) * int64(os.Getpagesize())
}
