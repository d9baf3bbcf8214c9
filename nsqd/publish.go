package nsqd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// A publishRun gathers consecutive PUBs, or DPUBs of one delay, to one topic. The
// bodies lie in the input buffer, so a run ends before more is read.
type publishRun struct {
	name    string // topic; "" before the first
	line    string // a PUB to it, as it mostly comes
	topic   *Topic // nil until the first run to this name
	bodies  [][]byte
	command string
	delayMs uint32
}

// maxRun bounds a run, and with it how much memory one message that stays can
// keep alive.
const maxRun = 256

func (c *conn) pub(params [][]byte) error {
	if len(params) < 2 {
		return fatalError(protocol.CodeInvalid, "PUB insufficient number of parameters", nil)
	}
	if err := c.beginRun("PUB", params[1], 0); err != nil {
		return err
	}
	for {
		if err := c.gather("PUB"); err != nil {
			return err
		}
		if !c.in.skip(c.run.line) { // else it goes on, and there is nothing to split or to check
			return nil
		}
	}
}

func (c *conn) dpub(params [][]byte) error {
	if len(params) < 3 {
		return fatalError(protocol.CodeInvalid, "DPUB insufficient number of parameters", nil)
	}
	if !protocol.IsValidTopicName(params[1]) {
		return fatalError(protocol.CodeBadTopic, fmt.Sprintf("DPUB topic name %q is not valid", params[1]), nil)
	}
	ms, err := protocol.ParseDecimal(params[2])
	if errors.Is(err, protocol.ErrNotDecimal) {
		return fatalError(protocol.CodeInvalid, fmt.Sprintf("DPUB could not parse timeout %s", params[2]), err)
	}
	if most := uint64(c.svc.opts().MaxReqTimeout / time.Millisecond); ms > most {
		return fatalError(protocol.CodeInvalid, fmt.Sprintf("DPUB timeout %d out of range 0-%d", ms, most), err)
	}
	if err := c.beginRun("DPUB", params[1], uint32(ms)); err != nil {
		return err
	}
	return c.gather("DPUB")
}

// beginRun ends the run under way unless this command continues it.
func (c *conn) beginRun(command string, topic []byte, delayMs uint32) error {
	r := &c.run
	if len(c.fins) == 0 && r.command == command && r.delayMs == delayMs && string(topic) == r.name {
		return nil
	}
	if err := c.endRuns(); err != nil {
		return err
	}
	if string(topic) != r.name || len(topic) == 0 { // at first r.name is empty too
		if !protocol.IsValidTopicName(topic) {
			return fatalError(protocol.CodeBadTopic, fmt.Sprintf("%s topic name %q is not valid", command, topic), nil)
		}
		r.name, r.topic = string(topic), nil
		r.line = "PUB " + r.name + "\n"
	}
	r.command, r.delayMs = command, delayMs
	return nil
}

// gather reads the body of a PUB or DPUB. A body that has arrived joins the run;
// one that has not is read into memory of its own and published by itself.
func (c *conn) gather(command string) error {
	n, err := c.in.size()
	if err != nil {
		return unreadable(protocol.CodeBadMessage, command+" failed to read message body size", err)
	}
	if n <= 0 {
		return fatalError(protocol.CodeBadMessage, fmt.Sprintf("%s invalid message body size %d", command, n), nil)
	}
	if most := c.svc.opts().MaxMsgSize; int64(n) > most {
		return fatalError(protocol.CodeBadMessage, fmt.Sprintf("%s message too big %d > %d", command, n, most), nil)
	}
	if body := c.in.peek(int(n)); body != nil {
		if len(c.run.bodies) == 0 { // those that follow in a run came with it
			if err := c.mayPublish(command); err != nil {
				return err
			}
		}
		c.run.bodies = append(c.run.bodies, body)
		if len(c.run.bodies) == maxRun {
			return c.endPublishRun()
		}
		return nil
	}
	if err := c.endRuns(); err != nil {
		return err
	}
	ahead := c.svc.credit.borrow(int(n))
	body, err := protocol.ReadBodyAhead(c.in, int(n), ahead)
	c.svc.credit.giveBack(ahead)
	if err != nil {
		return unreadable(protocol.CodeBadMessage, command+" failed to read message body", err)
	}
	if err := c.mayPublish(command); err != nil {
		return err
	}
	c.run.bodies = append(c.run.bodies, body)
	return c.publish(command, false)
}

// unreadable is the answer to a command whose body does not come. What went wrong
// while earlier commands were finished is not the body's fault.
func unreadable(code, desc string, cause error) error {
	var refused *protocol.Error
	if errors.As(cause, &refused) {
		return cause
	}
	return fatalError(code, desc, cause)
}

func (c *conn) endPublishRun() error { return c.publish(c.run.command, true) }

// publish hands the run's bodies, one at least, to the topic and answers each. With
// inBuffer they must be copied.
func (c *conn) publish(command string, inBuffer bool) error {
	r := &c.run
	defer func() { r.bodies = reusable(r.bodies) }()
	entries := r.appendEntries(c.entries[:0], c.svc.ids, inBuffer)
	n, err := c.putRun(entries)
	c.entries = reusable(entries)
	if n > 0 {
		if err := c.out.answerOK(n); err != nil {
			return err
		}
	}
	if err != nil {
		return fatalError("E_"+command+"_FAILED", fmt.Sprintf("%s failed %s", command, err), err)
	}
	return nil
}

