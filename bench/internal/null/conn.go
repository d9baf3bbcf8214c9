package null

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"sync"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// The buffers of nsqd, in bytes; a client may choose another size of the second.
const (
	inputBuffer  = 64 << 10
	outputBuffer = 16 << 10
	maxOutput    = 64 << 10
)

// errInvalid ends a connection whose client sends what nsqd would refuse.
var errInvalid = errors.New("invalid command")

// A conn is one client.
type conn struct {
	server *Server
	socket net.Conn

	outMu sync.Mutex // guards out; held while it is written
	out   *bufio.Writer

	// Used by serve's goroutine alone.
	in       *bufio.Reader // reads through conn.Read
	params   [][]byte
	topic    *topic // of the last publish
	name     string // its name
	messages int    // of commands that are not answered yet …
	size     int    // … of so many bytes each
	answers  int    // OKs that are due
	answered bool   // out holds an answer
	finished int    // FINs that have not made room yet
	sub      *consumer
	pumping  sync.WaitGroup
}

func newConn(s *Server, socket net.Conn) *conn {
	c := &conn{server: s, socket: socket, out: bufio.NewWriterSize(socket, outputBuffer)}
	c.in = bufio.NewReaderSize(c, inputBuffer)
	return c
}

// serve executes commands until the client goes, or is wrong.
func (c *conn) serve() {
	magic := make([]byte, len(protocol.MagicV2))
	_, err := io.ReadFull(c.in, magic)
	for err == nil && string(magic) == protocol.MagicV2 {
		err = c.next()
	}
	if errors.Is(err, errInvalid) {
		_ = c.answer(protocol.FrameError, protocol.CodeInvalid) // the client may be gone
	}
	_ = c.flush()
	_ = c.socket.Close() // it may be closed, and is of no use any more
	if c.sub != nil {
		close(c.sub.gone)
	}
	c.pumping.Wait()
}

// Read is called when all that has arrived is executed: as in nsqd, runs of commands
// end and their answers go out before it waits for more.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.socket.Read(p)
}

// next executes one command.
func (c *conn) next() error {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	c.params = protocol.SplitParams(protocol.TrimLine(line), c.params[:0])
	params := c.params
	switch string(params[0]) {
	case "FIN":
		c.finished++
		return nil
	case "PUB", "DPUB":
		return c.pub(params)
	case "MPUB":
		return c.mpub(params)
	case "NOP", "TOUCH":
		return nil
	case "RDY":
		return c.rdy(params)
	case "REQ":
		if c.sub == nil {
			return errInvalid
		}
		c.finished++
		c.sub.channel.giveBack()
		return nil
	case "SUB":
		return c.subscribe(params)
	case "IDENTIFY":
		return c.identify()
	case "CLS":
		if c.sub == nil {
			return errInvalid
		}
		c.sub.rdy.Store(0)
		return c.answer(protocol.FrameResponse, "CLOSE_WAIT")
	}
	return errInvalid
}

// pub reads a message, and adds it to the run of those before it.
func (c *conn) pub(params [][]byte) error {
	if err := c.choose(params); err != nil {
		return err
	}
	size, err := c.readSize(maxMessageSize)
	if err != nil {
		return err
	}
	if _, err := c.in.Discard(size); err != nil {
		return err
	}
	c.messages++
	c.size = size
	c.answers++
	return nil
}

// mpub reads a batch. Its announced size is not looked at, as in nsqd.
func (c *conn) mpub(params [][]byte) error {
	if err := c.choose(params); err != nil {
		return err
	}
	if _, err := c.readSize(maxBodySize); err != nil {
		return err
	}
	count, err := c.readSize(maxBodySize / 5)
	if err != nil {
		return err
	}
	size := 0
	for range count {
		if size, err = c.readSize(maxMessageSize); err != nil {
			return err
		}
		if _, err := c.in.Discard(size); err != nil {
			return err
		}
	}
	c.messages += count
	c.size = size
	c.answers++
	return nil
}

