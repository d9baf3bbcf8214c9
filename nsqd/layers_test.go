package nsqd

import (
	"bytes"
	stdflate "compress/flate"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// inLayers runs test in a bubble per combination of layers. connect returns a
// client that has agreed on them; more is further fields of its IDENTIFY.
func inLayers(t *testing.T, test func(t *testing.T, b *bubble, connect func(more string) *nsqtest.Conn)) {
	for _, layers := range []string{"", "tls", "snappy", "deflate", "tls+snappy", "tls+deflate"} {
		t.Run("layers "+layers, func(t *testing.T) {
			ca := nsqtest.NewCA(t)
			cert, key := ca.IssueFiles("nsqd")
			synctest.Test(t, func(t *testing.T) {
				b := startBubble(t, func(o *Options) { o.TLSCert, o.TLSKey = cert, key })
				test(t, b, func(more string) *nsqtest.Conn { return connectLayers(b, ca.Client(), layers, more) })
			})
		})
	}
}

func connectLayers(b *bubble, config *tls.Config, layers, more string) *nsqtest.Conn {
	c := b.connect()
	secure, compressed := strings.Contains(layers, "tls"), strings.TrimPrefix(strings.TrimPrefix(layers, "tls"), "+")
	c.CommandBody(fmt.Sprintf(`{"feature_negotiation":true,"tls_v1":%t,"snappy":%t,"deflate":%t%s}`,
		secure, compressed == "snappy", compressed == "deflate", more), "IDENTIFY").ExpectJSON(new(any))
	if secure {
		c.StartTLS(config)
	}
	switch compressed {
	case "snappy":
		c.StartSnappy()
	case "deflate":
		c.StartDeflate()
	}
	return c
}

// Heartbeats come through the layers, and answers keep the connection alive; one
// who does not answer is dropped.
func TestHeartbeatThroughLayers(t *testing.T) {
	inLayers(t, func(t *testing.T, _ *bubble, connect func(string) *nsqtest.Conn) {
		c := connect(`,"heartbeat_interval":1000`)
		for range 10 {
			c.ExpectHeartbeat().Nop()
		}
		start := time.Now()
		c.ExpectHeartbeat().ExpectHeartbeat().ExpectClosed()
		if silent := time.Since(start); silent < 2*time.Second || silent > 2500*time.Millisecond {
			t.Errorf("dropped after %v", silent)
		}
	})
}

// noise returns n bytes that do not compress.
func noise(n int) string {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = random.Read(b) // it never fails
	return string(b)
}

// A client gets 5 s for its handshake.
func TestHandshakeTimeout(t *testing.T) {
	cert, key := nsqtest.NewCA(t).IssueFiles("nsqd")
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.TLSCert, o.TLSKey = cert, key })
		c := b.connect()
		synctest.Wait() // the messagePump sleeps: one that waits for output.mu would stop the clock
		c.CommandBody(`{"feature_negotiation":true,"tls_v1":true}`, "IDENTIFY").ExpectJSON(new(any))
		start := time.Now()
		frame := c.ReadFrame()
		if frame.Type != protocol.FrameError || !strings.HasPrefix(frame.Data, "E_IDENTIFY_FAILED IDENTIFY failed ") {
			t.Errorf("got %v", frame)
		}
		nsqtest.Equal(t, time.Since(start), handshakeTimeout)
		c.ExpectClosed()
	})
}

// A stop does not wait for a handshake.
func TestStopDuringHandshake(t *testing.T) {
	cert, key := nsqtest.NewCA(t).IssueFiles("nsqd")
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.TLSCert, o.TLSKey = cert, key })
		c := b.connect()
		synctest.Wait() // the messagePump sleeps: one that waits for output.mu would stop the clock
		c.CommandBody(`{"feature_negotiation":true,"tls_v1":true}`, "IDENTIFY").ExpectJSON(new(any))
		start := time.Now()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > lastWords {
			t.Errorf("the stop took %v", took)
		}
		c.ExpectClosed()
	})
}

// Answers to commands that came in many pieces go out in one, as without layers:
// the socket is written to once all that has arrived is used up.
func TestAnswersGatherThroughLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		client, server := nsqtest.Pipe()
		counting := &countingConn{Conn: server}
		b.conns.join(counting, 0, func() { b.handle(counting) })
		c := nsqtest.Wrap(t, client).Send(protocol.MagicV2)
		c.CommandBody(`{"feature_negotiation":true,"snappy":true}`, "IDENTIFY").ExpectJSON(new(any))
		c.StartSnappy()
		synctest.Wait()
		before := counting.writes.Load()

		var chunks bytes.Buffer
		w := snappy.NewBufferedWriter(&chunks)
		for range 100 {
			if _, err := w.Write([]byte("PUB t\n\x00\x00\x00\x01a")); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := client.Write(chunks.Bytes()); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			c.ExpectOK()
		}
		if n := counting.writes.Load() - before; n > 3 {
			t.Errorf("100 answers took %d writes", n)
		}
	})
}

