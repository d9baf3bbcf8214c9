package nsq

import (
	"bufio"
	"compress/flate"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
)

// connBufferSize is the size of the read buffer and of the write buffer of a
// connection: enough for a burst of ordinary messages in one system call.
const connBufferSize = 64 << 10

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

// timedConn is a socket on which every read and write has a deadline.
//
// To set a deadline costs nearly as much as a small read, so it is set a 32nd
// later than asked and stays while at least the time asked for is left.
type timedConn struct {
	net.Conn

	// Used by the goroutine that reads: Connect, then the read loop.
	readTimeout time.Duration // 0 for none
	readUntil   time.Time

	// Used under Conn.writeMu, or under the lock of the TLS layer above.
	writeTimeout time.Duration
	writeUntil   time.Time

	readStopped atomic.Bool // no read is to wait any more
}

// Read reads within readTimeout.
func (t *timedConn) Read(p []byte) (int, error) {
	if t.readTimeout > 0 {
		if now := time.Now(); t.readUntil.Sub(now) < t.readTimeout {
			t.readUntil = now.Add(t.readTimeout + t.readTimeout/32)
			if err := t.setReadDeadline(t.readUntil); err != nil {
				return 0, err
			}
		}
	}
	return t.Conn.Read(p)
}

// Write writes within writeTimeout.
func (t *timedConn) Write(p []byte) (int, error) {
	if now := time.Now(); t.writeUntil.Sub(now) < t.writeTimeout {
		t.writeUntil = now.Add(t.writeTimeout + t.writeTimeout/32)
		if err := t.SetWriteDeadline(t.writeUntil); err != nil {
			return 0, err
		}
	}
	return t.Conn.Write(p)
}

// setReadDeadline sets the deadline unless stopReading was called, before or
// meanwhile.
func (t *timedConn) setReadDeadline(at time.Time) error {
	if err := t.SetReadDeadline(at); err != nil {
		return err
	}
	if t.readStopped.Load() {
		return t.SetReadDeadline(past)
	}
	return nil
}

// setReadTimeout changes readTimeout; 0 is none. Only for the goroutine that
// reads.
func (t *timedConn) setReadTimeout(d time.Duration) error {
	t.readTimeout, t.readUntil = d, time.Time{}
	return t.setReadDeadline(time.Time{})
}

// stopReading ends a read that waits and all later ones. The socket stays
// open: shutting down its read side would make the system answer what still
// arrives with a reset, and nsqd could lose our last commands.
func (t *timedConn) stopReading() error {
	t.readStopped.Store(true)
	return t.SetReadDeadline(past)
}

// drain reads and discards what arrives until the peer closes or d is over.
func (t *timedConn) drain(d time.Duration) {
	_ = t.SetReadDeadline(time.Now().Add(d)) // fails only for a closed socket, and so does Copy
	_, _ = io.Copy(io.Discard, t.Conn)
}

// A stream is the layers over a socket: TLS, then a compression. Neither reads
// more of the bytes below than belong to its own layer, unless it is the last.
type stream struct {
	io.Reader
	io.Writer

	tls      *tls.Conn // nil without TLS
	flushers []flusher // outermost first
}

type flusher interface{ Flush() error }

// Flush sends what the compression holds back.
func (s *stream) Flush() error {
	for _, f := range s.flushers {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// addTLS puts TLS over the stream. The handshake is done.
func (s *stream) addTLS(conn *tls.Conn) {
	s.Reader, s.Writer, s.tls = conn, conn, conn
}

// addDeflate puts raw DEFLATE over the stream, writing at level. Its writer
// makes many small writes, hence the buffer below it.
func (s *stream) addDeflate(level int) error {
	buffer := bufio.NewWriterSize(s.Writer, connBufferSize)
	w, err := flate.NewWriter(buffer, level)
	if err != nil {
		return err
	}
	s.Reader = flate.NewReader(bufio.NewReaderSize(s.Reader, connBufferSize))
	s.Writer = w
	s.flushers = []flusher{w, buffer}
	return nil
}

// addSnappy puts framed Snappy over the stream.
func (s *stream) addSnappy() {
	buffer := bufio.NewWriterSize(s.Writer, connBufferSize)
	w := snappy.NewBufferedWriter(buffer)
	s.Reader = snappy.NewReader(bufio.NewReaderSize(s.Reader, connBufferSize))
	s.Writer = w
	s.flushers = []flusher{w, buffer}
}

// closeWrite ends our side of the stream: close_notify, then the socket's
// write side.
func (s *stream) closeWrite(socket net.Conn) {
	if s.tls != nil {
		_ = s.tls.CloseWrite() // the peer may have gone; the socket is closed next
	}
	if half, ok := socket.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
