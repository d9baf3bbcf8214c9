package nsqlookupd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// Limits of a session.
const (
	magicTimeout   = 30 * time.Second // to send the magic
	writeTimeout   = 30 * time.Second // to take our replies
	maxLine        = 16 << 10         // bytes of a command line without its LF
	maxIdentify    = 1 << 20          // bytes of an IDENTIFY body; nsqd sends about 150
	maxPending     = 16 << 10         // bytes of replies gathered before they are written
	readBufferSize = 4 << 10
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
	peerConfig
	conn    net.Conn
	addr    string // remote ip:port
	in      *bufio.Reader
	out     []byte        // replies not written yet
	long    []byte        // a line that did not fit into the read buffer
	words   [][]byte      // of the last line
	timeout time.Duration // for the next read, 0 for none

	producer *producer // nil before IDENTIFY
}

// A peerConfig is what all peers have in common.
type peerConfig struct {
	registry      *registry
	log           *slog.Logger
	idleTimeout   time.Duration // 0: none
	identifyReply []byte        // JSON
}

func newPeer(conn net.Conn, config peerConfig) *peer {
	p := &peer{peerConfig: config, conn: conn, addr: conn.RemoteAddr().String(), timeout: magicTimeout}
	p.in = bufio.NewReaderSize(reader{p}, readBufferSize)
	return p
}

// reader reads from the connection of a peer. It writes the gathered replies
// before it may block: so no command is answered late, and a pipelined run of
// commands costs one write.
type reader struct{ p *peer }

