package nsqd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
)

// Errors of publishing over HTTP.
var (
	errMsgTooBig    = refusal(http.StatusRequestEntityTooLarge, "MSG_TOO_BIG")
	errMsgUnread    = httpapi.Error{Status: http.StatusRequestEntityTooLarge, Text: "MSG_TOO_BIG", Unread: true}
	errMsgEmpty     = refusal(http.StatusBadRequest, "MSG_EMPTY")
	errInvalidDefer = refusal(http.StatusBadRequest, "INVALID_DEFER")
	errBodyUnread   = httpapi.Error{Status: http.StatusRequestEntityTooLarge, Text: "BODY_TOO_BIG", Unread: true}
	errBadBody      = refusal(http.StatusRequestEntityTooLarge, "BAD_BODY")
	errBadMessage   = refusal(http.StatusRequestEntityTooLarge, "BAD_MESSAGE")
	errUnreadable   = refusal(http.StatusInternalServerError, "INTERNAL_ERROR")
	errNotAccepted  = httpapi.Error{Status: http.StatusServiceUnavailable, Text: "EXITING"}

	errRefusedInDrain = refusal(http.StatusServiceUnavailable, "DRAINING")
)

// postPub answers POST /pub: the body is one message. The topic comes into being
// only if the request is in order.
func (n *NSQD) postPub(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	opts := n.options()
	if r.ContentLength > opts.MaxMsgSize {
		return nil, errMsgUnread
	}
	body, err := readBody(r, opts.MaxMsgSize)
	if err != nil {
		return nil, errUnreadable // the client is gone, or too slow
	}
	if int64(len(body)) > opts.MaxMsgSize {
		return nil, errMsgUnread
	}
	if len(body) == 0 {
		return nil, errMsgEmpty
	}
	topic, params, err := publishParams(r)
	if err != nil {
		return nil, err
	}
	delayMs, err := deferParam(params, opts.MaxReqTimeout)
	if err != nil {
		return nil, err
	}
	one := singles.Get().(*[1]entry)
	one[0] = newEntry(n.svc.ids, body, delayMs)
	result, err := n.publish(topic, one[:])
	one[0] = entry{}
	singles.Put(one)
	return result, err
}

// publishParams returns the topic of a publish, and all parameters.
func publishParams(r *http.Request) (topic string, params httpapi.Params, err error) {
	if params, err = httpapi.Query(r); err != nil {
		return "", nil, err
	}
	topic, err = topicParam(params, errInvalidTopic)
	return topic, params, err
}

// singles holds lists for one message, so that publishing need not allocate one.
var singles = sync.Pool{New: func() any { return new([1]entry) }}

// deferParam returns the delay that a request asks for, in milliseconds, 0 for
// none.
func deferParam(params httpapi.Params, longest time.Duration) (uint32, error) {
	text, ok := params.Get("defer")
	if !ok {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 || ms > int64(longest/time.Millisecond) {
		return 0, errInvalidDefer
	}
	return uint32(ms), nil // longest is at most maxDelay
}

// postMpub answers POST /mpub: the body is a batch of messages, one per line or
// in the binary form of the MPUB command. Nothing is published, and no topic
// comes into being, unless all of it is in order.
func (n *NSQD) postMpub(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	opts := n.options()
	limit := min(opts.MaxBodySize, maxBatchBody)
	if r.ContentLength > limit {
		return nil, errBodyUnread
	}
	topic, params, err := publishParams(r)
	if err != nil {
		return nil, err
	}
	body, err := readBody(r, limit)
	parse := parseLines
	if n.binaryParam(params) {
		parse = parseBatch // a batch that breaks off is a bad one, for whatever reason
	} else if err != nil {
		return nil, errUnreadable
	}
	wire, bounds, err := parse(body, limit, opts.MaxMsgSize)
	if err != nil {
		return nil, err
	}
	return n.publish(topic, appendEntries(nil, n.svc.ids, wire, bounds, 0))
}

// maxBatchBody is the longest batch taken over HTTP, whatever --max-body-size: lines
// take up to 2.5 times as much in memory, and a batch is at most maxWire.
const maxBatchBody = 1 << 30

// binaryParam reports whether a batch is in binary form: yes for any value that
// does not say no.
func (n *NSQD) binaryParam(params httpapi.Params) bool {
	value, ok := params.Get("binary")
	if !ok {
		return false
	}
	switch value {
	case "false", "0":
		return false
	case "true", "1":
		return true
	}
	n.log.Warn(fmt.Sprintf("deprecated value '%s' used for /mpub binary param", value))
	return true
}

// parseLines splits a batch of one message per line. Its checks go line by line,
// so the first limit that is broken decides. The messages are copied, into sized form.
func parseLines(body []byte, limit, maxMsgSize int64) (wire []byte, bounds []uint32, err error) {
	tooBig := int64(len(body)) > limit
	if tooBig { // which the last line shows: its own length is not looked at
		body = body[:bytes.LastIndexByte(body[:len(body)-1], '\n')+1]
	}
	lines := splitLines(body)
	for _, line := range lines {
		if int64(len(line)) > maxMsgSize {
			return nil, nil, errMsgTooBig
		}
	}
	if tooBig {
		return nil, nil, errBodyUnread
	}
	wire, bounds = sizedForm(lines)
	return wire, bounds, nil
}

// parseBatch splits a batch in binary form: a 4-byte count, and for each message
// a 4-byte size and as many bytes. What follows is ignored. The messages alias
// body.
func parseBatch(body []byte, limit, maxMsgSize int64) (wire []byte, bounds []uint32, err error) {
	if len(body) < 4 {
		return nil, nil, errBadBody
	}
	announced := int32(binary.BigEndian.Uint32(body))
	if !validCount(announced, limit) {
		return nil, nil, errBadBody
	}
	wire = body[4:]
	p := batchParser{count: int(announced), maxSize: maxMsgSize}
	complete, err := p.parse(wire)
	switch {
	case err != nil:
		return nil, nil, errBadMessage
	case complete:
		return wire[:p.at], p.bounds, nil
	case int64(len(body)) > limit:
		return nil, nil, errBodyUnread
	}
	return nil, nil, errBadMessage
}

// publish hands entries to the topic of that name, which it creates if need be,
// and returns the answer.
func (n *NSQD) publish(topic string, entries []entry) (any, error) {
	if n.drain.refusing.Load() {
		return nil, errRefusedInDrain
	}
	t, err := n.GetTopic(topic)
	if err == nil {
		_, err = t.PutMessages(entries)
	}
	if err == nil {
		return "OK", nil
	}
	if !errors.Is(err, errExiting) {
		n.log.Error(fmt.Sprintf("TOPIC(%s) ERROR: failed to write message to backend - %s", topic, err))
	}
	return nil, errNotAccepted
}

// bodyAhead is how much memory a body gets before it has arrived.
const bodyAhead = 64 << 10

// readBody reads the body of r into memory of its own; of one longer than limit
// it reads limit + 1 bytes. Memory grows with what arrives. With an error comes
// what has arrived before it.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	size, first := r.ContentLength, int64(bodyAhead)
	if size < 0 {
		size, first = limit+1, 4096
	}
	body := make([]byte, 0, min(size, first))
	for int64(len(body)) < size {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(size, 3*int64(len(body)))), body...)
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			break // a body shorter than announced is another error
		}
		if err != nil {
			return body, err
		}
	}
	// Messages keep this memory: it must not be much more than they need.
	if cap(body)-len(body) > len(body)/4 {
		body = append(make([]byte, 0, len(body)), body...)
	}
	return body, nil
}
