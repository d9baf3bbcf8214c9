package nsqtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// A Case is one conversation of a transcript file.
//
// A file holds cases, each under a title. The steps are lines:
//
//	== a requeued message comes again
//	daemon --msg-timeout=1m
//	C> "  V2"
//	C> SUB t ch
//	S< OK
//	C> PUB t "a"
//	S< OK
//	C> RDY 1
//	S< MSG $1 attempts=1 body="a"
//	C> REQ $1 0
//	S< MSG $1 attempts=2 body="a"
//
// Empty lines and lines that start with # mean nothing. Text is in Go strings,
// back quotes included. daemon gives flags for the case, or, before the first
// title, for all cases of the file. C> is what the client sends:
//
//	C> NAME param …         the line and LF
//	C> NAME … "body"        a 4-byte length and the body follow
//	C> NAME … ["a" "b"]     so does the body of MPUB
//	C> NAME … {"k":1}       so does a JSON body, to the end of the line
//	C> "\x00\n" "x"*5       bytes, in Go strings, as they are
//	C> (close write)        the client has no more to send
//	C> (close)              the client is gone
//
// S< is what the server must send next, nothing skipped:
//
//	S< OK                   a response frame with this one word
//	S< RESPONSE "text"      a response frame
//	S< ERR "text"           an error frame
//	S< MSG $1 attempts=1 body="a"
//	S< JSON {…}             a response frame with this object, in any order;
//	                        with ... before the last brace, other keys may follow
//	S< HEARTBEAT
//	S< CLOSE                the end of the connection
//	S< "\x00"               bytes, in Go strings
//
// $name stands for a message ID: bound at its first MSG, the same from then on,
// in any C> line that is not made of Go strings. C2> and S2< are a second
// connection, C3> a third. H> and H< speak to the HTTP API:
//
//	H> POST /channel/pause?topic=t&channel=ch
//	H< 200
//	H> POST /pub?topic=t "a"
//	H< 200 "OK"
type Case struct {
	Name  string
	Flags []string // the daemon's, as "--msg-timeout=1m"
	steps []step
}

// A step is one line of a transcript.
type step struct {
	where string // file and line
	text  string // as written
	conn  string // "" for C> and S<, "2" for C2> and S2<
	kind  byte   // C, S or H, and h for H<
	what  string // what follows the kind
}

var stepLine = regexp.MustCompile(`^([CS])([0-9]*)([<>]) +(.*)$`)

// ReadTranscript reads the cases of a file.
func ReadTranscript(file string) ([]Case, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	cases, err := parseTranscript(file, string(content))
	if err != nil {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	return cases, nil
}

func parseTranscript(file, content string) ([]Case, error) {
	var all []string // flags for every case
	var cases []Case
	number := 0
	for line := range strings.SplitSeq(content, "\n") {
		number++
		where := fmt.Sprintf("%s:%d", file, number)
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "== "):
			cases = append(cases, Case{Name: line[3:], Flags: all[:len(all):len(all)]})
		case strings.HasPrefix(line, "daemon ") && len(cases) == 0:
			all = append(all, strings.Fields(line)[1:]...)
		case len(cases) == 0:
			return nil, fmt.Errorf("%s: step before the first title", where)
		case strings.HasPrefix(line, "daemon "):
			last := &cases[len(cases)-1]
			last.Flags = append(last.Flags, strings.Fields(line)[1:]...)
		default:
			s, err := parseStep(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
			s.where, s.text = where, line
			last := &cases[len(cases)-1]
			last.steps = append(last.steps, s)
		}
	}
	return cases, nil
}

func parseStep(line string) (step, error) {
	if what, ok := strings.CutPrefix(line, "H> "); ok {
		return step{kind: 'H', what: what}, nil
	}
	if what, ok := strings.CutPrefix(line, "H< "); ok {
		return step{kind: 'h', what: what}, nil
	}
	m := stepLine.FindStringSubmatch(line)
	if m == nil || (m[1] == "C") != (m[3] == ">") {
		return step{}, fmt.Errorf("no step: %s", line)
	}
	return step{kind: m[1][0], conn: m[2], what: m[4]}, nil
}

// clientBytes returns what a C> line stands for.
func clientBytes(what string, ids map[string]protocol.MessageID) ([]byte, error) {
	if strings.HasPrefix(what, `"`) {
		raw, err := unquoteAll(what)
		return []byte(raw), err
	}
	line, body, hasBody := cutBody(what)
	line, err := substitute(line, ids)
	if err != nil {
		return nil, err
	}
	b := append([]byte(line), '\n')
	if !hasBody {
		return b, nil
	}
	switch body[0] {
	case '{':
	case '[':
		bodies, err := unquoteList(strings.TrimSuffix(body[1:], "]"))
		if err != nil {
			return nil, err
		}
		body = mpubBody(bodies)
	default:
		if body, err = unquoteAll(body); err != nil {
			return nil, err
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...), nil
}

// cutBody splits a command line before the quote, bracket or brace that opens
// its body.
func cutBody(what string) (line, body string, found bool) {
	for i := 1; i < len(what); i++ {
		if what[i-1] == ' ' && strings.IndexByte(`"[{`, what[i]) >= 0 {
			return what[:i-1], what[i:], true
		}
	}
	return what, "", false
}

var variable = regexp.MustCompile(`\$[a-z0-9]+`)

// substitute puts message IDs in the place of their variables.
func substitute(line string, ids map[string]protocol.MessageID) (string, error) {
	var err error
	line = variable.ReplaceAllStringFunc(line, func(name string) string {
		id, ok := ids[name]
		if !ok {
			err = fmt.Errorf("%s is not bound yet", name)
		}
		return id.String()
	})
	return line, err
}

// unquoteAll joins Go strings, each with an optional *count.
func unquoteAll(text string) (string, error) {
	parts, err := unquoteList(text)
	return strings.Join(parts, ""), err
}

func unquoteList(text string) ([]string, error) {
	var parts []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return nil, fmt.Errorf("want a Go string: %s", text)
		}
		part, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("unquote %s: %w", quoted, err)
		}
		text = text[len(quoted):]
		if factor, ok := strings.CutPrefix(text, "*"); ok {
			digits := factor[:len(factor)-len(strings.TrimLeft(factor, "0123456789"))]
			n, err := strconv.Atoi(digits)
			if err != nil {
				return nil, fmt.Errorf("want a count: %s", text)
			}
			part, text = strings.Repeat(part, n), factor[len(digits):]
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// An expectedMessage is what an S< MSG line says; nil fields say nothing.
type expectedMessage struct {
	name     string // $1
	attempts *uint16
	body     *string
}

func parseMessage(what string) (expectedMessage, error) {
	name, rest, _ := strings.Cut(what, " ")
	if !variable.MatchString(name) {
		return expectedMessage{}, errors.New("MSG without $name")
	}
	m := expectedMessage{name: name}
	for rest = strings.TrimSpace(rest); rest != ""; {
		if value, ok := strings.CutPrefix(rest, "attempts="); ok {
			number, after, _ := strings.Cut(value, " ")
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				return m, fmt.Errorf("attempts of MSG: %w", err)
			}
			attempts := uint16(n)
			m.attempts, rest = &attempts, strings.TrimSpace(after)
		} else if value, ok := strings.CutPrefix(rest, "body="); ok {
			body, err := unquoteAll(value)
			if err != nil {
				return m, err
			}
			m.body, rest = &body, ""
		} else {
			return m, fmt.Errorf("MSG with %s", rest)
		}
	}
	return m, nil
}
