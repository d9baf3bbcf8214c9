package nsqd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// output is the way to one client: what the IOLoop answers and what the
// messagePump delivers, in one stream of frames.
//
// Frames gather in a buffer, which is written when it is full, before the IOLoop
// waits for more commands (if it has answered any), and by the messagePump by the
// rules of output buffering. The buffer is borrowed only while it holds something.
type output struct {
	mu   sync.Mutex // guards all below; held for one burst of frames, and while writing them
	conn net.Conn
	w    io.Writer // conn, or the topmost layer over it
	buf  []byte
	size int   // gather so many bytes before writing
	err  error // of the first write that failed; nothing is written after it

	// writes counts the begins and ends of writes: it is odd during one. It may
	// be read without mu.
	writes atomic.Uint64

	compressor compressor // w, or nil for none

	timeout  time.Duration
	deadline time.Time // last set on conn

	answered atomic.Bool // buf holds an answer, not just messages; written under mu
	ending   atomic.Bool // set by end
}

// defaultOutputBufferSize is for clients that do not choose. Source: TCP protocol
// spec, "Delivery to a consumer and output buffering".
const defaultOutputBufferSize = 16 << 10

// directBody is the size from which a body is written from where it lies rather
// than copied into the buffer.
const directBody = 16 << 10

var outputBuffers = sync.Pool{New: func() any { b := make([]byte, 0, defaultOutputBufferSize); return &b }}

func newOutput(conn net.Conn, timeout time.Duration) *output {
	return &output{conn: conn, w: conn, size: defaultOutputBufferSize, timeout: timeout}
}

// configure sets the buffer size in bytes (1 writes every frame at once) and how
// long a write may take (0: for ever).
func (o *output) configure(size int, timeout time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.flushLocked()
	o.size, o.timeout = size, timeout
	o.deadline = time.Time{}
	if timeout == 0 && err == nil {
		err = o.setDeadlineLocked(time.Time{})
	}
	return err
}

// respondLocked sends a response frame, and what is before it, now.
func (o *output) respondLocked(data string) error {
	if o.err != nil {
		return o.err
	}
	o.borrowLocked()
	o.buf = protocol.AppendFrame(o.buf, protocol.FrameResponse, []byte(data))
	return o.flushLocked()
}

// answer adds a response or error frame, to be flushed before the IOLoop waits.
func (o *output) answer(t protocol.FrameType, data string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.borrowLocked()
	o.buf = protocol.AppendFrame(o.buf, t, []byte(data))
	o.answered.Store(true)
	return o.flushFullLocked()
}

// answerOK adds n frames "OK".
func (o *output) answerOK(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.borrowLocked()
	for range n {
		o.buf = append(o.buf, okFrame...)
	}
	o.answered.Store(true)
	return o.flushFullLocked()
}

var okFrame = string(protocol.AppendFrame(nil, protocol.FrameResponse, []byte("OK")))

// deliver adds message frames; each entry is one message, with its ID in ids.
func (o *output) deliver(entries []entry, ids []MessageID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	for i := range entries {
		e := &entries[i]
		body := e.body()
		frame := protocol.FrameOverhead + protocol.MinMessageSize + len(body)
		if len(o.buf) > 0 && len(o.buf)+frame > o.size {
			if err := o.flushLocked(); err != nil {
				return err
			}
		}
		o.borrowLocked()
		o.buf = protocol.AppendMessageFrameHead(o.buf, e.batch.nanos, e.attempts, ids[i], len(body))
		if frame > o.size && len(body) >= directBody {
			if err := o.writeLocked(net.Buffers{o.buf, bytesOf(body)}); err != nil {
				return err
			}
			continue
		}
		o.buf = append(o.buf, body...)
	}
	return o.flushFullLocked()
}

