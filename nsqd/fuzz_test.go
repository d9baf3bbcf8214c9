package nsqd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// Whatever a client sends, the daemon answers in frames, closes, and serves the
// next one.
func FuzzIOLoop(f *testing.F) {
	pub := "PUB t\n\x00\x00\x00\x01a"
	for _, s := range []string{
		"  V2", "  V1", "GET / HTTP/1.1\r\n", "  V2\n\n", "  V2NOP\r\nBOGUS x\n",
		"  V2" + pub + pub + "SUB t ch\nRDY 2\n" + pub + "FIN 0123456789abcdef\nREQ 0123456789abcdef 1\nTOUCH 0123456789abcdef\nCLS\n" + pub,
		"  V2MPUB t\n\x00\x00\x00\x0f\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bb" + pub,
		"  V2MPUB t\n\x00\x00\x00\x05\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bb" + pub,
		"  V2DPUB t 5\n\x00\x00\x00\x01aDPUB t 99999999999999999999\n\x00\x00\x00\x01a",
		"  V2IDENTIFY\n\x00\x00\x00\x1d{\"feature_negotiation\":true}\nSUB t#ephemeral ch#ephemeral\nRDY 1\n",
		"  V2IDENTIFY\n\xff\xff\xff\xff", "  V2PUB t\n\x7f\xff\xff\xff", "  V2AUTH\n\x00\x00\x00\x01s",
		"  V2" + strings.Repeat("x", protocol.MaxLineLength+1),
	} {
		f.Add([]byte(s))
	}
	opts := NewOptions()
	opts.DataPath = f.TempDir()
	opts.MemQueueSize = 10
	opts.MaxMsgSize, opts.MaxBodySize = 1000, 4000
	n, err := newNSQD(opts)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := nsqtest.Pipe()
		if !n.conns.join(server, 0, func() { n.handle(server) }) {
			t.Fatal("the daemon takes no connections any more")
		}
		defer client.Close()
		if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go func() {
			// The daemon may close before it has read all.
			_, _ = client.Write(sent)
			_ = client.(interface{ CloseWrite() error }).CloseWrite()
		}()
		for {
			frame, err := protocol.ReadSized(client, 0)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("after %q: %v", sent, err)
			}
			if len(frame) < 4 || binary.BigEndian.Uint32(frame) > uint32(protocol.FrameMessage) {
				t.Fatalf("after %q: no frame: %q", sent, frame)
			}
		}
	})
}

// A batch is parsed alike however it arrives and whatever size was announced;
// what follows it stays in the input.
func FuzzBatch(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01a\x00\x00\x00\x02bbrest"), 2, 11)
	f.Add([]byte("\x00\x00\x00\x01a\x00\x00"), 2, 6)
	f.Add([]byte("\x00\x00\x00\x00"), 1, 4)
	f.Add([]byte("\x7f\xff\xff\xff"), 1, 400000)
	f.Fuzz(func(t *testing.T, b []byte, count, announced int) {
		count, announced = 1+(count&0xff), announced&0xfffff
		const maxSize = 50
		want, rest, ok := splitBatch(b, count, maxSize)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(b), "by bytes": iotest.OneByteReader(bytes.NewReader(b))} {
			in := newInput(r, func() error { return nil })
			p := batchParser{count: count, maxSize: maxSize}
			wire, err := p.read(in, announced, min(announced, freeCredit))
			if (err == nil) != ok {
				t.Fatalf("%s: %v, want success %v", name, err, ok)
			}
			if !ok {
				var bad *batchError
				if !errors.As(err, &bad) || !strings.HasPrefix(bad.Error(), "E_BAD_MESSAGE MPUB ") {
					t.Fatalf("%s: error %v", name, err)
				}
				continue
			}
			got := appendEntries(nil, newIDSource(0, wallClock), wire, p.bounds, 0)[0].singly(nil)
			if len(got) != len(want) {
				t.Fatalf("%s: %d messages, want %d", name, len(got), len(want))
			}
			for i, e := range got {
				if e.body() != string(want[i]) {
					t.Fatalf("%s: message %d is %q, want %q", name, i, e.body(), want[i])
				}
			}
			left, err := io.ReadAll(in)
			if err != nil || !bytes.Equal(left, rest) {
				t.Fatalf("%s: %q follows, want %q (%v)", name, left, rest, err)
			}
		}
	})
}

// splitBatch is the plain form of what batchParser does.
func splitBatch(b []byte, count, maxSize int) (bodies [][]byte, rest []byte, ok bool) {
	for range count {
		if len(b) < 4 {
			return nil, nil, false
		}
		n := int(int32(binary.BigEndian.Uint32(b)))
		if n <= 0 || n > maxSize || len(b) < 4+n {
			return nil, nil, false
		}
		bodies = append(bodies, b[4:4+n])
		b = b[4+n:]
	}
	return bodies, b, true
}

