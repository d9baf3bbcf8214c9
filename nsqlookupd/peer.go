package nsqlookupd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// Limits of a session.
const (
	magicTimeout   = 30 * time.Second // to send the magic
	writeTimeout   = 30 * time.Second // to take our replies
	maxLine        = 16 << 10         // bytes of a command line without its LF
	maxIdentify    = 1 << 20          // bytes of an IDENTIFY body; nsqd sends about 150
	maxPending     = 16 << 10         // bytes of replies gathered before they are written
	maxKept        = 1 << 10          // bytes of memory that an idle connection keeps for them
	readBufferSize = 2 << 10          // bytes that an idle connection keeps for them
)

// After an error reply the rest of what the client sends is read and dropped
// within these bounds: closing a socket with unread input makes the kernel
// reset the connection, and the client may lose the reply.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// A peer is one TCP connection, from the magic to its end. Everything belongs
// to the goroutine of serve.
type peer struct {
	*peerConfig
	conn    net.Conn // a *tls.Conn once the client has begun with TLS
	addr    string   // remote ip:port
	in      *bufio.Reader
	out     []byte         // replies not written yet
	log     *logging.Batch // lines not written yet
	long    []byte         // a line that did not fit into the read buffer
	words   [][]byte       // of the last line
	timeout time.Duration  // for the next read, 0 for none
	secure  bool           // TLS

	producer *producer // nil before IDENTIFY
	full     bool      // a registration was refused for a limit
}

// A peerConfig is what all peers have in common.
type peerConfig struct {
	registry      *registry
	log           *slog.Logger
	idleTimeout   time.Duration // 0: none
	identifyReply []byte        // JSON
	admission     *atomic.Pointer[admission]
	turns         turns
	counts        *counts
}

func newPeer(conn net.Conn, config *peerConfig) *peer {
	p := &peer{
		peerConfig: config,
		conn:       conn,
		addr:       conn.RemoteAddr().String(),
		log:        logging.NewBatch(config.log),
		timeout:    magicTimeout,
	}
	p.in = bufio.NewReaderSize(reader{p}, readBufferSize)
	return p
}

// reader reads from the connection of a peer. It writes the gathered replies and
// log lines before it may block: so no command is answered late, and a pipelined
// run of commands costs one write. The log comes first: whoever has read a reply
// finds the lines.
type reader struct{ p *peer }

func (r reader) Read(b []byte) (int, error) {
	r.p.log.Flush()
	r.p.turns.end()
	defer r.p.turns.begin()
	if err := r.p.write(); err != nil {
		return 0, err
	}
	var deadline time.Time
	if r.p.timeout > 0 {
		deadline = time.Now().Add(r.p.timeout)
	}
	if err := r.p.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return r.p.conn.Read(b)
}

// flush writes the gathered log lines and replies.
func (p *peer) flush() error {
	p.log.Flush()
	p.turns.end()
	defer p.turns.begin()
	return p.write()
}