// countingConn counts writes, which come from one goroutine at a time.
type countingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// What the writers write, independent readers read: any size, any sequence of
// writes and flushes.
func TestCompressors(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{
		"snappy":  func(r io.Reader) io.Reader { return snappy.NewReader(r) },
		"deflate": func(r io.Reader) io.Reader { return stdflate.NewReader(r) },
	}
	for level := range 10 {
		name := "deflate"
		if level == 0 {
			name = "snappy"
		}
		var wire bytes.Buffer
		var w compressor = newSnappyWriter(&wire)
		if level > 0 {
			w = newDeflateWriter(&wire, level)
		}
		r := readers[name](&wire)
		random := rand.New(rand.NewPCG(uint64(level), 0))
		for range 50 {
			var want []byte
			for range random.IntN(4) {
				part := []byte(okFrame)
				switch random.IntN(4) {
				case 0:
					part = []byte(noise(random.IntN(1 << random.IntN(18))))
				case 1:
					part = bytes.Repeat([]byte("ab"), random.IntN(1<<random.IntN(18)))
				}
				want = append(want, part...)
				if n, err := w.Write(part); err != nil || n != len(part) {
					t.Fatalf("write %d bytes: %d, %v", len(part), n, err)
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s %d: %d bytes came out wrong (%v)", name, level, len(want), err)
			}
		}
		w.release()
	}
}

// The first OK is the same bytes in every implementation, at every level of ours.
// Source: TCP protocol spec, "Byte-level test vectors".
func TestFirstOK(t *testing.T) {
	for level := range 10 {
		var wire bytes.Buffer
		var w compressor = newSnappyWriter(&wire)
		want := "\xff\x06\x00\x00\x73\x4e\x61\x50\x70\x59\x01\x0e\x00\x00\x26\x98\x2b\xcf" + okFrame
		if level > 0 {
			w = newDeflateWriter(&wire, level)
			want = "\x62\x60\x60\x60\x63\x60\x60\x60\xf0\xf7\x06\x00\x00\x00\xff\xff"
		}
		if _, err := w.Write([]byte(okFrame)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		nsqtest.Equal(t, wire.String(), want)
		w.release()
	}
}

// Compressors that have been released are used again, from their beginning, also
// where the connection ended in the middle of something.
func TestPooledCompressors(t *testing.T) {
	for range 3 {
		for _, compression := range []string{"snappy", "deflate"} {
			var wire bytes.Buffer
			var w compressor = newSnappyWriter(&wire)
			var r decompressor = newSnappyReader(&wire)
			if compression == "deflate" {
				w = newDeflateWriter(&wire, 6)
				var err error
				if r, err = newDeflateReader(&wire); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Write([]byte("whole")); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			wire.WriteString("\x03garbage")
			got := make([]byte, 5)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "whole" {
				t.Fatalf("%s: got %q, %v", compression, got, err)
			}
			if n, err := r.Read(make([]byte, 100)); err == nil {
				t.Errorf("%s: %d bytes of garbage are accepted", compression, n)
			}
			if _, err := w.Write([]byte("cut off")); err != nil {
				t.Fatal(err)
			}
			w.release()
			r.release()
		}
	}
}

// A client that only publishes costs no deflate state: all it is sent is OK.
func TestDeflateStateIsBorrowedLate(t *testing.T) {
	w := newDeflateWriter(io.Discard, 6)
	for range 3 {
		if _, err := w.Write([]byte(okFrame)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if w.z != nil {
		t.Error("OK has borrowed the state")
	}
}

// No input breaks the readers, or makes them keep on without an end.
func FuzzDecompressors(f *testing.F) {
	for _, compression := range []string{"snappy", "deflate"} {
		var wire bytes.Buffer
		var w compressor = newSnappyWriter(&wire)
		if compression == "deflate" {
			w = newDeflateWriter(&wire, 6)
		}
		for _, part := range []string{okFrame, "PUB t\n\x00\x00\x00\x01a", strings.Repeat("ab", 1000)} {
			if _, err := w.Write([]byte(part)); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			f.Fatal(err)
		}
		f.Add(compression == "snappy", wire.Bytes())
	}
	f.Fuzz(func(t *testing.T, framed bool, data []byte) {
		var r decompressor = newSnappyReader(bytes.NewReader(data))
		if !framed {
			var err error
			if r, err = newDeflateReader(bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		defer r.release()
		most := int64(len(data))*1100 + 1<<17 // DEFLATE expands 1032 times at most
		if n, _ := io.Copy(io.Discard, io.LimitReader(r, most)); n == most {
			t.Errorf("%d bytes became %d", len(data), n)
		}
	})
}