// appendEntries appends the run's messages to into. Several are always copied: they
// share their memory.
func (r *publishRun) appendEntries(into []entry, ids *idSource, copied bool) []entry {
	if len(r.bodies) > 1 {
		wire, bounds := sizedForm(r.bodies)
		return appendEntries(into, ids, wire, bounds, r.delayMs)
	}
	body := r.bodies[0]
	if copied {
		body = bytes.Clone(body)
	}
	return append(into, newEntry(ids, body, r.delayMs))
}

// putRun hands a run to its topic and returns how many messages were accepted
// before the first that was not. Each is a command of its own: if the run cannot
// be stored as a whole, its beginning may.
func (c *conn) putRun(entries []entry) (int, error) {
	if _, err := c.put(entries); err == nil {
		return countOf(entries), nil
	}
	n := 0
	for _, e := range entries {
		for _, one := range e.singly(nil) {
			if _, err := c.put([]entry{one}); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// put hands entries to the run's topic, which takes all or none. A topic that was
// deleted since the last run is created anew. It reports whether messages are kept in
// memory.
func (c *conn) put(entries []entry) (kept bool, err error) {
	if c.svc.refusing.Load() {
		return false, errDraining // before a topic comes into being
	}
	r := &c.run
	if r.topic == nil || r.topic.closing.Load() {
		t, err := c.svc.topic(r.name)
		if err != nil {
			return false, err
		}
		r.topic = t
	}
	if kept, err = r.topic.PutMessages(entries); err != nil {
		return false, err
	}
	c.published(r.name, countOf(entries))
	return kept, nil
}

func (c *conn) mpub(params [][]byte) error {
	if len(params) < 2 {
		return fatalError(protocol.CodeInvalid, "MPUB insufficient number of parameters", nil)
	}
	if !protocol.IsValidTopicName(params[1]) {
		// The code stands twice in what clients have always been sent.
		return fatalError(protocol.CodeBadTopic, fmt.Sprintf("E_BAD_TOPIC MPUB topic name %q is not valid", params[1]), nil)
	}
	if err := c.beginRun("MPUB", params[1], 0); err != nil {
		return err
	}
	if err := c.mayPublish("MPUB"); err != nil {
		return err
	}
	wire, bounds, err := c.readBatch()
	if err != nil {
		return err
	}
	entries := appendEntries(c.entries[:0], c.svc.ids, wire, bounds, 0)
	kept, err := c.put(entries)
	c.entries = reusable(entries)
	c.batch.reset(kept || err != nil)
	if err != nil {
		return fatalError(protocol.CodeMpubFailed, "MPUB failed "+err.Error(), err)
	}
	return c.out.answerOK(1)
}

// maxReused keeps the scratch memory of an unusually large batch from staying
// with its connection.
const maxReused = 1024

// reusable returns the memory of scratch for the next use, without what was in
// it.
func reusable[T any](scratch []T) []T {
	if cap(scratch) > maxReused {
		return nil
	}
	clear(scratch)
	return scratch[:0]
}

// readBatch reads the messages of an MPUB, in sized form. Its announced size is checked against the
// limit, but where it ends is decided by the counts and sizes in it, as clients
// exist that announce it wrongly.
func (c *conn) readBatch() (wire []byte, bounds []uint32, err error) {
	opts := c.svc.opts()
	n, err := c.in.size()
	if err != nil {
		return nil, nil, unreadable(protocol.CodeBadBody, "MPUB failed to read body size", err)
	}
	if n <= 0 {
		return nil, nil, fatalError(protocol.CodeBadBody, fmt.Sprintf("MPUB invalid body size %d", n), nil)
	}
	if int64(n) > opts.MaxBodySize {
		return nil, nil, fatalError(protocol.CodeBadBody, fmt.Sprintf("MPUB body too big %d > %d", n, opts.MaxBodySize), nil)
	}
	count, err := c.in.size()
	if err != nil {
		return nil, nil, unreadable(protocol.CodeBadBody, "MPUB failed to read message count", err)
	}
	if !validCount(count, opts.MaxBodySize) {
		return nil, nil, fatalError(protocol.CodeBadBody, fmt.Sprintf("MPUB invalid message count %d", count), nil)
	}
	if c.batch == nil {
		c.batch = new(batchParser)
	}
	c.batch.count, c.batch.maxSize = int(count), opts.MaxMsgSize
	announced := int(n) - 4 // not more, or what follows the batch would be read with it
	ahead := c.svc.credit.borrow(announced)
	wire, err = c.batch.read(c.in, announced, ahead)
	c.svc.credit.giveBack(ahead)
	var bad *batchError
	if errors.As(err, &bad) {
		return nil, nil, bad.mpub()
	}
	return wire, slices.Clone(c.batch.bounds), err
}

// validCount reports whether a batch of count messages fits into a body of the
// largest size: each takes at least 5 bytes.
func validCount(count int32, maxBodySize int64) bool {
	return count > 0 && int64(count) <= (maxBodySize-4)/5
}

// A batchParser checks the messages of an MPUB: count times a 4-byte size and as
// many bytes.
type batchParser struct {
	count   int
	maxSize int64

	at     int      // bytes parsed so far
	size   int      // of the body that begins at at; 0 where a size is next
	bounds []uint32 // of the messages parsed so far, see batch
	buf    []byte   // what read has read
}

// reset makes the parser ready for another batch. Unless the bodies are kept, their
// memory is used again.
func (p *batchParser) reset(kept bool) {
	if buf := p.buf; !kept && cap(buf) > 0 {
		batchBuffers[sizeClass(cap(buf))].Put(&buf)
	}
	*p = batchParser{bounds: reusable(p.bounds)}
}

// batchBuffers are for batches that are on disk before the next one comes: small ones,
// and large ones by their size, so that a batch that is kept has not much more memory
// than it needs.
var batchBuffers [32]sync.Pool // of *[]byte; by sizeClass

// sizeClass is which of batchBuffers is for n bytes.
func sizeClass(n int) int { return min(bits.Len(uint(n)/maxPooledBuffer), len(batchBuffers)-1) }

// batchBuffer returns memory for a batch of n bytes.
func batchBuffer(n int) []byte {
	if used, _ := batchBuffers[sizeClass(n)].Get().(*[]byte); used != nil && cap(*used) >= n {
		return (*used)[:0:n]
	}
	return make([]byte, 0, n)
}

// A batchError is what is wrong with one message of a batch.
type batchError struct {
	index   int
	inSize  bool  // the batch ends in a size
	inBody  bool  // the batch ends in a body
	size    int32 // otherwise this size is out of bounds
	maxSize int64
	err     error
}

func (e *batchError) Error() string { return e.mpub().Error() }

// mpub is the error frame for it. Source: TCP protocol spec, MPUB.
func (e *batchError) mpub() *protocol.Error {
	switch {
	case e.inSize:
		return fatalError(protocol.CodeBadMessage, fmt.Sprintf("MPUB failed to read message(%d) body size", e.index), e.err)
	case e.inBody:
		return fatalError(protocol.CodeBadMessage, "MPUB failed to read message body", e.err)
	case e.size <= 0:
		return fatalError(protocol.CodeBadMessage, fmt.Sprintf("MPUB invalid message(%d) body size %d", e.index, e.size), nil)
	}
	return fatalError(protocol.CodeBadMessage, fmt.Sprintf("MPUB message too big %d > %d", e.size, e.maxSize), nil)
}

// parsed is how many messages are complete.
func (p *batchParser) parsed() int { return max(len(p.bounds)-1, 0) }

// parse goes on through b, which begins with what was parsed before. It reports
// whether all messages are there.
func (p *batchParser) parse(b []byte) (complete bool, err error) {
	if len(p.bounds) == 0 {
		p.bounds = append(p.bounds, 0)
	}
	for p.parsed() < p.count {
		if p.size == 0 {
			if len(b) < p.at+4 {
				return false, nil
			}
			n := int32(binary.BigEndian.Uint32(b[p.at:]))
			if n <= 0 || int64(n) > p.maxSize || int64(p.at)+sizePrefix+int64(n) > maxWire {
				return false, &batchError{index: p.parsed(), size: n, maxSize: p.maxSize}
			}
			p.at += 4
			p.size = int(n)
		}
		if len(b) < p.at+p.size {
			return false, nil
		}
		p.at += p.size
		p.bounds = append(p.bounds, uint32(p.at))
		p.size = 0
	}
	return true, nil
}

// ended is the error of a batch that ends here.
func (p *batchParser) ended(cause error) *batchError {
	return &batchError{index: p.parsed(), inSize: p.size == 0, inBody: p.size > 0, err: cause}
}

// read returns a batch from in, of which announced bytes are expected, parsed as it
// arrives. It gets memory for ahead bytes before.
func (p *batchParser) read(in *input, announced, ahead int) ([]byte, error) {
	b := batchBuffer(max(ahead, 5))
	for {
		if len(b) == cap(b) {
			size := 3 * len(b)
			if len(b) < announced {
				size = min(size, announced)
			}
			b = append(make([]byte, 0, size), b...)
		}
		n, err := in.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		complete, bad := p.parse(b)
		if bad != nil {
			return nil, bad
		}
		if complete {
			in.unread(b[p.at:])
			p.buf = b
			return b[:p.at], nil
		}
		if err != nil {
			var refused *protocol.Error
			if errors.As(err, &refused) {
				return nil, err
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, p.ended(err)
		}
	}
}

// splitLines returns the messages of a text batch: the lines of b without LF,
// empty ones left out. They alias b.
func splitLines(b []byte) (lines [][]byte) {
	for line := range bytes.SplitSeq(b, []byte{'\n'}) {
		if len(line) > 0 {
			lines = append(lines, line[:len(line):len(line)])
		}
	}
	return lines
}
