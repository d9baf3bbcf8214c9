package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

var nameRule = regexp.MustCompile(`\A[.a-zA-Z0-9_-]+(#ephemeral)?\z`)

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"t": true, ".": true, "..": true, "a-b_c.D9": true, "t#ephemeral": true,
		strings.Repeat("a", 64): true, strings.Repeat("a", 54) + "#ephemeral": true,
		"": false, "#ephemeral": false, "a#ephemerals": false, "a#": false, "a b": false, "a\n": false, "t#ephemeral\n": false,
		"ä": false, "a*": false, "a#ephemeral#ephemeral": false,
		strings.Repeat("a", 65): false, strings.Repeat("a", 55) + "#ephemeral": false,
	} {
		if got := IsValidTopicName(name); got != want {
			t.Errorf("IsValidTopicName(%q) = %v, want %v", name, got, want)
		}
		if got := IsValidChannelName([]byte(name)); got != want {
			t.Errorf("IsValidChannelName(%q) = %v, want %v", name, got, want)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("a#ephemeral")
	f.Fuzz(func(t *testing.T, name string) {
		want := len(name) <= 64 && nameRule.MatchString(name)
		if got := IsValidTopicName(name); got != want {
			t.Errorf("IsValidTopicName(%q) = %v, want %v", name, got, want)
		}
	})
}

// The bytes of the appendix "Byte-level test vectors".
func TestVectors(t *testing.T) {
	id := MessageID([]byte("18a450dd83e69000"))
	const nanos = 0x18ea5d0785fd9538
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"OK":          {AppendFrame(nil, FrameResponse, []byte("OK")), "00000006000000004f4b"},
		"heartbeat":   {AppendFrame(nil, FrameResponse, []byte(Heartbeat)), "0000000f000000005f6865617274626561745f"},
		"CLOSE_WAIT":  {AppendFrame(nil, FrameResponse, []byte("CLOSE_WAIT")), "0000000e00000000434c4f53455f57414954"},
		"bad magic":   {AppendFrame(nil, FrameError, []byte((&Error{Code: CodeBadProtocol}).Error())), "0000001200000001455f4241445f50524f544f434f4c"},
		"PUB":         {AppendSized(AppendCommand(nil, "PUB", "t"), []byte("a")), "50554220740a0000000161"},
		"message":     {AppendMessageFrame(nil, nanos, 1, id, []byte("a")), "0000001f0000000218ea5d0785fd953800013138613435306464383365363930303061"},
		"disk record": {AppendSized(nil, AppendMessage(nil, nanos, 0, id, []byte("a"))), "0000001b18ea5d0785fd953800003138613435306464383365363930303061"},
		"magic":       {[]byte(MagicV2), "20205632"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(AppendMessage(nil, 1, 2, MessageID([]byte("0123456789abcdef")), []byte("body")))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if len(b) < MinMessageSize {
			if !errors.Is(err, ErrShortMessage) {
				t.Fatalf("%d bytes: err = %v", len(b), err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if again := AppendMessage(nil, m.Nanos, m.Attempts, m.ID, m.Body); !bytes.Equal(again, b) {
			t.Fatalf("round trip\n got %x\nwant %x", again, b)
		}
	})
}

func TestSplitParams(t *testing.T) {
	for line, want := range map[string][]string{
		"":         {""},
		"NOP":      {"NOP"},
		"PUB t":    {"PUB", "t"},
		"PUB  t":   {"PUB", "", "t"},
		"PUB t ":   {"PUB", "t", ""},
		"SUB\ta b": {"SUB\ta", "b"},
	} {
		got := SplitParams([]byte(line), nil)
		if len(got) != len(want) {
			t.Errorf("SplitParams(%q) = %q, want %q", line, got, want)
			continue
		}
		for i := range got {
			if string(got[i]) != want[i] {
				t.Errorf("SplitParams(%q) = %q, want %q", line, got, want)
			}
		}
	}
	for line, want := range map[string]string{"NOP\n": "NOP", "NOP\r\n": "NOP", "NOP\r\r\n": "NOP\r", "\n": "", "NOP": "NOP"} {
		if got := TrimLine([]byte(line)); string(got) != want {
			t.Errorf("TrimLine(%q) = %q, want %q", line, got, want)
		}
	}
}

func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"", "0", "2500", "-1", "+1", "1.5", "18446744073709551615", "18446744073709551616", "99999999999999999999999", "9x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseDecimal([]byte(s))
		if s == "" {
			s = "0"
		}
		want, wantErr := strconv.ParseUint(s, 10, 64)
		switch {
		case errors.Is(wantErr, strconv.ErrRange):
			if !errors.Is(err, ErrDecimalTooLarge) || got != math.MaxUint64 {
				t.Errorf("ParseDecimal(%q) = %d, %v", s, got, err)
			}
		case wantErr != nil:
			if !errors.Is(err, ErrNotDecimal) {
				t.Errorf("ParseDecimal(%q) = %d, %v", s, got, err)
			}
		case err != nil || got != want:
			t.Errorf("ParseDecimal(%q) = %d, %v, want %d", s, got, err, want)
		}
	})
}

func TestReadSized(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 50_000)
	for name, c := range map[string]struct {
		in    []byte
		limit int32
		want  []byte
		err   error
	}{
		"empty data":     {in: []byte{0, 0, 0, 0}, want: []byte{}},
		"data":           {in: AppendSized(nil, []byte("abc")), limit: 3, want: []byte("abc")},
		"grows":          {in: AppendSized(nil, big), want: big},
		"above limit":    {in: AppendSized(nil, []byte("abcd")), limit: 3, err: ErrSizeTooBig},
		"negative":       {in: []byte{0xff, 0xff, 0xff, 0xff}, err: ErrNegativeSize},
		"no length":      {in: nil, err: io.EOF},
		"short length":   {in: []byte{0, 0}, err: io.ErrUnexpectedEOF},
		"no data":        {in: []byte{0, 0, 0, 1}, err: io.ErrUnexpectedEOF},
		"short data":     {in: []byte{0, 0, 0, 2, 'a'}, err: io.ErrUnexpectedEOF},
		"only announced": {in: []byte{0x7f, 0xff, 0xff, 0xff, 'a'}, err: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadSized(iotest.HalfReader(bytes.NewReader(c.in)), c.limit)
			if !errors.Is(err, c.err) || !bytes.Equal(got, c.want) {
				t.Errorf("got %d bytes, %v; want %d bytes, %v", len(got), err, len(c.want), c.err)
			}
		})
	}
}

// An announced gigabyte of which nothing comes must not be reserved.
func TestReadSizedReservesLittle(t *testing.T) {
	head := binary.BigEndian.AppendUint32(nil, 1<<30)
	res := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := ReadSized(bytes.NewReader(head), 0); err == nil {
				b.Fatal("read a gigabyte out of nothing")
			}
		}
	})
	if got := res.AllocedBytesPerOp(); got > 128<<10 {
		t.Errorf("reserved %d bytes for a body that never came", got)
	}
}
