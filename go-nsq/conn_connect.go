package nsq

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// handshakeTimeout limits the TLS handshake; nsqd's own limit is the same.
const handshakeTimeout = 5 * time.Second

// IdentifyResponse is what we use of nsqd's answer to IDENTIFY.
type IdentifyResponse struct {
	MaxRdyCount  int64 `json:"max_rdy_count"` // largest RDY value accepted
	TLSv1        bool  `json:"tls_v1"`        // a TLS handshake follows
	Deflate      bool  `json:"deflate"`       // DEFLATE follows
	Snappy       bool  `json:"snappy"`        // Snappy follows
	AuthRequired bool  `json:"auth_required"` // AUTH must follow
}

// AuthResponse is nsqd's answer to AUTH.
type AuthResponse struct {
	Identity        string `json:"identity"`
	IdentityUrl     string `json:"identity_url"`
	PermissionCount int64  `json:"permission_count"`
}

// identifyAnswer is IdentifyResponse with what only the Conn looks at.
type identifyAnswer struct {
	IdentifyResponse
	MsgTimeoutMs int64 `json:"msg_timeout"`
}

// Connect dials, negotiates (IDENTIFY, TLS, compression, AUTH) and starts the
// loops. It returns nsqd's answer to IDENTIFY, nil if that was a plain OK.
// A failed dial returns the error of net.Dialer, a failed negotiation
// ErrIdentify. After an error the caller must call Close.
func (c *Conn) Connect() (*IdentifyResponse, error) {
	return c.ConnectWithContext(context.Background())
}

// ConnectWithContext is Connect, given up with the error of ctx when that ends.
func (c *Conn) ConnectWithContext(ctx context.Context) (*IdentifyResponse, error) {
	answer, err := c.connect(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return answer, err
}

func (c *Conn) connect(ctx context.Context) (*IdentifyResponse, error) {
	socket, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() }) // ends the handshake
	answer, err := c.handshake(socket)
	if !stop() || err != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	return answer, c.start()
}

// handshake negotiates. The caller starts the loops.
func (c *Conn) handshake(socket *timedConn) (*IdentifyResponse, error) {
	c.setStream(stream{Reader: socket, Writer: socket})
	if err := c.writeMagic(); err != nil {
		return nil, fmt.Errorf("[%s] failed to write magic - %w", c.addr, err)
	}
	answer, err := c.identify()
	if err != nil {
		return nil, err
	}
	c.in = bufio.NewReaderSize(c.stream.Reader, connBufferSize)
	if answer != nil && answer.AuthRequired {
		if err := c.authenticate(); err != nil {
			return nil, err
		}
	}
	if c.config.HeartbeatInterval < 0 {
		// Without heartbeats silence means nothing.
		if err := socket.setReadTimeout(0); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// dial connects the socket. The end of ctx and Close end it.
func (c *Conn) dial(ctx context.Context) (*timedConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	c.lifeMu.Lock()
	if c.closing.Load() {
		c.lifeMu.Unlock()
		return nil, ErrClosing
	}
	c.cancelDial = cancel
	c.lifeMu.Unlock()

	socket, err := c.dialer().DialContext(ctx, "tcp", c.addr)

	c.lifeMu.Lock()
	defer c.lifeMu.Unlock()
	c.cancelDial = nil
	if err != nil {
		return nil, err
	}
	c.conn = &timedConn{
		Conn:         socket,
		readTimeout:  c.config.ReadTimeout,
		writeTimeout: c.config.WriteTimeout,
	}
	if c.closing.Load() {
		_ = c.conn.Close() // it never carried anything
		return nil, ErrClosing
	}
	return c.conn, nil
}

// dialer is that of the config, with its timeout.
func (c *Conn) dialer() Dialer {
	if c.config.Dialer == nil {
		return &net.Dialer{Timeout: c.config.DialTimeout, LocalAddr: c.config.LocalAddr}
	}
	if c.config.DialTimeout <= 0 {
		return c.config.Dialer
	}
	return limitedDialer{c.config.Dialer, c.config.DialTimeout}
}

// limitedDialer is a Dialer with a timeout.
type limitedDialer struct {
	Dialer
	timeout time.Duration
}

func (d limitedDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return d.Dialer.DialContext(ctx, network, addr)
}

// setStream makes s what we read from and write to.
func (c *Conn) setStream(s stream) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.stream = s
	if c.out == nil {
		c.out = bufio.NewWriterSize(s.Writer, connBufferSize)
	} else {
		c.out.Reset(s.Writer)
	}
}

func (c *Conn) writeMagic() error {
	if _, err := c.Write(MagicV2); err != nil {
		return err
	}
	return c.Flush()
}

// send writes a command of the handshake; its errors are the caller's to tell.
func (c *Conn) send(cmd *Command) error {
	if _, err := cmd.WriteTo(c); err != nil {
		return err
	}
	return c.Flush()
}

// identify negotiates and upgrades the stream. It returns nil, nil if nsqd
// does not negotiate. Until it is done nothing may be read that belongs to a
// next layer, so frames are read without a buffer.
func (c *Conn) identify() (*IdentifyResponse, error) {
	cmd, err := Identify(c.identifyParams())
	if err != nil {
		return nil, ErrIdentify{err.Error()}
	}
	if err := c.send(cmd); err != nil {
		return nil, ErrIdentify{err.Error()}
	}
	frameType, data, err := ReadUnpackedResponse(c, c.config.MaxMsgSize)
	if err != nil {
		return nil, ErrIdentify{err.Error()}
	}
	if frameType == FrameTypeError {
		return nil, ErrIdentify{string(data)}
	}
	if len(data) == 0 {
		return nil, ErrIdentify{"empty response"}
	}
	c.msgTimeout = c.config.MsgTimeout
	if c.msgTimeout <= 0 {
		c.msgTimeout = defaultMsgTimeout
	}
	if data[0] != '{' {
		return nil, c.checkTLSOffered(false)
	}
	return c.negotiated(data)
}

// negotiated reads nsqd's answer and does what it says.
func (c *Conn) negotiated(data []byte) (*IdentifyResponse, error) {
	var answer identifyAnswer
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, ErrIdentify{err.Error()}
	}
	c.log(LogLevelDebug, "IDENTIFY response", slog.Any("response", answer))

	c.maxRdyCount.Store(answer.MaxRdyCount)
	if answer.MsgTimeoutMs > 0 {
		c.msgTimeout = time.Duration(answer.MsgTimeoutMs) * time.Millisecond
	}
	if err := c.checkTLSOffered(answer.TLSv1); err != nil {
		return nil, err
	}
	if err := c.upgrade(&answer.IdentifyResponse); err != nil {
		return nil, ErrIdentify{err.Error()}
	}
	return &answer.IdentifyResponse, nil
}