// flushAnswers writes everything if it contains an answer. Otherwise it does not
// wait for mu: a client may write FINs for as long as its socket takes them, before
// it reads what the messagePump is writing meanwhile. If the IOLoop waited for that,
// neither would read.
func (o *output) flushAnswers() error {
	if !o.answered.Load() {
		return nil // a write that failed has closed the socket: the next read tells
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.answered.Load() {
		return o.err
	}
	return o.flushLocked()
}

// flush writes everything.
func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flushLocked()
}

// pending reports whether something waits to be written.
func (o *output) pending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) > 0
}

func (o *output) flushFullLocked() error {
	if len(o.buf) < o.size {
		return nil
	}
	return o.flushLocked()
}

func (o *output) flushLocked() error {
	if o.err != nil || len(o.buf) == 0 {
		return o.err
	}
	return o.writeLocked(nil)
}

// writeLocked writes what, of which the first is the buffer, or nil for the buffer
// alone, and returns the buffer.
func (o *output) writeLocked(what net.Buffers) error {
	defer o.releaseLocked()
	o.writes.Add(1)
	defer o.writes.Add(1)
	if o.err = o.extendDeadlineLocked(); o.err != nil {
		return o.err
	}
	if what == nil {
		_, o.err = o.w.Write(o.buf)
	} else {
		buffers := what // what itself would be on the heap for each write
		_, o.err = buffers.WriteTo(o.w)
	}
	if o.err == nil && o.compressor != nil {
		o.err = o.compressor.Flush()
	}
	if o.err != nil {
		// The IOLoop must not go on reading from a client that cannot be
		// answered: closing wakes it.
		o.err = errors.Join(o.err, o.conn.Close())
	}
	return o.err
}

// extendDeadlineLocked lets a write take at least the timeout. Setting a deadline
// costs as much as a small write, so one set for an eighth longer serves all
// writes of that time.
func (o *output) extendDeadlineLocked() error {
	if o.timeout == 0 {
		return nil
	}
	now := time.Now()
	if o.deadline.Sub(now) >= o.timeout {
		return nil
	}
	return o.setDeadlineLocked(now.Add(o.timeout + o.timeout/8))
}

// setDeadlineLocked sets when a write fails, the zero time for never; end says
// better.
func (o *output) setDeadlineLocked(t time.Time) error {
	o.deadline = t
	if err := o.conn.SetWriteDeadline(t); err != nil {
		return err
	}
	if o.ending.Load() {
		return o.conn.SetWriteDeadline(time.Now().Add(lastWords))
	}
	return nil
}

// lastWords is how long the last writes on a connection may take.
const lastWords = time.Second

// end gives a write in progress, and each one after it, no more than lastWords. It
// does not wait for them.
func (o *output) end() {
	o.ending.Store(true)
	// It fails for a closed socket only, on which no write waits.
	_ = o.conn.SetWriteDeadline(time.Now().Add(lastWords))
}

// closeNotify tells the client that the stream ends here: without it a client
// cannot tell the end from a cut.
func (o *output) closeNotify(t *tls.Conn) {
	o.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		_ = t.CloseWrite() // the client may be gone
	}
}

// release ends the output and returns what it has borrowed. Nothing can be written
// any more.
func (o *output) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = net.ErrClosed
	}
	o.releaseLocked()
	if o.compressor != nil {
		o.compressor.release()
		o.compressor, o.w = nil, o.conn
	}
}

func (o *output) borrowLocked() {
	if o.buf == nil {
		o.buf = borrowBuffer()
	}
}

func (o *output) releaseLocked() {
	returnBuffer(o.buf)
	o.buf = nil
	o.answered.Store(false)
}

// borrowBuffer returns an empty buffer of at least defaultOutputBufferSize.
func borrowBuffer() []byte { return (*outputBuffers.Get().(*[]byte))[:0] }

// maxPooledBuffer keeps buffers that grew for one large frame out of the pools.
const maxPooledBuffer = 128 << 10

func returnBuffer(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooledBuffer {
		outputBuffers.Put(&b)
	}
}
