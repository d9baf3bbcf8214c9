package nsq

import (
	"bufio"
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// perMessage are the steps of a message in the library, and how often each may
// allocate memory.
func perMessage(t testing.TB) []step {
	var id MessageID
	copy(id[:], "0123456789abcdef")
	message := NewMessage(id, make([]byte, 200))
	out := bufio.NewWriterSize(io.Discard, 16<<10)
	write := func(cmd *Command) func() {
		return func() {
			if _, err := cmd.WriteTo(out); err != nil {
				t.Fatal(err)
			}
		}
	}
	appendTo := func(resp msgResponse) func() {
		return func() {
			if _, err := out.Write(appendResponse(out.AvailableBuffer(), resp)); err != nil {
				t.Fatal(err)
			}
		}
	}
	queue := newMessageQueue()
	return []step{
		{"a response is read", 1, readFrames(t, protocol.AppendFrame(nil, protocol.FrameResponse, []byte("OK")))},
		{"a message is read", 2, readFrames(t, messageFrame("0123456789abcdef"))},
		{"a message waits for a handler", 0, func() {
			queue.push(message)
			queue.pop()
		}},
		{"FIN is written", 0, appendTo(msgResponse{msg: message})},
		{"REQ is written", 0, appendTo(msgResponse{msg: message, kind: kindRequeue, delay: time.Minute})},
		{"PUB is written", 0, write(Publish("orders", message.Body))},
		{"PUB is made and written", 4, func() { write(Publish("orders", message.Body))() }},
	}
}

// A step is something that is done for each message.
type step struct {
	name        string
	allocations float64
	run         func()
}

// readFrames reads the same frame again and again.
func readFrames(t testing.TB, wire []byte) func() {
	source := bytes.NewReader(bytes.Repeat(wire, 100))
	in := bufio.NewReaderSize(source, 16<<10)
	return func() {
		if in.Buffered() == 0 && source.Len() == 0 {
			if _, err := source.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := readFrame(in, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPerMessageAllocations(t *testing.T) {
	for _, s := range perMessage(t) {
		nsqtest.AllocatesAtMost(t, s.allocations, s.name, s.run)
	}
}

func BenchmarkPerMessage(b *testing.B) {
	for _, s := range perMessage(b) {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.run()
			}
		})
	}
}
