package nsq

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

func TestCommands(t *testing.T) {
	id := MessageID([]byte("0123456789abcdef"))
	multi, err := MultiPublish("t", [][]byte{[]byte("a"), nil, []byte("bc")})
	if err != nil {
		t.Fatal(err)
	}
	empty, _ := MultiPublish("t", nil)
	auth, _ := Auth("")
	identify, err := Identify(map[string]interface{}{"b": 1, "a": "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		cmd        *Command
		text, wire string
	}{
		{identify, "IDENTIFY", "IDENTIFY\n\x00\x00\x00\x0f{\"a\":\"x\",\"b\":1}"},
		{auth, "AUTH", "AUTH\n\x00\x00\x00\x00"},
		{Register("t", "c"), "REGISTER t c", "REGISTER t c\n"},
		{Register("t", ""), "REGISTER t", "REGISTER t\n"},
		{UnRegister("t", "c"), "UNREGISTER t c", "UNREGISTER t c\n"},
		{UnRegister("t", ""), "UNREGISTER t", "UNREGISTER t\n"},
		{Ping(), "PING", "PING\n"},
		{Publish("t", []byte("ab")), "PUB t", "PUB t\n\x00\x00\x00\x02ab"},
		{Publish("t", []byte{}), "PUB t", "PUB t\n\x00\x00\x00\x00"},
		{Publish("t", nil), "PUB t", "PUB t\n"},
		{DeferredPublish("t", 1500*time.Microsecond, []byte("a")), "DPUB t 1", "DPUB t 1\n\x00\x00\x00\x01a"},
		{DeferredPublish("t", -time.Second, nil), "DPUB t -1000", "DPUB t -1000\n"},
		{multi, "MPUB t", "MPUB t\n\x00\x00\x00\x13\x00\x00\x00\x03\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x02bc"},
		{empty, "MPUB t", "MPUB t\n\x00\x00\x00\x04\x00\x00\x00\x00"},
		{Subscribe("t", "c"), "SUB t c", "SUB t c\n"},
		{Ready(12), "RDY 12", "RDY 12\n"},
		{Finish(id), "FIN 0123456789abcdef", "FIN 0123456789abcdef\n"},
		{Requeue(id, 1999*time.Microsecond), "REQ 0123456789abcdef 1", "REQ 0123456789abcdef 1\n"},
		{Touch(id), "TOUCH 0123456789abcdef", "TOUCH 0123456789abcdef\n"},
		{StartClose(), "CLS", "CLS\n"},
		{Nop(), "NOP", "NOP\n"},
	} {
		if got := test.cmd.String(); got != test.text {
			t.Errorf("got %q, want %q", got, test.text)
		}
		var plain, buffered bytes.Buffer
		out := bufio.NewWriter(&buffered)
		for _, w := range []io.Writer{&plain, out} {
			if n, err := test.cmd.WriteTo(w); err != nil || n != int64(len(test.wire)) {
				t.Errorf("%s: wrote %d, %v", test.text, n, err)
			}
		}
		out.Flush()
		if plain.String() != test.wire || buffered.String() != test.wire {
			t.Errorf("got %q and %q, want %q", &plain, &buffered, test.wire)
		}
	}
	if _, err := Identify(map[string]interface{}{"f": func() {}}); err == nil {
		t.Error("a function has no JSON form")
	}
}

func TestMessage(t *testing.T) {
	m := NewMessage(MessageID([]byte("0123456789abcdef")), []byte("body"))
	m.Timestamp, m.Attempts = 1<<40, 3
	var b bytes.Buffer
	if n, err := m.WriteTo(&b); err != nil || n != 30 {
		t.Fatal(n, err)
	}
	const wire = "\x00\x00\x01\x00\x00\x00\x00\x00\x00\x030123456789abcdefbody"
	if b.String() != wire {
		t.Fatalf("got %q", &b)
	}
	got, err := DecodeMessage(b.Bytes())
	if err != nil || got.ID != m.ID || string(got.Body) != "body" || got.Timestamp != m.Timestamp || got.Attempts != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err := DecodeMessage(b.Bytes()[:26]); err != nil || got.Body == nil || len(got.Body) != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := DecodeMessage(b.Bytes()[:25]); err == nil || err.Error() != "not enough data to decode valid message" {
		t.Fatal(err)
	}
}

// noteDelegate notes what a message is answered.
type noteDelegate struct{ notes []string }

func (d *noteDelegate) OnFinish(*Message) { d.notes = append(d.notes, "finish") }
func (d *noteDelegate) OnTouch(*Message)  { d.notes = append(d.notes, "touch") }
func (d *noteDelegate) OnRequeue(_ *Message, delay time.Duration, backoff bool) {
	note := "requeue " + delay.String()
	if backoff {
		note += " backoff"
	}
	d.notes = append(d.notes, note)
}

func TestMessageAnswersOnce(t *testing.T) {
	for want, answer := range map[string]func(*Message){
		"finish":             (*Message).Finish,
		"requeue 1s backoff": func(m *Message) { m.Requeue(time.Second) },
		"requeue -1ns":       func(m *Message) { m.RequeueWithoutBackoff(-1) },
	} {
		d := new(noteDelegate)
		m := &Message{Delegate: d}
		m.Touch()
		if m.HasResponded() || m.IsAutoResponseDisabled() {
			t.Error("a new message has responded")
		}
		m.DisableAutoResponse()
		for range 2 {
			answer(m)
			m.Finish()
			m.Requeue(-1)
			m.Touch()
		}
		if got := strings.Join(d.notes, ", "); got != "touch, "+want || !m.HasResponded() || !m.IsAutoResponseDisabled() {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestReadResponse(t *testing.T) {
	for _, test := range []struct {
		input string
		limit int32
		want  string // data, or the error after "error: "
	}{
		{"\x00\x00\x00\x06\x00\x00\x00\x00OK", 0, "OK"},
		{"\x00\x00\x00\x06\x00\x00\x00\x00OK", 6, "OK"},
		{"\x00\x00\x00\x06\x00\x00\x00\x00OK", 5, "error: response msg size 6 exceeds configured maximum (5)"},
		{"\xff\xff\xff\xff", 0, "error: response msg size is negative: -1"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", 0, "error: unexpected HTTP response, a nsqd TCP endpoint is required"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", 1 << 20, "error: unexpected HTTP response, a nsqd TCP endpoint is required"},
		{"\x00\x00\x00\x03\x00\x00\x00\x00", 0, "error: length of response is too small"},
		{"\x40\x00\x00\x00\x00\x00\x00\x00OK", 0, "error: unexpected EOF"},
		{"", 0, "error: EOF"},
		{"\x00\x00", 0, "error: unexpected EOF"},
	} {
		frameType, data, err := ReadUnpackedResponse(strings.NewReader(test.input), test.limit)
		got := string(data)
		if err != nil {
			got = "error: " + err.Error()
			if frameType != -1 {
				t.Errorf("%q: type %d", test.input, frameType)
			}
		}
		if got != test.want {
			t.Errorf("%q: got %q, want %q", test.input, got, test.want)
		}
		f, err := readFrame(bufio.NewReader(strings.NewReader(test.input)), test.limit)
		got = string(f.data)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != test.want {
			t.Errorf("%q: readFrame: got %q, want %q", test.input, got, test.want)
		}
	}
	// The older form has no limit.
	if data, err := ReadResponse(strings.NewReader("\x00\x00\x00\x02OK")); err != nil || string(data) != "OK" {
		t.Errorf("got %q, %v", data, err)
	}
	if _, _, err := ReadUnpackedResponse(strings.NewReader("\x00\x00\x00\x04\x00\x00\x00\x00")); err != nil {
		t.Error(err)
	}
}

// FuzzReadFrame compares the frame reader with the exported, simpler one.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x06\x00\x00\x00\x00OK\x00\x00\x00\x04\x00\x00\x00\x01"), int32(0))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), int32(0))
	f.Add(protocol.AppendMessageFrame(nil, 1, 2, protocol.MessageID{}, []byte("body")), int32(100))
	f.Add([]byte("\x00\x00\x00\x03\x00\x00\x00\x02"), int32(0))
	f.Fuzz(func(t *testing.T, input []byte, limit int32) {
		in, simple := bufio.NewReader(bytes.NewReader(input)), bytes.NewReader(input)
		for {
			got, err := readFrame(in, limit)
			frameType, data, wantErr := ReadUnpackedResponse(simple, limit)
			var want *Message
			if wantErr == nil && frameType == FrameTypeMessage {
				want, wantErr = DecodeMessage(data)
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("got %v, want %v", err, wantErr)
			}
			if err != nil {
				return
			}
			if got.frameType != frameType || (want == nil && !bytes.Equal(got.data, data)) {
				t.Fatalf("got %+v, want type %d %q", got, frameType, data)
			}
			if want != nil && (got.message.ID != want.ID || got.message.Timestamp != want.Timestamp ||
				got.message.Attempts != want.Attempts || !bytes.Equal(got.message.Body, want.Body)) {
				t.Fatalf("got %+v, want %+v", got.message, want)
			}
		}
	})
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"t": true, "a.b-c_9": true, "t#ephemeral": true, "#ephemeral": false, "": false, "a b": false, "t\n": false,
		strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, strings.Repeat("x", 54) + "#ephemeral": true,
		strings.Repeat("x", 55) + "#ephemeral": false,
	} {
		if IsValidTopicName(name) != want || IsValidChannelName(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}

func TestLogLevelNames(t *testing.T) {
	for level, want := range map[LogLevel]string{
		LogLevelDebug: "DBG", LogLevelInfo: "INF", LogLevelWarning: "WRN", LogLevelError: "ERR", 9: "DBG", -1: "DBG",
	} {
		if level.String() != want {
			t.Errorf("%d: %s", level, level)
		}
	}
}

// TestAPIRequest checks the forms an answer may have.
func TestAPIRequest(t *testing.T) {
	err := error(&statusError{code: 404, status: "404 Not Found", body: []byte(`{"message":"TOPIC_NOT_FOUND"}`)})
	if got, want := err.Error(), `got response 404 Not Found "{\"message\":\"TOPIC_NOT_FOUND\"}"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var envelope apiEnvelope
	if err := json.Unmarshal([]byte(`{"status_code":200,"data":{"producers":[]}}`), &envelope); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreValues(t *testing.T) {
	var identify ErrIdentify
	if err := error(ErrIdentify{"x"}); !errors.As(err, &identify) || err.Error() != "failed to IDENTIFY - x" {
		t.Error(err)
	}
	if err := error(ErrProtocol{"E_X y"}); err != (ErrProtocol{"E_X y"}) || err.Error() != "E_X y" {
		t.Error(err)
	}
}
