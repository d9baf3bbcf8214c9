package protocol

import (
	"bytes"
	"testing"
)

// What is done for each message or command, on memory that was there before. None of
// it may allocate, which holds under the race detector too.
var perMessage = []struct {
	name string
	run  func()
}{
	{"AppendMessageFrame", func() { scratch = AppendMessageFrame(scratch[:0], 1, 1, benchID, benchBody) }},
	{"AppendMessageFrameHead", func() { scratch = AppendMessageFrameHead(scratch[:0], 1, 1, benchID, len(benchBody)) }},
	{"AppendMessage", func() { scratch = AppendMessage(scratch[:0], 1, 1, benchID, benchBody) }},
	{"DecodeMessage", func() { decoded, _ = DecodeMessage(benchMessage) }},
	{"AppendFrame OK", func() { scratch = AppendFrame(scratch[:0], FrameResponse, benchOK) }},
	{"AppendCommand PUB", func() { scratch = AppendSized(AppendCommand(scratch[:0], "PUB", "orders"), benchBody) }},
	{"AppendCommand FIN", func() { scratch = AppendCommand(scratch[:0], "FIN", "0123456789abcdef") }},
	{"SplitParams FIN", func() { words = SplitParams(TrimLine(benchFin), words[:0]) }},
	{"SplitParams DPUB", func() { words = SplitParams(TrimLine(benchDpub), words[:0]) }},
	{"ParseDecimal", func() { number, _ = ParseDecimal(benchNumber) }},
	{"IsValidTopicName", func() { valid = IsValidTopicName(benchName) }},
	{"IsValidTopicName ephemeral", func() { valid = IsValidTopicName(benchEphemeral) }},
}

var (
	benchID        = MessageID([]byte("0123456789abcdef"))
	benchBody      = bytes.Repeat([]byte{'b'}, 200)
	benchMessage   = AppendMessage(nil, 1, 1, benchID, benchBody)
	benchOK        = []byte("OK")
	benchFin       = []byte("FIN 0123456789abcdef\n")
	benchDpub      = []byte("DPUB orders.created 60000\r\n")
	benchNumber    = []byte("3600000")
	benchName      = []byte("orders.created")
	benchEphemeral = []byte("orders.created#ephemeral")

	// What the functions return, so that the compiler cannot leave them out.
	scratch = make([]byte, 0, 512)
	words   = make([][]byte, 0, 4)
	decoded Message
	number  uint64
	valid   bool
)

func TestPerMessageAllocatesNothing(t *testing.T) {
	for _, c := range perMessage {
		if n := testing.AllocsPerRun(100, c.run); n > 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func BenchmarkPerMessage(b *testing.B) {
	for _, c := range perMessage {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
}

// BenchmarkReadSized reads bodies that fit into what is read at once, and one that
// does not.
func BenchmarkReadSized(b *testing.B) {
	for name, size := range map[string]int{"200 B": 200, "1 MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			wire := AppendSized(nil, make([]byte, size))
			r := bytes.NewReader(nil)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(wire)
				if _, err := ReadSized(r, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