// Settings that were agreed on are within their limits.
func FuzzIdentify(f *testing.F) {
	f.Add([]byte(`{"heartbeat_interval":1000,"output_buffer_size":64,"output_buffer_timeout":25,"sample_rate":99,"msg_timeout":1000}`))
	f.Add([]byte(`{"heartbeat_interval":-1,"output_buffer_size":-1,"output_buffer_timeout":-1}`))
	f.Add([]byte(`{"msg_timeout":9223372036854775807}`))
	opts := NewOptions()
	before := settings{heartbeat: 30 * time.Second, outputBufferSize: defaultOutputBufferSize, outputBufferTimeout: opts.OutputBufferTimeout, msgTimeout: opts.MsgTimeout}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req identifyRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		s, err := before.with(&req, opts)
		if err != nil {
			var refused *protocol.Error
			if !errors.As(err, &refused) || !refused.Fatal || refused.Code != protocol.CodeBadBody {
				t.Fatalf("%s: %v", body, err)
			}
			return
		}
		if s.heartbeat < 0 || s.heartbeat > opts.MaxHeartbeatInterval || s.heartbeat > 0 && s.heartbeat < time.Second ||
			s.outputBufferSize < 1 || int64(s.outputBufferSize) > opts.MaxOutputBufferSize ||
			s.outputBufferTimeout < 0 || s.outputBufferTimeout > opts.MaxOutputBufferTimeout ||
			s.sampleRate < 0 || s.sampleRate > 99 || s.msgTimeout < time.Second || s.msgTimeout > opts.MaxMsgTimeout {
			t.Fatalf("%s: %+v", body, s)
		}
	})
}

// A metadata file is refused or gives valid names, each topic once.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"topics":[{"name":"t","paused":true,"channels":[{"name":"c","paused":false}]}],"version":"1.3.0"}`))
	f.Add([]byte(`{"topics":null,"version":"1.3.0"}`))
	f.Add([]byte(`{"topics":[{"name":"t"},{"name":"../x","channels":[{}]},{"name":"t","channels":[{"name":"c"}]}]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), metadataFile)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		m := newMetadata(filepath.Dir(path), NewOptions().logger(), func() []*Topic { return nil })
		topics, err := m.load()
		if err != nil {
			if !strings.HasPrefix(err.Error(), "failed to parse metadata in "+path+" - ") {
				t.Fatal(err)
			}
			return
		}
		seen := make(map[string]bool)
		for _, topic := range topics {
			if !protocol.IsValidTopicName(topic.Name) || seen[topic.Name] {
				t.Fatalf("topic %q", topic.Name)
			}
			seen[topic.Name] = true
			for _, c := range topic.Channels {
				if !protocol.IsValidChannelName(c.Name) {
					t.Fatalf("channel %q", c.Name)
				}
			}
		}
	})
}

// What fin and skip take in one go is what line and SplitParams make of it.
func FuzzShortcuts(f *testing.F) {
	f.Add([]byte("FIN 0123456789abcdef\nFIN"))
	f.Add([]byte("FIN 0123456789abcde\r\nNOP\n"))
	f.Add([]byte("FIN 01234567 9abcdef\n"))
	f.Add([]byte("FIN 01234567\n9abcdef\n"))
	f.Add([]byte("FIN \xff123456789abcde\x80\n"))
	f.Add([]byte("PUB t\n\x00\x00\x00\x01a"))
	f.Add([]byte("PUB t \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), smallInput)] // all arrives at once
		input := func() *input {
			in := newInput(bytes.NewReader(b), func() error { return nil })
			if len(b) > 0 {
				if err := in.fill(); err != nil {
					t.Fatal(err)
				}
			}
			return in
		}
		slow := input()
		line, err := slow.line()
		words := protocol.SplitParams(line, nil)
		well := err == nil && len(words) == 2 && len(b)-slow.buffered() == len(line)+1

		fast := input()
		id, ok := fast.fin()
		isFin := well && string(words[0]) == "FIN" && len(words[1]) == len(id)
		if ok && (!isFin || string(words[1]) != id.String() || fast.buffered() != slow.buffered()) {
			t.Errorf("%q: took a FIN of %q, and left %d bytes", b, id, fast.buffered())
		}
		if plain := !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\n' }); isFin && plain && !ok {
			t.Errorf("%q: took no FIN", b)
		}
		isPub := well && string(line) == "PUB t"
		if ok := fast.skip("PUB t\n"); !isFin && ok != isPub {
			t.Errorf("%q: took a PUB %t, want %t", b, ok, isPub)
		}
	})
}
