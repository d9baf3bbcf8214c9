package nsqd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// handshakeTimeout is how long a whole TLS handshake may take. Source: TCP
// protocol spec, "TLS and compression".
const handshakeTimeout = 5 * time.Second

// layers say what lies between a client's frames and its socket: TLS, and a
// compression inside it. A new one replaces the old one whole.
type layers struct {
	tls             *tlsLayer // nil for none
	snappy, deflate bool
}

// tlsLayer is TLS with one client.
type tlsLayer struct {
	conn       *tls.Conn
	version    uint16
	cipher     uint16
	protocol   string // by ALPN
	commonName string // of the client's certificate; "" for none
}

// stats fills in what /stats tells of the layers. Source for what counts as mutual:
// nsqd HTTP API, /stats.
func (l *layers) stats(s *clientStats) {
	s.Snappy, s.Deflate = l.snappy, l.deflate
	if t := l.tls; t != nil {
		s.TLS, s.TLSMutual = true, true
		s.TLSCipherSuite, s.TLSVersion, s.TLSProtocol = cipherName(t.cipher), versionName(t.version), t.protocol
	}
}

// An upgrade is what IDENTIFY agreed to add to the layers.
type upgrade struct {
	tls             bool
	snappy, deflate bool
	level           int // of deflate
}

func (u upgrade) any() bool { return u.tls || u.snappy || u.deflate }

// negotiate picks what is asked for, offered here and not there yet. Layers are
// never stacked twice: asking again for what is there gets false and changes
// nothing. TLS cannot come to lie outside a compression that is there.
func (c *conn) negotiate(req *identifyRequest, opts *Options) (upgrade, error) {
	if req.Deflate && opts.Deflate && req.Snappy && opts.Snappy {
		return upgrade{}, fatalError(protocol.CodeIdentifyFailed, "cannot enable both deflate and snappy compression", nil)
	}
	now := c.layers.Load()
	compressed := now.snappy || now.deflate
	u := upgrade{
		tls:     req.TLSv1 && c.svc.tls != nil && now.tls == nil && !compressed,
		snappy:  req.Snappy && opts.Snappy && !compressed,
		deflate: req.Deflate && opts.Deflate && !compressed,
		level:   defaultDeflateLevel,
	}
	if u.deflate && req.DeflateLevel > 0 {
		u.level = req.DeflateLevel
	}
	u.level = min(u.level, opts.MaxDeflateLevel)
	return u, nil
}

// upgrade sends the answer to IDENTIFY and adds the layers, each of which begins
// with OK through it. Nothing else is sent meanwhile: a heartbeat between them
// would be plaintext in the client's handshake. Source for the order: TCP protocol
// spec, IDENTIFY.
func (c *conn) upgrade(answer string, u upgrade) error {
	o := c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.respondLocked(answer); err != nil {
		return err
	}
	now := *c.layers.Load()
	below := c.belowLayers()
	if u.tls {
		layer, err := c.handshakeLocked()
		if err != nil {
			return fatalError(protocol.CodeIdentifyFailed, fmt.Sprintf("IDENTIFY failed %s", err), err)
		}
		now.tls, c.mustTLS = layer, false
		below, o.w = layer.conn, layer.conn
		if err := o.respondLocked("OK"); err != nil {
			return err
		}
	}
	c.in.use(below, c.endRuns)
	c.wire.beforeRead = c.beforeWait
	now.snappy, now.deflate = now.snappy || u.snappy, now.deflate || u.deflate
	c.layers.Store(&now)
	if !u.snappy && !u.deflate {
		return nil
	}
	if err := c.compressLocked(below, u); err != nil {
		return fatalError(protocol.CodeIdentifyFailed, fmt.Sprintf("IDENTIFY failed %s", err), err)
	}
	return o.respondLocked("OK")
}

// belowLayers returns a reader of all that the client sends from here on, what has
// been read ahead included.
func (c *conn) belowLayers() io.Reader {
	rest := c.in.takeOver()
	if c.wire != nil {
		return rest // it ends in the wire
	}
	c.wire = &wire{Conn: c.Conn, r: rest}
	return c.wire
}

// compressLocked adds a compression over what is below. The caller holds out.mu.
func (c *conn) compressLocked(below io.Reader, u upgrade) error {
	o := c.out
	if u.snappy {
		c.decompressor = newSnappyReader(below)
		o.compressor = newSnappyWriter(o.w)
	} else {
		r, err := newDeflateReader(below)
		if err != nil {
			return err
		}
		c.decompressor = r
		o.compressor = newDeflateWriter(o.w, u.level)
	}
	o.w = o.compressor
	c.in.use(c.decompressor, c.endRuns)
	return nil
}

// handshakeLocked adds TLS over the wire. The caller holds out.mu, and with it
// keeps the messagePump from writing in between.
func (c *conn) handshakeLocked() (*tlsLayer, error) {
	deadline := time.Now().Add(handshakeTimeout)
	if err := c.setReadDeadline(deadline); err != nil {
		return nil, err
	}
	if err := c.out.setDeadlineLocked(deadline); err != nil {
		return nil, err
	}
	t := tls.Server(c.wire, c.svc.tls)
	failed := t.Handshake()
	// What was set before the handshake is not known any more: the next read and
	// the next write set what they need.
	c.readDeadline = time.Time{}
	err := errors.Join(c.setReadDeadline(time.Time{}), c.out.setDeadlineLocked(time.Time{}))
	if failed != nil {
		return nil, failed
	}
	state := t.ConnectionState()
	layer := &tlsLayer{conn: t, version: state.Version, cipher: state.CipherSuite, protocol: state.NegotiatedProtocol}
	if certs := state.PeerCertificates; len(certs) > 0 {
		layer.commonName = certs[0].Subject.CommonName
	}
	return layer, err
}

// A wire is the socket below a client's layers. Once there are layers, only here
// can be seen that all that has arrived is used up: layers above hold some of it
// back.
type wire struct {
	net.Conn
	r          io.Reader    // of Conn, after what had been read ahead
	beforeRead func() error // nil during a handshake
}

func (w *wire) Read(p []byte) (int, error) {
	if w.beforeRead != nil {
		if err := w.beforeRead(); err != nil {
			return 0, err
		}
	}
	return w.r.Read(p)
}

// SetWriteDeadline does nothing: deadlines are set on the socket by output and
// conn. The TLS layer would allow itself 5 s for its last words.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
