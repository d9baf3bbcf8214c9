package tooltest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ, which is 100 everywhere.
const clockTick = 10 * time.Millisecond

// CPU returns how much CPU time the process has used.
func (p *Process) CPU() time.Duration {
	p.t.Helper()
	stat := procStat(p.t, p.cmd.Process.Pid)
	var sum int
	for _, f := range stat[11:13] { // in user mode, in the system
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * clockTick
}

// Freeze stops nsqd where it is, with its connections open, until Thaw is called.
func (n *NSQD) Freeze() {
	n.t.Helper()
	n.signal(syscall.SIGSTOP)
	WaitFor(n.t, func() error {
		if state := procStat(n.t, n.PID())[0]; state != "T" {
			return fmt.Errorf("nsqd is in state %s", state)
		}
		return nil
	})
}

// Thaw lets nsqd go on.
func (n *NSQD) Thaw() { n.signal(syscall.SIGCONT) }

func (n *NSQD) signal(s os.Signal) {
	n.t.Helper()
	if err := n.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// procStat returns what is behind the name of the program in /proc/<pid>/stat.
func procStat(t testing.TB, pid int) []string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}
