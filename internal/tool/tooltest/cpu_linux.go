package tooltest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ, which is 100 everywhere.
const clockTick = 10 * time.Millisecond

// CPU returns how much CPU time the process has used.
func (p *Process) CPU() time.Duration {
	p.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// Behind the name in parentheses: user and system time are the 12th and 13th.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	var sum int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(string(f))
		if err != nil {
			p.t.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * clockTick
}
