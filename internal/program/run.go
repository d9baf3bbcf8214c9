package program

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// running is a program that serves.
type running[O any] struct {
	program Program[O]
	daemon  Daemon[O]
	proc    Process
	log     *slog.Logger
}

// run runs the daemon until it has stopped, or for shutdownTimeout after the end
// of ctx. systemd, if it wants to know, learns when the daemon is ready, reloads
// and stops.
func (r *running[O]) run(ctx context.Context, shutdownTimeout time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan error, 1)
	go func() { result <- r.daemon.Run(ctx) }() // waited for here, unless it takes too long
	stopping, starting := ctx.Done(), r.daemon.Ready()
	drainer, _ := r.daemon.(Drainer)
	var drained <-chan struct{} // it stops by itself
	if drainer != nil {
		drained = drainer.Stopping()
	}
	var tooLong <-chan time.Time
	for {
		select {
		case err := <-result:
			if stopping != nil { // at once after the end of ctx, or by itself
				r.tell(systemd.SdNotifyStopping)
			}
			return err
		case <-starting:
			starting = nil
			r.tell(systemd.SdNotifyReady)
		case <-r.proc.Reload:
			// systemd compares the time with that of the signal it has sent.
			r.tell(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
			r.reload()
			if starting == nil {
				r.tell(systemd.SdNotifyReady)
			}
		case <-r.proc.Terminate:
			if drainer == nil || !drainer.Terminate() {
				stop()
			}
		case <-drained:
			drained = nil
			stop() // what is said of a stop holds for this one too
		case <-stopping:
			stopping = nil
			r.tell(systemd.SdNotifyStopping)
			if shutdownTimeout > 0 {
				tooLong = time.After(shutdownTimeout)
			}
		case <-tooLong:
			return fmt.Errorf("not stopped within --shutdown-timeout (%v), still waiting for: %s", shutdownTimeout, r.daemon.Remaining())
		}
	}
}

// reload resolves the options again, from the same command line and what is in
// the file now, and gives them to the daemon. If something is wrong with them all
// stays as it is.
func (r *running[O]) reload() {
	r.log.Info("reloading")
	opts, line, err := r.program.parse(r.proc.Args, io.Discard) // as it was parsed before
	var warnings []string
	if err == nil {
		warnings, err = r.program.load(opts, line)
	}
	if err == nil {
		err = r.daemon.Reload(opts)
	}
	for _, w := range warnings {
		r.log.Warn(w)
	}
	if err != nil {
		r.log.Error("reload failed, nothing has changed", "err", err)
		return
	}
	r.log.Info("reloaded")
}

// tell sends a state to systemd, if that has started the process.
func (r *running[O]) tell(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		r.log.Warn("tell systemd", "state", state, "err", err)
	}
}
