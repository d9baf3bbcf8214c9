package nsqtest

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// MagicV2 is what a client sends first, to speak protocol V2.
const MagicV2 = "  V2"

// heartbeat is the data of the response frame that asks for any command.
const heartbeat = "_heartbeat_"

// defaultTimeout bounds one read or write. Nothing in a passing test waits as
// long, so it can be generous to a busy machine.
const defaultTimeout = 10 * time.Second

// A Conn is a client's side of a connection to nsqd. Its methods fail the test
// when they cannot do what they say, and return the Conn to be chained:
//
//	c := nsqtest.Dial(t, addr).Sub("orders", "billing").Rdy(1)
//
// Only the test's own goroutine may use it. It is closed when the test ends.
type Conn struct {
	t       testing.TB
	socket  net.Conn // for deadlines and closing; r and w may be layers over it
	r       *bufio.Reader
	w       io.Writer
	timeout time.Duration
}

// Dial connects to addr, a host:port or the path of a Unix socket, and sends
// the magic of protocol V2.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	return DialSilent(t, addr).Send(MagicV2)
}

// DialSilent connects to addr and sends nothing.
func DialSilent(t testing.TB, addr string) *Conn {
	t.Helper()
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	socket, err := net.DialTimeout(network, addr, defaultTimeout)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	return Wrap(t, socket)
}

// Wrap speaks over an existing connection, as one end of [Pipe]. It sends
// nothing.
func Wrap(t testing.TB, socket net.Conn) *Conn {
	t.Cleanup(func() { _ = socket.Close() }) // the test may have closed it
	return &Conn{t: t, socket: socket, r: bufio.NewReader(socket), w: socket, timeout: defaultTimeout}
}

// Timeout sets how long one read or write may take, 10 seconds if not set. In
// a synctest bubble an hour costs nothing.
func (c *Conn) Timeout(d time.Duration) *Conn {
	c.timeout = d
	return c
}

// use makes the Conn speak over rw.
func (c *Conn) use(rw io.ReadWriter) { c.r, c.w = bufio.NewReader(rw), rw }

// Send writes the bytes as they are.
func (c *Conn) Send(raw string) *Conn {
	c.t.Helper()
	if err := c.write([]byte(raw)); err != nil {
		c.t.Fatalf("send %s: %v", quote(raw), err)
	}
	return c
}

func (c *Conn) write(raw []byte) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.w.Write(raw)
	return err
}

// Command sends a command without a body, as Command("RDY", "1").
func (c *Conn) Command(name string, params ...string) *Conn {
	c.t.Helper()
	return c.Send(string(protocol.AppendCommand(nil, name, params...)))
}

// CommandBody sends a command with a body, as CommandBody("hello", "PUB", "t").
func (c *Conn) CommandBody(body, name string, params ...string) *Conn {
	c.t.Helper()
	command := protocol.AppendCommand(nil, name, params...)
	return c.Send(string(protocol.AppendSized(command, []byte(body))))
}

// Identify sends IDENTIFY with a JSON body and returns the data of the answer,
// which is JSON if the body asked for feature_negotiation, else OK.
func (c *Conn) Identify(body string) string {
	c.t.Helper()
	return c.CommandBody(body, "IDENTIFY").expect(protocol.FrameResponse)
}

// Sub subscribes and reads the OK.
func (c *Conn) Sub(topic, channel string) *Conn {
	c.t.Helper()
	return c.Command("SUB", topic, channel).ExpectOK()
}

// Rdy sends RDY, which has no answer.
func (c *Conn) Rdy(n int) *Conn {
	c.t.Helper()
	return c.Command("RDY", strconv.Itoa(n))
}

// Pub publishes one message and reads the OK. A message that arrives before
// the OK fails the test: publish on another connection then.
func (c *Conn) Pub(topic, body string) *Conn {
	c.t.Helper()
	return c.CommandBody(body, "PUB", topic).ExpectOK()
}

// Mpub publishes several messages in one command and reads the OK.
func (c *Conn) Mpub(topic string, bodies ...string) *Conn {
	c.t.Helper()
	return c.CommandBody(mpubBody(bodies), "MPUB", topic).ExpectOK()
}

// mpubBody returns the body of MPUB: 4 bytes count, then per message 4 bytes
// length and the message.
func mpubBody(bodies []string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(bodies)))
	for _, body := range bodies {
		b = protocol.AppendSized(b, []byte(body))
	}
	return string(b)
}

// Dpub publishes one message to be delivered after delay, which is sent in
// whole milliseconds, and reads the OK.
func (c *Conn) Dpub(topic string, delay time.Duration, body string) *Conn {
	c.t.Helper()
	return c.CommandBody(body, "DPUB", topic, strconv.FormatInt(delay.Milliseconds(), 10)).ExpectOK()
}

// Fin finishes a message; there is no answer unless that fails.
func (c *Conn) Fin(id protocol.MessageID) *Conn {
	c.t.Helper()
	return c.Command("FIN", id.String())
}

// Req gives a message back, to be delivered again after delay (sent in whole
// milliseconds); there is no answer unless that fails.
func (c *Conn) Req(id protocol.MessageID, delay time.Duration) *Conn {
	c.t.Helper()
	return c.Command("REQ", id.String(), strconv.FormatInt(delay.Milliseconds(), 10))
}

// Touch restarts a message's timeout; there is no answer unless that fails.
func (c *Conn) Touch(id protocol.MessageID) *Conn {
	c.t.Helper()
	return c.Command("TOUCH", id.String())
}

// Cls sends CLS and reads CLOSE_WAIT.
func (c *Conn) Cls() *Conn {
	c.t.Helper()
	return c.Command("CLS").ExpectResponse("CLOSE_WAIT")
}