func (r reader) Read(b []byte) (int, error) {
	if err := r.p.flush(); err != nil {
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

// flush writes the gathered replies.
func (p *peer) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := p.conn.Write(p.out)
	p.out = p.out[:0]
	return err
}

// serve talks to the peer until either side ends it, then removes what the peer
// had registered and closes the connection.
func (p *peer) serve() {
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
	// The peer is gone or does not read; it has nothing more to expect.
	if flushErr := p.flush(); flushErr == nil && refused {
		p.linger()
	}
	_ = p.conn.Close()
	p.logEnd(err)
}

// session reads the magic and runs commands. It returns why it ended: a
// *protocol.Error that the peer has not been told yet, or what the connection
// said, io.EOF for a regular end.
func (p *peer) session() error {
	var magic [4]byte
	if n, err := io.ReadFull(p.in, magic[:]); err != nil {
		if n == 0 && err == io.EOF {
			return err // a port probe
		}
		return fmt.Errorf("failed to read protocol version - %w", err)
	}
	p.info("CLIENT(", p.addr, "): desired protocol magic '", string(magic[:]), "'")
	if string(magic[:]) != protocol.MagicV1 {
		p.log.Error("client(" + p.addr + ") bad protocol magic '" + string(magic[:]) + "'")
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
		if len(p.out) >= maxPending {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
}

// readLine returns the next line, with its LF, valid until the next read.
func (p *peer) readLine() ([]byte, error) {
	line, err := p.in.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	p.long = append(p.long[:0], line...)
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

var ok = []byte("OK")

// execute runs one command and returns its reply. Every error is fatal to the
// session.
func (p *peer) execute(command string, params [][]byte) (reply []byte, err error) {
	switch command {
	case "PING":
		p.ping()
		return ok, nil
	case "IDENTIFY":
		return p.identify()
	case "REGISTER":
		topicName, channelName, err := p.names(command, params)
		if err != nil {
			return nil, err
		}
		p.register(topicName, channelName)
		return ok, nil
	case "UNREGISTER":
		topicName, channelName, err := p.names(command, params)
		if err != nil {
			return nil, err
		}
		p.unregister(topicName, channelName)
		return ok, nil
	}
	return nil, invalid("invalid command " + command)
}

// ping answers before IDENTIFY too; after it, it is the sign of life that keeps
// the producer listed.
func (p *peer) ping() {
	if p.producer == nil {
		return
	}
	now := time.Now().UnixNano()
	last := p.producer.lastUpdate.Swap(now)
	if p.log.Enabled(context.Background(), slog.LevelInfo) {
		p.info("CLIENT(", p.addr, "): pinged (last ping ", time.Duration(now-last).String(), ")")
	}
}

func (p *peer) identify() ([]byte, error) {
	if p.producer != nil {
		return nil, invalid("cannot IDENTIFY again")
	}
	body, err := p.readBody()
	if err != nil {
		return nil, err
	}
	who, err := decodeIdentity(body)
	if err != nil {
		return nil, err
	}
	p.producer = newProducer(p.addr, who, time.Now().UnixNano())
	p.info("CLIENT(", p.addr, "): IDENTIFY Address:", who.BroadcastAddress, " TCP:", strconv.Itoa(who.TCPPort),
		" HTTP:", strconv.Itoa(who.HTTPPort), " Version:", who.Version)
	p.registry.add(p.producer)
	p.logDB("REGISTER", "client", "", "")
	return p.identifyReply, nil
}

func (p *peer) readBody() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(p.in, size[:]); err != nil {
		return nil, badBody("failed to read body size", err)
	}
	n := int32(binary.BigEndian.Uint32(size[:]))
	if n > maxIdentify {
		return nil, badBody(fmt.Sprintf("body too big %d > %d", n, maxIdentify), nil)
	}
	if n < 0 { // upstream's daemon dies of it
		return nil, badBody("failed to decode JSON body", protocol.ErrNegativeSize)
	}
	body, err := protocol.ReadBody(p.in, int(n))
	if err != nil {
		return nil, badBody("failed to read body", err)
	}
	return body, nil
}

// decodeIdentity reads the body of IDENTIFY and checks that it says enough.
func decodeIdentity(body []byte) (identity, error) {
	var who identity
	if err := json.Unmarshal(body, &who); err != nil {
		return identity{}, badBody("failed to decode JSON body", err)
	}
	if who.BroadcastAddress == "" || who.TCPPort == 0 || who.HTTPPort == 0 || who.Version == "" {
		return identity{}, badBody("missing fields", nil)
	}
	return who, nil
}

// names checks the parameters of REGISTER and UNREGISTER. The channel is ""
// where there is none.
func (p *peer) names(command string, params [][]byte) (topicName, channelName string, err error) {
	if p.producer == nil {
		return "", "", invalid("client must IDENTIFY")
	}
	if len(params) == 0 {
		return "", "", invalid(command + " insufficient number of params")
	}
	topicName = string(params[0])
	if len(params) > 1 {
		channelName = string(params[1])
	}
	if !protocol.IsValidTopicName(topicName) {
		return "", "", &protocol.Error{Code: protocol.CodeBadTopic, Fatal: true,
			Desc: command + " topic name '" + topicName + "' is not valid"}
	}
	if channelName != "" && !protocol.IsValidChannelName(channelName) {
		return "", "", &protocol.Error{Code: protocol.CodeBadChannel, Fatal: true,
			Desc: command + " channel name '" + channelName + "' is not valid"}
	}
	return topicName, channelName, nil
}

func (p *peer) register(topicName, channelName string) {
	newInTopic, newInChannel := p.registry.register(p.producer, topicName, channelName)
	if newInChannel {
		p.logDB("REGISTER", "channel", topicName, channelName)
	}
	if newInTopic {
		p.logDB("REGISTER", "topic", topicName, "")
	}
}

func (p *peer) unregister(topicName, channelName string) {
	if channelName != "" {
		if p.registry.unregisterChannel(p.producer, topicName, channelName) {
			p.logDB("UNREGISTER", "channel", topicName, channelName)
		}
		return
	}
	channels, wasInTopic := p.registry.unregisterTopic(p.producer, topicName)
	for _, name := range channels {
		p.log.Warn("client(" + p.addr + ") unexpected UNREGISTER category:channel key:" + topicName + " subkey:" + name)
	}
	if wasInTopic {
		p.logDB("UNREGISTER", "topic", topicName, "")
	}
}

// forget removes the producer with all its registrations.
func (p *peer) forget() {
	var log func(topicName, channelName string)
	if p.log.Enabled(context.Background(), slog.LevelInfo) {
		log = func(topicName, channelName string) {
			category := "topic"
			if channelName != "" {
				category = "channel"
			}
			p.logDB("UNREGISTER", category, topicName, channelName)
		}
	}
	p.registry.disconnect(p.producer, log)
	p.logDB("UNREGISTER", "client", "", "")
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
		p.log.Warn(line + "silent for too long: " + err.Error())
	default:
		p.log.Error(line + err.Error())
	}
}

func (p *peer) logRefusal(err error) {
	line := "[" + p.addr + "] - " + err.Error()
	if cause := errors.Unwrap(err); cause != nil {
		line += " - " + cause.Error()
	}
	p.log.Error(line)
}

func (p *peer) logDB(what, category, topicName, channelName string) {
	p.info("DB: client(", p.addr, ") ", what, " category:", category, " key:", topicName, " subkey:", channelName)
}

// info logs the joined parts. They are joined only if the line is printed: at a
// million registrations that is the larger part of the work.
func (p *peer) info(parts ...string) {
	ctx := context.Background()
	if p.log.Enabled(ctx, slog.LevelInfo) {
		p.log.LogAttrs(ctx, slog.LevelInfo, strings.Join(parts, ""))
	}
}

func invalid(desc string) error {
	return &protocol.Error{Code: protocol.CodeInvalid, Desc: desc, Fatal: true}
}

func badBody(desc string, cause error) error {
	return &protocol.Error{Code: protocol.CodeBadBody, Desc: "IDENTIFY " + desc, Fatal: true, Err: cause}
}