func (c *Conn) wantsTLS() bool {
	return c.config.TlsV1 || c.config.TlsRequired
}

// checkTLSOffered refuses a connection that would not be encrypted though it
// must be, and warns if it only should be.
func (c *Conn) checkTLSOffered(offered bool) error {
	switch {
	case offered || !c.wantsTLS():
		return nil
	case c.config.TlsRequired:
		return ErrIdentify{"nsqd does not offer TLS, which is required"}
	}
	c.log(LogLevelWarning, "nsqd does not offer TLS, the connection is not encrypted")
	return nil
}

// identifyParams returns the body of IDENTIFY. All keys are always present.
func (c *Conn) identifyParams() map[string]interface{} {
	config := c.config
	return map[string]interface{}{
		"client_id":             config.ClientID,
		"short_id":              config.ClientID,
		"hostname":              config.Hostname,
		"long_id":               config.Hostname,
		"user_agent":            config.UserAgent,
		"feature_negotiation":   true,
		"tls_v1":                c.wantsTLS(),
		"deflate":               config.Deflate,
		"snappy":                config.Snappy,
		"deflate_level":         config.DeflateLevel,
		"sample_rate":           config.SampleRate,
		"output_buffer_size":    config.OutputBufferSize,
		"heartbeat_interval":    identifyMs(config.HeartbeatInterval),
		"output_buffer_timeout": identifyMs(config.OutputBufferTimeout),
		"msg_timeout":           identifyMs(config.MsgTimeout),
		"topology_region":       config.TopologyRegion,
		"topology_zone":         config.TopologyZone,
	}
}

// identifyMs is d in milliseconds, and -1 for a Duration of -1, which is how
// a feature is turned off.
func identifyMs(d time.Duration) int64 {
	if d == -1 {
		return -1
	}
	return int64(d / time.Millisecond)
}

// upgrade adds the layers nsqd agreed to, always in this order. After each,
// nsqd says OK through the new layer.
func (c *Conn) upgrade(answer *IdentifyResponse) error {
	if answer.TLSv1 {
		c.log(LogLevelInfo, "upgrading to TLS")
		if err := c.upgradeTLS(); err != nil {
			return err
		}
	}
	if answer.Deflate {
		c.log(LogLevelInfo, "upgrading to Deflate")
		s := c.stream
		if err := s.addDeflate(c.config.DeflateLevel); err != nil {
			return err
		}
		if err := c.switchTo(s, "Deflate"); err != nil {
			return err
		}
	}
	if answer.Snappy {
		c.log(LogLevelInfo, "upgrading to Snappy")
		s := c.stream
		s.addSnappy()
		return c.switchTo(s, "Snappy")
	}
	return nil
}

func (c *Conn) upgradeTLS() error {
	config := c.config.TlsConfig.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(c.addr)
		if err != nil {
			return err
		}
		config.ServerName = host
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	s := c.stream
	s.addTLS(conn)
	return c.switchTo(s, "TLS")
}

// switchTo continues on s if nsqd says OK there.
func (c *Conn) switchTo(s stream, name string) error {
	c.setStream(s)
	frameType, data, err := ReadUnpackedResponse(c, c.config.MaxMsgSize)
	if err != nil {
		return err
	}
	if frameType != FrameTypeResponse || string(data) != "OK" {
		return fmt.Errorf("invalid response from %s upgrade", name)
	}
	return nil
}

// authenticate sends the secret and logs who nsqd takes us for.
func (c *Conn) authenticate() error {
	if c.config.AuthSecret == "" {
		return errors.New("Auth Required") // the text is part of the API
	}
	cmd, err := Auth(c.config.AuthSecret)
	if err != nil {
		return err
	}
	if err := c.send(cmd); err != nil {
		return err
	}
	frameType, data, err := ReadUnpackedResponse(c, c.config.MaxMsgSize)
	if err != nil {
		return err
	}
	if frameType == FrameTypeError {
		return errors.New("Error authenticating " + string(data)) // the text is part of the API
	}
	var answer AuthResponse
	if err := json.Unmarshal(data, &answer); err != nil {
		return err
	}
	c.log(LogLevelInfo, "auth accepted", slog.String("identity", answer.Identity),
		slog.String("identity_url", answer.IdentityUrl), slog.Int64("permissions", answer.PermissionCount))
	return nil
}

// start starts the loops unless Close was called meanwhile.
func (c *Conn) start() error {
	c.lifeMu.Lock()
	defer c.lifeMu.Unlock()
	if c.closing.Load() {
		return ErrClosing
	}
	c.running = true
	c.loops.Go(c.readLoop)
	c.loops.Go(c.writeLoop)
	return nil
}
