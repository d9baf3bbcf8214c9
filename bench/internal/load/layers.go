package load

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/flate"
)

// Layers that a client may ask for, one of them, in what it passes to [NSQD.Dial].
// nsqd must have been started with a certificate for the first; nobody checks whose it
// is.
//
// A consumer behind a compression must not share its messages with another: it could
// not be stopped while it waits (see [Conn.Consume]), for a stream that has been
// interrupted is lost.
var (
	OverTLS     = Identify{"tls_v1": true}
	OverSnappy  = Identify{"snappy": true}
	OverDeflate = Identify{"deflate": true}
)

// addLayer puts what identify asks for, and nsqd has agreed to, over the socket. nsqd
// answers OK through it.
func (c *Conn) addLayer(identify Identify) error {
	lower := below{c.socket, c.in}
	switch {
	case identify["tls_v1"] == true:
		c.socket = tls.Client(lower, &tls.Config{InsecureSkipVerify: true})
	case identify["snappy"] == true:
		c.socket = compressed{lower, snappy.NewReader(lower), snappy.NewBufferedWriter(lower)}
	case identify["deflate"] == true:
		w, err := flate.NewWriter(lower, flate.BestSpeed)
		if err != nil {
			return fmt.Errorf("make a compressor: %w", err)
		}
		c.socket = compressed{lower, flate.NewReader(lower), w}
	default:
		return nil
	}
	c.in = bufio.NewReaderSize(c.socket, idleBuffer)
	_, _, err := c.ReadFrame()
	return err
}

// below is what a layer speaks over: part of what has come may be in a buffer already.
type below struct {
	net.Conn
	in io.Reader
}

func (b below) Read(p []byte) (int, error) { return b.in.Read(p) }

// compressed is a socket with a compression over it.
type compressed struct {
	net.Conn
	r io.Reader
	w interface {
		io.Writer
		Flush() error
	}
}

func (c compressed) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c compressed) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err == nil {
		err = c.w.Flush()
	}
	return n, err
}

// SetReadDeadline does nothing: a stream that has been interrupted cannot go on.
func (c compressed) SetReadDeadline(time.Time) error { return nil }