// choose makes the topic of a publish that of the run; the run before it ends if it is
// another's.
func (c *conn) choose(params [][]byte) error {
	if len(params) < 2 {
		return errInvalid
	}
	if c.topic == nil || string(params[1]) != c.name {
		c.endRuns()
		c.name = string(params[1])
		c.topic = c.server.topic(c.name)
	}
	return nil
}

// readSize reads a 4-byte length of 1 to most.
func (c *conn) readSize(most int) (int, error) {
	b, err := c.in.Peek(4)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > uint32(most) {
		return 0, errInvalid
	}
	_, err = c.in.Discard(4)
	return int(n), err
}

// identify answers with the settings if the client wants to negotiate them. All of
// nsqd's features are off.
func (c *conn) identify() error {
	body, err := protocol.ReadSized(c.in, maxBodySize)
	if err != nil {
		return err
	}
	var request struct {
		Negotiation bool `json:"feature_negotiation"`
		OutputSize  int  `json:"output_buffer_size"`
	}
	if json.Unmarshal(body, &request) != nil {
		return errInvalid
	}
	if request.OutputSize > 0 {
		if err := c.resize(min(request.OutputSize, maxOutput)); err != nil {
			return err
		}
	}
	if !request.Negotiation {
		return c.answer(protocol.FrameResponse, "OK")
	}
	return c.answer(protocol.FrameResponse, `{"max_rdy_count":2500,"version":"null","msg_timeout":60000,"max_msg_timeout":900000}`)
}

// resize makes the output gather so many bytes before it is written.
func (c *conn) resize(n int) error {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if err := c.out.Flush(); err != nil {
		return err
	}
	c.out = bufio.NewWriterSize(c.socket, n)
	return nil
}

// subscribe starts delivering.
func (c *conn) subscribe(params [][]byte) error {
	if len(params) < 3 || c.sub != nil {
		return errInvalid
	}
	channel := c.server.topic(string(params[1])).channel(string(params[2]))
	c.sub = newConsumer(c, channel)
	if err := c.answer(protocol.FrameResponse, "OK"); err != nil {
		return err
	}
	c.pumping.Go(c.sub.pump)
	return nil
}

func (c *conn) rdy(params [][]byte) error {
	if len(params) < 2 || c.sub == nil {
		return errInvalid
	}
	n, err := protocol.ParseDecimal(params[1])
	if err != nil || n > math.MaxInt32 {
		return errInvalid
	}
	c.sub.rdy.Store(int64(n))
	c.sub.gainedRoom()
	return nil
}

// endRuns publishes the messages of a run of commands, and makes room for those that
// a run of FINs has finished.
func (c *conn) endRuns() {
	if c.messages > 0 {
		c.topic.add(c.messages, c.size)
		c.messages = 0
	}
	if c.finished > 0 && c.sub != nil {
		c.sub.inFlight.Add(-int64(c.finished))
		c.sub.gainedRoom()
	}
	c.finished = 0
}

// answer adds a frame to the output, behind the answers that are due.
func (c *conn) answer(t protocol.FrameType, data string) error {
	c.endRuns()
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if err := c.answerOKsLocked(); err != nil {
		return err
	}
	c.answered = true
	_, err := c.out.Write(protocol.AppendFrame(nil, t, []byte(data)))
	return err
}

// flush ends runs and sends what has been answered. If nothing has been, it leaves
// the output alone: the pump may be writing there, for as long as the client does not
// read.
func (c *conn) flush() error {
	c.endRuns()
	if c.answers == 0 && !c.answered {
		return nil
	}
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if err := c.answerOKsLocked(); err != nil {
		return err
	}
	c.answered = false
	return c.out.Flush()
}

var okFrame = protocol.AppendFrame(nil, protocol.FrameResponse, []byte("OK"))

func (c *conn) answerOKsLocked() error {
	for ; c.answers > 0; c.answers-- {
		if _, err := c.out.Write(okFrame); err != nil {
			return err
		}
	}
	return nil
}
