package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/nsq-suite/nsq/bench/internal/load"
	"github.com/nsq-suite/nsq/internal/tool"
)

// isReady is the line that a disturber writes when what it makes is there.
const isReady = "ready\n"

// unbounded is a share of CPUs that nothing reaches.
const unbounded = 1e9

// A disturber is this program as a process of its own, which makes a disturbance.
type disturber struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
}

// startDisturber starts a disturber and waits until it is ready.
func (o *options) startDisturber(ctx context.Context, d disturbance, n *load.NSQD, p place) (*disturber, error) {
	share := o.Share
	if p == full {
		share = unbounded
	}
	x := &disturber{cmd: exec.CommandContext(ctx, o.self, "--disturb="+d.name, "--nsqd-tcp-address="+n.TCPAddr,
		"--nsqd-http-address="+n.HTTPAddr, fmt.Sprint("--nsqd-pid=", n.PID), fmt.Sprint("--share=", share), fmt.Sprint("--scale=", o.Scale))}
	x.cmd.Stderr = &x.stderr
	stdin, err := x.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	x.stdin = stdin
	stdout, err := x.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := x.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start what disturbs: %w", err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != isReady {
		return nil, errors.Join(fmt.Errorf("it is not ready: %w", err), x.stop())
	}
	return x, nil
}

// stop ends the disturbance and returns what went wrong with it.
func (x *disturber) stop() error {
	_ = x.stdin.Close() // it has ended already if that fails, which Wait tells
	if err := x.cmd.Wait(); err != nil {
		return fmt.Errorf("disturb: %w: %s", err, strings.TrimSpace(x.stderr.String()))
	}
	return nil
}

// disturb makes the disturbance until stdin or ctx ends.
func (o *options) disturb(ctx context.Context, env *tool.Env) error {
	s := &site{NSQD: load.Connect(o.TCPAddr, o.HTTPAddr, o.PID), scale: o.Scale}
	s.ctx, s.fail = context.WithCancelCause(ctx)
	turn, err := o.disturbances[0].start(s)
	if err == nil {
		_, err = io.WriteString(env.Stdout, isReady)
	}
	if err == nil && turn != nil {
		s.background(func() error { return s.repeat(turn, o.Share) })
	}
	if err == nil {
		ended := make(chan struct{})
		go func() { // ends with stdin, or with the process
			_, _ = io.Copy(io.Discard, env.Stdin)
			close(ended)
		}()
		select {
		case <-ended:
		case <-s.ctx.Done():
			if ctx.Err() == nil {
				err = context.Cause(s.ctx)
			}
		}
	}
	s.fail(nil)
	return errors.Join(err, s.work.Wait())
}