// Nop sends NOP, which has no answer.
func (c *Conn) Nop() *Conn {
	c.t.Helper()
	return c.Command("NOP")
}

// ReadFrame reads the next frame, a heartbeat included.
func (c *Conn) ReadFrame() Frame {
	c.t.Helper()
	frame, err := c.read()
	if err != nil {
		c.t.Fatalf("read frame: %v", err)
	}
	return frame
}

func (c *Conn) read() (Frame, error) {
	if err := c.socket.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return Frame{}, err
	}
	b, err := protocol.ReadSized(c.r, 0)
	if err != nil {
		return Frame{}, err
	}
	if len(b) < 4 {
		return Frame{}, fmt.Errorf("frame of %d bytes has no type", len(b))
	}
	return Frame{Type: protocol.FrameType(binary.BigEndian.Uint32(b)), Data: string(b[4:])}, nil
}

// ReadMessage reads the next message. Heartbeats before it are answered.
func (c *Conn) ReadMessage() Message {
	c.t.Helper()
	frame := c.next()
	message, err := frame.message()
	if err != nil {
		c.t.Fatalf("got %v, want a message", frame)
	}
	return message
}

// maxHeartbeats is how many heartbeats in a row are answered: a month's. In a bubble,
// where they cost nothing, a frame that never comes would be waited for without end.
const maxHeartbeats = 100_000

// next reads the next frame that is no heartbeat and answers heartbeats.
func (c *Conn) next() Frame {
	c.t.Helper()
	for range maxHeartbeats {
		frame := c.ReadFrame()
		if !frame.IsHeartbeat() {
			return frame
		}
		c.Nop()
	}
	c.t.Fatalf("nothing but %d heartbeats", maxHeartbeats)
	return Frame{}
}

// expect returns the data of the next frame that is no heartbeat and fails the
// test if it has another type.
func (c *Conn) expect(want protocol.FrameType) string {
	c.t.Helper()
	frame := c.next()
	if frame.Type != want {
		c.t.Fatalf("got %v, want a frame of type %d", frame, want)
	}
	return frame.Data
}

// ExpectOK reads the answer OK.
func (c *Conn) ExpectOK() *Conn {
	c.t.Helper()
	return c.ExpectResponse("OK")
}

// TryReadOK reads the answer OK and returns what came instead.
func (c *Conn) TryReadOK() error {
	frame, err := c.read()
	if err == nil && frame != (Frame{protocol.FrameResponse, "OK"}) {
		err = fmt.Errorf("got %v, want OK", frame)
	}
	return err
}

// ExpectResponse reads a response frame with exactly this data.
func (c *Conn) ExpectResponse(data string) *Conn {
	c.t.Helper()
	return c.expectFrame(Frame{protocol.FrameResponse, data})
}

// ExpectError reads an error frame with exactly this code and description.
func (c *Conn) ExpectError(text string) *Conn {
	c.t.Helper()
	return c.expectFrame(Frame{protocol.FrameError, text})
}

func (c *Conn) expectFrame(want Frame) *Conn {
	c.t.Helper()
	if got := c.next(); got != want {
		c.t.Fatalf("got %v, want %v", got, want)
	}
	return c
}

// ExpectJSON reads a response frame that holds JSON and decodes it into v.
func (c *Conn) ExpectJSON(v any) *Conn {
	c.t.Helper()
	if data := c.expect(protocol.FrameResponse); json.Unmarshal([]byte(data), v) != nil {
		c.t.Fatalf("got %q, want JSON for %T", data, v)
	}
	return c
}

// ExpectHeartbeat reads a heartbeat and does not answer it.
func (c *Conn) ExpectHeartbeat() *Conn {
	c.t.Helper()
	if got := c.ReadFrame(); !got.IsHeartbeat() {
		c.t.Fatalf("got %v, want a heartbeat", got)
	}
	return c
}

// ExpectRaw reads exactly these bytes.
func (c *Conn) ExpectRaw(want string) *Conn {
	c.t.Helper()
	got, err := c.readRaw(len(want))
	if err != nil || got != want {
		c.t.Fatalf("got %s (%v), want %s", quote(got), err, quote(want))
	}
	return c
}

func (c *Conn) readRaw(n int) (string, error) {
	if err := c.socket.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return "", err
	}
	b := make([]byte, n)
	n, err := io.ReadFull(c.r, b)
	return string(b[:n]), err
}

// ExpectClosed waits until the server has closed its side; any further byte
// fails the test.
func (c *Conn) ExpectClosed() {
	c.t.Helper()
	frame, err := c.read()
	if err == nil {
		c.t.Fatalf("got %v, want the connection closed", frame)
	}
	if !closedByPeer(err) {
		c.t.Fatalf("got %v, want the connection closed", err)
	}
}

// closedByPeer reports whether a read failed because the other side closed. A
// side that closes with unread input sends a reset instead of an end.
func closedByPeer(err error) bool {
	return err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}

// LocalAddr is where the server sees the client.
func (c *Conn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// CloseWrite says that no more will be sent, and leaves reading open.
func (c *Conn) CloseWrite() *Conn {
	c.t.Helper()
	half, ok := c.socket.(interface{ CloseWrite() error })
	if !ok {
		c.t.Fatalf("close the writing side of a %T: not possible", c.socket)
	}
	if err := half.CloseWrite(); err != nil {
		c.t.Fatalf("close the writing side: %v", err)
	}
	return c
}

// Close closes both directions at once, as a client that is gone.
func (c *Conn) Close() {
	c.t.Helper()
	if err := c.socket.Close(); err != nil {
		c.t.Fatalf("close: %v", err)
	}
}
