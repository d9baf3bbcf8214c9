package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// Sizes of buffers: of a connection that does nothing yet, of which there may be
// thousands, and of one under load.
const (
	idleBuffer = 512
	loadBuffer = 64 << 10
)

// Identify is what a client says of itself, beside what [NSQD.Dial] adds.
type Identify map[string]any

// BigBuffers is what a client says for whom throughput counts.
var BigBuffers = Identify{"output_buffer_size": loadBuffer}

// A Conn is a raw protocol connection. One goroutine uses it at a time.
type Conn struct {
	ctx    context.Context
	socket net.Conn
	closes func() bool // undoes that the end of ctx closes the socket
	in     *bufio.Reader
	out    []byte // whole commands, not sent yet
}

// Dial connects to nsqd and identifies, with the defaults of nsqd if identify is nil.
// The connection is closed when ctx ends; all that waits on it then returns the cause.
func (n *NSQD) Dial(ctx context.Context, identify Identify) (*Conn, error) {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", n.TCPAddr)
	if err != nil {
		return nil, fmt.Errorf("connect to nsqd: %w", err)
	}
	c := &Conn{ctx: ctx, socket: socket, in: bufio.NewReaderSize(socket, idleBuffer)}
	c.closes = context.AfterFunc(ctx, func() { _ = socket.Close() })
	settings := Identify{"client_id": "bench", "hostname": "bench", "user_agent": "nsq-bench", "feature_negotiation": true}
	for key, value := range identify {
		settings[key] = value
	}
	body, err := json.Marshal(settings)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to nsqd: encode IDENTIFY: %w", err)
	}
	c.out = append(c.out, protocol.MagicV2...)
	c.out = protocol.AppendSized(protocol.AppendCommand(c.out, "IDENTIFY"), body)
	if err := c.roundTrip(); err != nil {
		c.Close()
		return nil, fmt.Errorf("identify: %w", err)
	}
	if err := c.addLayer(identify); err != nil {
		c.Close()
		return nil, fmt.Errorf("identify: %w", err)
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() {
	c.closes()
	_ = c.socket.Close() // there is nothing more to lose
}

// Subscribe makes the connection a consumer of the channel, with RDY 0.
func (c *Conn) Subscribe(topic, channel string) error {
	c.out = protocol.AppendCommand(c.out, "SUB", topic, channel)
	if err := c.roundTrip(); err != nil {
		return fmt.Errorf("subscribe to %s/%s: %w", topic, channel, err)
	}
	return nil
}

// Ready sends RDY, which has no answer.
func (c *Conn) Ready(n int) error {
	c.out = protocol.AppendCommand(c.out, "RDY", strconv.Itoa(n))
	return c.flush()
}

// roundTrip sends what waits and reads one answer.
func (c *Conn) roundTrip() error {
	if err := c.flush(); err != nil {
		return err
	}
	_, _, err := c.ReadFrame()
	return err
}

// flush sends what waits.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.socket.Write(c.out)
	c.out = c.out[:0]
	return c.cause(err)
}

// cause is err, or the reason why ctx has ended, which closes the socket.
func (c *Conn) cause(err error) error {
	if err != nil && c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return err
}

// speedUp gives the connection the buffers for load.
func (c *Conn) speedUp() {
	if c.in.Size() < loadBuffer {
		c.in = bufio.NewReaderSize(c.in, loadBuffer) // what the small one holds comes first
		c.out = make([]byte, 0, loadBuffer)
	}
}

// errFrame is what [Conn.ReadFrame] says of bytes that are none.
var errFrame = errors.New("not a frame")

// ReadFrame reads a frame and answers heartbeats. Its data holds until the next call.
// An error frame is an error.
func (c *Conn) ReadFrame() (protocol.FrameType, []byte, error) {
	for {
		kind, data, err := c.readFrame()
		switch {
		case err != nil:
			return 0, nil, c.cause(err)
		case kind == protocol.FrameError:
			return 0, nil, fmt.Errorf("nsqd answered %s", data)
		case kind == protocol.FrameResponse && string(data) == protocol.Heartbeat:
			// Beside c.out, which a goroutine that publishes at a pace fills. Each Write is
			// of whole commands, so neither falls into the midst of the other.
			if _, err := c.socket.Write([]byte("NOP\n")); err != nil {
				return 0, nil, c.cause(err)
			}
		default:
			return kind, data, nil
		}
	}
}

// readFrame leaves the bytes in the buffer until all have come, so that after a read
// deadline it can be called again.
func (c *Conn) readFrame() (protocol.FrameType, []byte, error) {
	head, err := c.in.Peek(protocol.FrameOverhead)
	if err != nil {
		return 0, nil, err
	}
	size := int64(binary.BigEndian.Uint32(head)) + 4
	kind := protocol.FrameType(binary.BigEndian.Uint32(head[4:]))
	if size < protocol.FrameOverhead {
		return 0, nil, errFrame
	}
	if size <= int64(c.in.Size()) {
		frame, err := c.in.Peek(int(size))
		if err != nil {
			return 0, nil, err
		}
		_, err = c.in.Discard(int(size))
		return kind, frame[protocol.FrameOverhead:], err
	}
	if _, err := c.in.Discard(protocol.FrameOverhead); err != nil {
		return 0, nil, err
	}
	data, err := protocol.ReadBody(c.in, int(size)-protocol.FrameOverhead)
	return kind, data, err
}
