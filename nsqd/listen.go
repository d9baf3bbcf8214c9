package nsqd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// network is "unix" for an address that is not host:port.
func network(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "unix"
	}
	return "tcp"
}

// listen opens one listener. That of a Unix socket removes the file when it is
// closed. A file that is there already is replaced if it is a socket that nobody
// listens on, as a crash leaves behind; else it is an error.
func listen(network, addr string) (net.Listener, error) {
	l, err := net.Listen(network, addr)
	if err != nil && network == "unix" && errors.Is(err, syscall.EADDRINUSE) && abandoned(addr) {
		if e := os.Remove(addr); e != nil {
			return nil, fmt.Errorf("listen (%s) failed - %w", addr, errors.Join(err, e))
		}
		l, err = net.Listen(network, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen (%s) failed - %w", addr, err)
	}
	return l, nil
}

// abandoned reports whether the file is a Unix socket that refuses connections.
// One whose process is only busy makes them wait.
func abandoned(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close() // it was opened to see whether it can be
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
