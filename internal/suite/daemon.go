// Package suite runs nsqlookupd and nsqd as real processes, for the programs
// of bench/ that show or measure them from outside. It knows their command
// line, their log lines and their exit code, and nothing of their insides.
package suite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tailLines is how many of a daemon's last log lines are kept.
const tailLines = 20

// startTimeout bounds the wait for the listening lines of a new daemon.
const startTimeout = 10 * time.Second

// A Daemon is one running nsqd or nsqlookupd process. It ends when Stop is
// called, when the context given to Start ends, or by itself.
type Daemon struct {
	name string
	cmd  *exec.Cmd

	// TCPAddr and HTTPAddr are the bound addresses, as the log names them.
	TCPAddr, HTTPAddr string

	done    chan struct{} // closed once the process is gone
	waitErr error         // how it ended; set before done is closed

	mu   sync.Mutex // guards tail
	tail []string
}

// Start runs the program at path with args and returns once it has logged
// both addresses it listens on: binding port 0 and reading the log leaves no
// moment in which another process can take the port. Each log line is also
// copied to log, if log is not nil. When ctx ends, the process gets SIGTERM,
// and is killed stopTimeout later.
func Start(ctx context.Context, path string, log io.Writer, stopTimeout time.Duration, args ...string) (*Daemon, error) {
	d := &Daemon{name: filepath.Base(path), done: make(chan struct{})}
	d.cmd = exec.CommandContext(ctx, path, args...)
	d.cmd.Cancel = func() error { return terminate(d.cmd.Process) }
	d.cmd.WaitDelay = stopTimeout
	inOwnGroup(d.cmd)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", d.name, err)
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.name, err)
	}

	tcp, http := make(chan string, 1), make(chan string, 1)
	go func() { // ends with the process, whose end of the pipe is then closed
		d.readLog(stderr, log, tcp, http)
		// Wait also reports that ctx has ended, which is no fault of a process
		// that then stopped as asked.
		if err := d.cmd.Wait(); !d.cmd.ProcessState.Success() {
			d.waitErr = err
		}
		close(d.done)
	}()

	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	for d.TCPAddr == "" || d.HTTPAddr == "" {
		select {
		case d.TCPAddr = <-tcp:
		case d.HTTPAddr = <-http:
		case <-d.done:
			return nil, d.WithLog(fmt.Errorf("start %s: ended before it listened: %w", d.name, d.exit()))
		case <-timeout.C:
			err := fmt.Errorf("start %s: not listening after %v", d.name, startTimeout)
			return nil, d.WithLog(errors.Join(err, d.Stop(stopTimeout)))
		}
	}
	return d, nil
}

// readLog copies the log until the process closes it, remembers the last
// lines and sends the first address of each kind.
func (d *Daemon) readLog(stderr io.Reader, log io.Writer, tcp, http chan<- string) {
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			d.remember(line)
			if log != nil {
				fmt.Fprintln(log, line)
			}
			offerAddr(tcp, line, " TCP: listening on ")
			offerAddr(http, line, " HTTP: listening on ")
		}
		if err != nil {
			return
		}
	}
}

// offerAddr sends what follows marker in line, unless an address is already
// waiting to be taken.
func offerAddr(to chan<- string, line, marker string) {
	if _, addr, found := strings.Cut(line, marker); found {
		select {
		case to <- strings.TrimSpace(addr):
		default:
		}
	}
}

func (d *Daemon) remember(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tail) == tailLines {
		d.tail = d.tail[1:]
	}
	d.tail = append(d.tail, line)
}

// PID is the number of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Done is closed when the process is gone, however it ended.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Stop asks the process to end as an operator would (SIGTERM), waits up to
// timeout, then kills it. It returns nil only if the process ended by itself
// with exit code 0. A second call reports the same end again.
func (d *Daemon) Stop(timeout time.Duration) error {
	if err := terminate(d.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", d.name, err)
	}
	select {
	case <-d.done:
	case <-time.After(timeout):
		killErr := d.cmd.Process.Kill()
		<-d.done
		return errors.Join(fmt.Errorf("stop %s: still running %v after SIGTERM, killed", d.name, timeout), killErr)
	}
	if d.waitErr != nil {
		return fmt.Errorf("stop %s: %w", d.name, d.waitErr)
	}
	return nil
}

// Kill ends the process at once, with no chance to save anything, and waits
// until it is gone.
func (d *Daemon) Kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", d.name, err)
	}
	<-d.done
	return nil
}

// Signal sends the process a signal.
func (d *Daemon) Signal(s os.Signal) error { return d.cmd.Process.Signal(s) }

// exit says how a process that is gone ended; it is never nil.
func (d *Daemon) exit() error {
	if d.waitErr != nil {
		return d.waitErr
	}
	return errors.New("exit status 0")
}

// WithLog adds the daemon's last log lines to err.
func (d *Daemon) WithLog(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Errorf("%w\n\nlast log lines of %s:\n  %s", err, d.name, strings.Join(d.tail, "\n  "))
}

// terminate sends SIGTERM, which Windows does not have: there the process is
// killed, and its exit code says so.
func terminate(p *os.Process) error {
	if runtime.GOOS == "windows" {
		return p.Kill()
	}
	return p.Signal(syscall.SIGTERM)
}
