//go:build !linux

package tooltest

import "time"

// CPU cannot be called here: Freeze skips the test.
func (p *Process) CPU() time.Duration { return 0 }

// Freeze skips the test: without /proc nobody knows when nsqd has stopped.
func (n *NSQD) Freeze() {
	n.t.Helper()
	n.t.Skip("no /proc")
}

// Thaw cannot be called here: Freeze skips the test.
func (n *NSQD) Thaw() {}
