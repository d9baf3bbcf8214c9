//go:build unix

package suite

import (
	"os/exec"
	"syscall"
)

// inOwnGroup keeps a terminal's Ctrl-C, which goes to all processes of a group,
// from a daemon: the program that started it decides what stops when.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
