package nsqtest

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// A Frame is what the server sends: a type and its data.
type Frame struct {
	Type protocol.FrameType
	Data string
}

// IsHeartbeat reports whether the frame asks for a sign of life.
func (f Frame) IsHeartbeat() bool {
	return f.Type == protocol.FrameResponse && f.Data == heartbeat
}

// String returns the frame as transcripts write it.
func (f Frame) String() string {
	switch f.Type {
	case protocol.FrameResponse:
		if f.IsHeartbeat() {
			return "HEARTBEAT"
		}
		return "RESPONSE " + quote(f.Data)
	case protocol.FrameError:
		return "ERR " + quote(f.Data)
	case protocol.FrameMessage:
		if m, err := f.message(); err == nil {
			return fmt.Sprintf("MSG %s attempts=%d body=%s", m.ID, m.Attempts, quote(m.Body))
		}
	}
	return fmt.Sprintf("frame of type %d with data %s", f.Type, quote(f.Data))
}

func (f Frame) message() (Message, error) {
	if f.Type != protocol.FrameMessage {
		return Message{}, errors.New("not a message frame")
	}
	m, err := protocol.DecodeMessage([]byte(f.Data))
	return Message{Nanos: m.Nanos, Attempts: m.Attempts, ID: m.ID, Body: string(m.Body)}, err
}

// A Message is a delivered message, comparable with ==.
type Message struct {
	Nanos    int64 // when nsqd took it, nanoseconds since 1970
	Attempts uint16
	ID       protocol.MessageID
	Body     string
}

// WithAttempts returns the message as delivery number n would show it.
func (m Message) WithAttempts(n uint16) Message {
	m.Attempts = n
	return m
}

// Equal fails the test, and lets it go on, if got and want differ.
func Equal[T any](t testing.TB, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// quote returns s as a Go string, the middle of a very long one left out.
func quote(s string) string {
	if len(s) > 400 {
		return fmt.Sprintf("%q…%q (%d bytes)", s[:200], s[len(s)-100:], len(s))
	}
	return strconv.Quote(s)
}
