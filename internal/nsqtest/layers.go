package nsqtest

import (
	"compress/flate"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/golang/snappy"
)

// Layer puts TLS or a compression between the Conn and what it speaks over now.
// What has been read ahead is the first the new layer reads.
func (c *Conn) Layer(wrap func(net.Conn) io.ReadWriter) *Conn {
	layer := wrap(below{c.socket, c.r, c.w})
	c.use(layer)
	return c
}

// below is what a new layer speaks over: part of its input may be in a buffer
// already.
type below struct {
	net.Conn
	r io.Reader
	w io.Writer
}

func (b below) Read(p []byte) (int, error)  { return b.r.Read(p) }
func (b below) Write(p []byte) (int, error) { return b.w.Write(p) }

// StartTLS makes a TLS handshake, which IDENTIFY has agreed on, and reads the OK
// behind it.
func (c *Conn) StartTLS(config *tls.Config) *Conn {
	c.t.Helper()
	if err := c.Handshake(config); err != nil {
		c.t.Fatalf("TLS handshake: %v", err)
	}
	return c.ExpectOK()
}

// Handshake makes a TLS handshake and returns why it failed. With TLS 1.3 a server
// that refuses the client's certificate shows in the first read.
func (c *Conn) Handshake(config *tls.Config) error {
	if err := c.socket.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	conn := tls.Client(below{c.socket, c.r, c.w}, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.use(conn)
	return nil
}

// StartSnappy compresses what follows, which IDENTIFY has agreed on, and reads the
// OK behind it.
func (c *Conn) StartSnappy() *Conn {
	c.t.Helper()
	return c.Layer(Snappy).ExpectOK()
}

// StartDeflate is StartSnappy for deflate.
func (c *Conn) StartDeflate() *Conn {
	c.t.Helper()
	return c.Layer(Deflate).ExpectOK()
}

// Snappy is a layer for [Conn.Layer]: the snappy framing format, each write a
// chunk or more.
func Snappy(conn net.Conn) io.ReadWriter {
	return compressed{snappy.NewReader(conn), snappy.NewBufferedWriter(conn)}
}

// Deflate is a layer for [Conn.Layer]: raw DEFLATE, flushed after each write. It is
// the standard library's, which nsqd does not use.
func Deflate(conn net.Conn) io.ReadWriter {
	w, err := flate.NewWriter(conn, flate.DefaultCompression)
	if err != nil {
		panic(err) // there is such a level
	}
	return compressed{flate.NewReader(conn), w}
}

// compressed is a compression in both directions.
type compressed struct {
	r io.Reader
	w interface {
		io.Writer
		Flush() error
	}
}

// Read takes the end of the connection for the end of the stream: nsqd does not
// end a DEFLATE stream.
func (c compressed) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

func (c compressed) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	return n, errors.Join(err, c.w.Flush())
}

// SkipMagic leaves out the magic at the beginning of what is sent from here on: it
// has been sent before the layers came.
func (c *Conn) SkipMagic() *Conn {
	c.w = &skipMagic{c.w, len(MagicV2)}
	return c
}

type skipMagic struct {
	io.Writer
	left int
}

func (s *skipMagic) Write(p []byte) (int, error) {
	n := min(s.left, len(p))
	s.left -= n
	if n == len(p) {
		return n, nil
	}
	m, err := s.Writer.Write(p[n:])
	return n + m, err
}
