package nsqtest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// pipeBuffer is how many bytes a [Pipe] takes, each way, before a write waits
// for the reader: as a socket, unlike [net.Pipe].
const pipeBuffer = 64 << 10

var pipePorts atomic.Int64

// Pipe returns two ends of a connection in memory. It behaves as a TCP
// connection: writes are buffered, a closed end lets the other read what was
// written before, each direction can be closed alone (CloseWrite), deadlines
// work. Every wait in it is on Go channels, so in a synctest bubble the clock
// moves on while both sides wait.
func Pipe() (client, server net.Conn) {
	there, back := newHalf(), newHalf()
	clientAddr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(1024 + pipePorts.Add(1)%60000)}
	serverAddr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4150}
	return &pipeEnd{in: back, out: there, local: clientAddr, remote: serverAddr},
		&pipeEnd{in: there, out: back, local: serverAddr, remote: clientAddr}
}

// A half is one direction of a pipe.
type half struct {
	mu      sync.Mutex // guards all below
	buf     []byte
	ended   bool          // the writer closed: io.EOF after buf
	refused bool          // the reader closed: writes fail
	changed chan struct{} // closed and replaced at every change
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

func (h *half) changeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *half) read(b []byte, expired <-chan struct{}) (int, error) {
	for {
		if isClosed(expired) {
			return 0, os.ErrDeadlineExceeded
		}
		h.mu.Lock()
		if h.refused {
			h.mu.Unlock()
			return 0, net.ErrClosed
		}
		if len(h.buf) > 0 || len(b) == 0 {
			n := copy(b, h.buf)
			h.buf = h.buf[n:]
			h.changeLocked()
			h.mu.Unlock()
			return n, nil
		}
		ended, changed := h.ended, h.changed
		h.mu.Unlock()
		if ended {
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

var errPipeBroken = errors.New("pipe: the other end is closed")

func (h *half) write(b []byte, expired <-chan struct{}) (int, error) {
	written := 0
	for {
		if isClosed(expired) {
			return written, os.ErrDeadlineExceeded
		}
		h.mu.Lock()
		if h.ended || h.refused {
			ended := h.ended
			h.mu.Unlock()
			if ended {
				return written, net.ErrClosed
			}
			return written, errPipeBroken
		}
		if n := min(len(b), pipeBuffer-len(h.buf)); n > 0 {
			h.buf = append(h.buf, b[:n]...)
			b, written = b[n:], written+n
			h.changeLocked()
		}
		changed := h.changed
		h.mu.Unlock()
		if len(b) == 0 {
			return written, nil
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (h *half) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.changeLocked()
}

func (h *half) refuse() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = true
	h.buf = nil
	h.changeLocked()
}

// A pipeEnd is one end of a pipe, a [net.Conn].
type pipeEnd struct {
	in, out                     *half
	local, remote               net.Addr
	readDeadline, writeDeadline alarm
}

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b, p.readDeadline.expired()) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b, p.writeDeadline.expired()) }

// CloseWrite lets the other end read what was written and then [io.EOF].
func (p *pipeEnd) CloseWrite() error {
	p.out.end()
	return nil
}

func (p *pipeEnd) Close() error {
	p.out.end()
	p.in.refuse()
	p.readDeadline.set(time.Time{})
	p.writeDeadline.set(time.Time{})
	return nil
}

func (p *pipeEnd) LocalAddr() net.Addr  { return p.local }
func (p *pipeEnd) RemoteAddr() net.Addr { return p.remote }

func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.readDeadline.set(t)
	p.writeDeadline.set(t)
	return nil
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.readDeadline.set(t)
	return nil
}

func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.writeDeadline.set(t)
	return nil
}

// An alarm is a deadline that can be set and moved while a read or write waits,
// as [net.Conn] promises.
type alarm struct {
	mu    sync.Mutex // guards timer and rang
	timer *time.Timer
	rang  chan struct{} // closed at the deadline
}

func (a *alarm) expired() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rangLocked()
}

func (a *alarm) rangLocked() chan struct{} {
	if a.rang == nil {
		a.rang = make(chan struct{})
	}
	return a.rang
}

func (a *alarm) set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil && !a.timer.Stop() {
		a.rang = nil // it has rung, or is about to, for the old deadline
	}
	a.timer = nil
	if t.IsZero() {
		return
	}
	rang := a.rangLocked()
	a.timer = time.AfterFunc(time.Until(t), func() { close(rang) })
}

// A Network is a listener in memory, for servers that take a [net.Listener].
type Network struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewNetwork returns a listener that [Network.Dial] connects to.
func NewNetwork() *Network {
	return &Network{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial returns the client's end of a new connection, once it is accepted.
func (n *Network) Dial() (net.Conn, error) {
	client, server := Pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Accept returns the server's end of the next connection.
func (n *Network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.conns:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial; connections stay open.
func (n *Network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr returns a loopback address, which means nothing.
func (n *Network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4150} }