// write writes the gathered replies.
func (p *peer) write() error {
	if len(p.out) == 0 {
		return nil
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := p.conn.Write(p.out)
	p.out = p.out[:0]
	if cap(p.out) > maxKept {
		p.out = nil
	}
	return err
}

// turns let only some peers work at a time: a turn ends when a peer has to wait for
// its connection. Without turns a thousand nsqds that register at once all stand in
// line for the processors, and a query behind them: it took 170 ms at the median,
// with turns 3 ms. Only those few hold log lines in memory, too.
type turns chan struct{}

func newTurns() turns { return make(turns, 2*runtime.GOMAXPROCS(0)) }

func (t turns) begin() { t <- struct{}{} }
func (t turns) end()   { <-t }

// serve talks to the peer until either side ends it, then removes what the peer
// had registered and closes the connection.
func (p *peer) serve() {
	p.turns.begin()
	p.info("TCP: new client(", p.addr, ")")
	err := p.session()
	if p.producer != nil {
		p.forget()
	}
	refusal, refused := errors.AsType[*protocol.Error](err)
	if refused {
		// Only now: whoever reads the reply finds the registrations gone.
		p.out = protocol.AppendSized(p.out, []byte(refusal.Error()))
	}
	p.log.Flush()
	p.turns.end()
	// The peer is gone or does not read; it has nothing more to expect.
	if writeErr := p.write(); writeErr == nil && refused {
		p.linger()
	}
	_ = p.conn.Close()
	p.logEnd(err)
	p.log.Flush()
}

// session reads the magic and runs commands. It returns why it ended: a
// *protocol.Error that the peer has not been told yet, or what the connection
// said, io.EOF for a regular end.
func (p *peer) session() error {
	magic, err := p.readMagic()
	if config := p.admission.Load().tls; err == nil && config != nil && isTLS(magic) {
		if err = p.startTLS(magic, config); err == nil {
			magic, err = p.readMagic()
		}
	}
	if err != nil {
		return err
	}
	p.info("CLIENT(", p.addr, "): desired protocol magic '", magic, "'")
	if magic != protocol.MagicV1 {
		p.log.Log(slog.LevelError, "client(", p.addr, ") bad protocol magic '", magic, "'")
		return &protocol.Error{Code: protocol.CodeBadProtocol, Fatal: true}
	}
	p.timeout = p.idleTimeout
	defer p.info("PROTOCOL(V1): [", p.addr, "] exiting ioloop")
	for {
		line, err := p.readLine()
		if err != nil {
			return err
		}
		p.words = protocol.SplitParams(bytes.TrimSpace(line), p.words[:0])
		reply, err := p.execute(string(p.words[0]), p.words[1:])
		if err != nil {
			p.logRefusal(err)
			return err
		}
		p.out = protocol.AppendSized(p.out, reply)
		p.long = nil
		if len(p.out) >= maxPending {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
}

// readMagic reads the first bytes, io.EOF if there are none.
func (p *peer) readMagic() (string, error) {
	var magic [4]byte
	n, err := io.ReadFull(p.in, magic[:])
	if err != nil && (n > 0 || err != io.EOF) { // io.EOF alone is a port probe
		return "", fmt.Errorf("failed to read protocol version - %w", err)
	}
	return string(magic[:]), err
}

// readLine returns the next line, with its LF, valid until the next read.
func (p *peer) readLine() ([]byte, error) {
	line, err := p.in.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	p.long = slices.Clone(line)
	for err == bufio.ErrBufferFull {
		line, err = p.in.ReadSlice('\n')
		p.long = append(p.long, line...)
		if len(p.long) > maxLine+1 {
			refusal := invalid("command line exceeds " + strconv.Itoa(maxLine) + " bytes")
			p.logRefusal(refusal)
			return nil, refusal
		}
	}
	return p.long, err
}

// linger gives the peer time to read its last reply, see lingerTime.
func (p *peer) linger() {
	half, ok := p.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || p.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	// Ends when the peer closes, sends too much, or takes too long.
	_, _ = io.CopyN(io.Discard, p.conn, lingerBytes)
}

// logEnd logs the end of the session, unless it has been logged as a refusal.
func (p *peer) logEnd(err error) {
	line := "client(" + p.addr + ") - "
	_, refused := errors.AsType[*protocol.Error](err)
	switch {
	case refused:
	case errors.Is(err, net.ErrClosed): // our own shutdown
	case err == io.EOF:
		p.info(line, "EOF")
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.log.Log(slog.LevelWarn, line, "silent for too long: ", err.Error())
	default:
		p.log.Log(slog.LevelError, line, err.Error())
	}
}

func (p *peer) logRefusal(err error) {
	line := "[" + p.addr + "] - " + err.Error()
	if cause := errors.Unwrap(err); cause != nil {
		line += " - " + cause.Error()
	}
	p.log.Log(slog.LevelError, line)
}

// info logs the joined parts.
func (p *peer) info(parts ...string) { p.log.Log(slog.LevelInfo, parts...) }
