package nsq

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"strconv"
	"time"
)

// Command is a command as it is sent to nsqd or nsqlookupd:
//
//	NAME [SP param]... LF [uint32 length, body]
//
// A nil Body sends no length, an empty one sends length 0. Nothing is checked
// or escaped.
type Command struct {
	Name   []byte
	Params [][]byte
	Body   []byte
}

// String returns the name and the params joined by spaces, without the body.
func (c *Command) String() string {
	b := append([]byte(nil), c.Name...)
	for _, param := range c.Params {
		b = append(b, ' ')
		b = append(b, param...)
	}
	return string(b)
}

// WriteTo writes the command to w and returns the number of bytes written.
// Unless w is a buffer itself, the line and the length are gathered into one
// Write and the body is another.
func (c *Command) WriteTo(w io.Writer) (int64, error) {
	if b, ok := w.(*bufio.Writer); ok {
		return c.writeBuffered(b)
	}
	head := c.appendHead(make([]byte, 0, 64))
	n, err := w.Write(head)
	total := int64(n)
	if err != nil || len(c.Body) == 0 {
		return total, err
	}
	n, err = w.Write(c.Body)
	return total + int64(n), err
}

// writeBuffered is WriteTo without allocation: the head is built in the room
// the buffer has left.
func (c *Command) writeBuffered(w *bufio.Writer) (int64, error) {
	n, err := w.Write(c.appendHead(w.AvailableBuffer()))
	total := int64(n)
	if err != nil || len(c.Body) == 0 {
		return total, err
	}
	n, err = w.Write(c.Body)
	return total + int64(n), err
}

// appendHead appends everything but the bytes of the body.
func (c *Command) appendHead(dst []byte) []byte {
	dst = append(dst, c.Name...)
	for _, param := range c.Params {
		dst = append(dst, ' ')
		dst = append(dst, param...)
	}
	dst = append(dst, '\n')
	if c.Body != nil {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.Body)))
	}
	return dst
}

// Names of the commands. They are never written to.
var (
	nameIdentify   = []byte("IDENTIFY")
	nameAuth       = []byte("AUTH")
	nameRegister   = []byte("REGISTER")
	nameUnRegister = []byte("UNREGISTER")
	namePing       = []byte("PING")
	namePub        = []byte("PUB")
	nameDpub       = []byte("DPUB")
	nameMpub       = []byte("MPUB")
	nameSub        = []byte("SUB")
	nameRdy        = []byte("RDY")
	nameFin        = []byte("FIN")
	nameReq        = []byte("REQ")
	nameTouch      = []byte("TOUCH")
	nameCls        = []byte("CLS")
	nameNop        = []byte("NOP")
)

// Identify returns IDENTIFY with js as JSON in its body: the first command on
// a connection, which negotiates its settings. It fails if js has no JSON form.
func Identify(js map[string]interface{}) (*Command, error) {
	body, err := json.Marshal(js)
	if err != nil {
		return nil, err
	}
	return &Command{nameIdentify, nil, body}, nil
}

// Auth returns AUTH with the secret in its body. The error is always nil.
func Auth(secret string) (*Command, error) {
	return &Command{nameAuth, nil, []byte(secret)}, nil
}

// Register returns REGISTER, which tells nsqlookupd about a topic, or about a
// channel of it unless channel is empty.
func Register(topic string, channel string) *Command {
	return &Command{nameRegister, topicAndChannel(topic, channel), nil}
}

// UnRegister returns UNREGISTER, which takes a Register back.
func UnRegister(topic string, channel string) *Command {
	return &Command{nameUnRegister, topicAndChannel(topic, channel), nil}
}

func topicAndChannel(topic, channel string) [][]byte {
	params := [][]byte{[]byte(topic)}
	if channel != "" {
		params = append(params, []byte(channel))
	}
	return params
}

// Ping returns PING, which tells nsqlookupd that we are alive.
func Ping() *Command {
	return &Command{namePing, nil, nil}
}

// Publish returns PUB, which publishes body to topic. The command keeps body.
// A nil body sends no length, which desynchronises the connection.
func Publish(topic string, body []byte) *Command {
	return &Command{namePub, [][]byte{[]byte(topic)}, body}
}

// DeferredPublish returns DPUB, which publishes body to topic and delivers it
// after delay, in whole milliseconds. The command keeps body.
func DeferredPublish(topic string, delay time.Duration, body []byte) *Command {
	return &Command{nameDpub, [][]byte{[]byte(topic), milliseconds(delay)}, body}
}

// MultiPublish returns MPUB, which publishes several messages to topic at once.
// The error is always nil.
func MultiPublish(topic string, bodies [][]byte) (*Command, error) {
	size := 4
	for _, b := range bodies {
		size += 4 + len(b)
	}
	body := make([]byte, 0, size)
	body = binary.BigEndian.AppendUint32(body, uint32(len(bodies)))
	for _, b := range bodies {
		body = binary.BigEndian.AppendUint32(body, uint32(len(b)))
		body = append(body, b...)
	}
	return &Command{nameMpub, [][]byte{[]byte(topic)}, body}, nil
}

// Subscribe returns SUB, which subscribes the connection to a channel.
func Subscribe(topic string, channel string) *Command {
	return &Command{nameSub, [][]byte{[]byte(topic), []byte(channel)}, nil}
}

// Ready returns RDY, which tells nsqd how many messages we take at a time.
func Ready(count int) *Command {
	return &Command{nameRdy, [][]byte{strconv.AppendInt(nil, int64(count), 10)}, nil}
}

// Finish returns FIN, which says that a message is done.
func Finish(id MessageID) *Command {
	return &Command{nameFin, [][]byte{id[:]}, nil}
}

// Requeue returns REQ, which gives a message back for delivery after delay, in
// whole milliseconds.
func Requeue(id MessageID, delay time.Duration) *Command {
	return &Command{nameReq, [][]byte{id[:], milliseconds(delay)}, nil}
}

// Touch returns TOUCH, which restarts the timeout of a message.
func Touch(id MessageID) *Command {
	return &Command{nameTouch, [][]byte{id[:]}, nil}
}

// StartClose returns CLS, which asks nsqd to send no more messages. nsqd
// answers CLOSE_WAIT.
func StartClose() *Command {
	return &Command{nameCls, nil, nil}
}

// Nop returns NOP, which does nothing; it answers heartbeats.
func Nop() *Command {
	return &Command{nameNop, nil, nil}
}

func milliseconds(d time.Duration) []byte {
	return strconv.AppendInt(nil, int64(d/time.Millisecond), 10)
}
