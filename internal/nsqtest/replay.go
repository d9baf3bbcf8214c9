package nsqtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// Chunks says how the client's bytes are cut into writes.
type Chunks int

const (
	// Together sends C> lines that follow each other in one write, as a client
	// that pipelines does.
	Together Chunks = iota
	// Bytes sends each byte in a write of its own.
	Bytes
)

func (c Chunks) String() string {
	return [...]string{"together", "bytes"}[c]
}

// Replay speaks the client's part of the case to the daemon at tcpAddr, and at
// httpAddr if the case has H> lines, and fails the test at the first step whose
// answer differs.
func (c Case) Replay(t testing.TB, tcpAddr, httpAddr string, chunks Chunks) {
	t.Helper()
	r := replay{
		t: t, tcpAddr: tcpAddr, httpAddr: httpAddr, chunks: chunks,
		conns: map[string]*Conn{}, ids: map[string]protocol.MessageID{},
		http: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       defaultTimeout,
		},
	}
	defer r.http.CloseIdleConnections()
	for i, s := range c.steps {
		if err := r.step(s, c.steps[i+1:]); err != nil {
			t.Fatalf("%s: %s\n%v", s.where, s.text, err)
		}
	}
}

// A replay is a case being spoken.
type replay struct {
	t                 testing.TB
	tcpAddr, httpAddr string
	chunks            Chunks
	conns             map[string]*Conn
	ids               map[string]protocol.MessageID
	pending           []byte // of lines to be sent together
	http              *http.Client
	answer            httpAnswer
}

type httpAnswer struct {
	status int
	body   string
}

func (r *replay) step(s step, following []step) error {
	switch s.kind {
	case 'C':
		more := len(following) > 0 && following[0].kind == 'C' && following[0].conn == s.conn
		return r.send(r.conn(s.conn), s.what, more)
	case 'S':
		return r.receive(r.conn(s.conn), s.what)
	case 'H':
		return r.request(s.what)
	default:
		return r.response(s.what)
	}
}

// conn returns the connection of that name; its first use dials.
func (r *replay) conn(name string) *Conn {
	if r.conns[name] == nil {
		r.conns[name] = DialSilent(r.t, r.tcpAddr)
	}
	return r.conns[name]
}

func (r *replay) send(c *Conn, what string, more bool) error {
	if strings.HasPrefix(what, "(") {
		_ = c.write(r.pending) // see below
		r.pending = nil
		return hangUp(c, what)
	}
	b, err := clientBytes(what, r.ids)
	if err != nil {
		return err
	}
	// A write that fails is not the transcript's business: a server may close
	// after an error while we still send. What it said is in the next S< line.
	switch r.chunks {
	case Together:
		r.pending = append(r.pending, b...)
		if !more {
			_ = c.write(r.pending)
			r.pending = nil
		}
	case Bytes:
		for i := range b {
			if c.write(b[i:i+1]) != nil {
				break
			}
		}
	}
	return nil
}

func hangUp(c *Conn, what string) error {
	switch what {
	case "(close write)":
		c.CloseWrite()
	case "(close)":
		c.Close()
	default:
		return errors.New("want (close write) or (close)")
	}
	return nil
}

func (r *replay) receive(c *Conn, what string) error {
	if strings.HasPrefix(what, `"`) {
		want, err := unquoteAll(what)
		if err != nil {
			return err
		}
		if got, err := c.readRaw(len(want)); got != want {
			return fmt.Errorf("got %s (%v)", quote(got), err)
		}
		return nil
	}
	got, err := c.read()
	if what == "CLOSE" {
		if err == nil {
			return fmt.Errorf("got %v", got)
		}
		if !closedByPeer(err) {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	return r.compare(got, what)
}

func (r *replay) compare(got Frame, what string) error {
	keyword, rest, _ := strings.Cut(what, " ")
	want := Frame{Type: protocol.FrameResponse}
	var err error
	switch keyword {
	case "MSG":
		return r.compareMessage(got, rest)
	case "JSON":
		return compareJSON(got, rest)
	case "HEARTBEAT":
		want.Data = heartbeat
	case "RESPONSE":
		want.Data, err = unquoteAll(rest)
	case "ERR":
		want.Type = protocol.FrameError
		if rest, err = substitute(rest, r.ids); err == nil {
			want.Data, err = unquoteAll(rest)
		}
	default:
		want.Data = what
	}
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("got %v", got)
	}
	return nil
}

func (r *replay) compareMessage(got Frame, rest string) error {
	want, err := parseMessage(rest)
	if err != nil {
		return err
	}
	m, err := got.message()
	if err != nil {
		return fmt.Errorf("got %v", got)
	}
	if id, bound := r.ids[want.name]; !bound {
		r.ids[want.name] = m.ID
	} else if m.ID != id {
		return fmt.Errorf("got %v, and %s is %s", got, want.name, id)
	}
	if want.attempts != nil && m.Attempts != *want.attempts || want.body != nil && m.Body != *want.body {
		return fmt.Errorf("got %v", got)
	}
	return nil
}

func compareJSON(got Frame, want string) error {
	open := strings.HasSuffix(want, "...}")
	if open {
		want = strings.TrimRight(strings.TrimSuffix(want, "...}"), ", ") + "}"
	}
	var wantKeys, gotKeys map[string]any
	if err := json.Unmarshal([]byte(want), &wantKeys); err != nil {
		return fmt.Errorf("expected JSON: %w", err)
	}
	if got.Type != protocol.FrameResponse || json.Unmarshal([]byte(got.Data), &gotKeys) != nil {
		return fmt.Errorf("got %v", got)
	}
	for key, value := range wantKeys {
		if found, ok := gotKeys[key]; !ok || !reflect.DeepEqual(found, value) {
			return fmt.Errorf("%s is %v, in %v", key, found, got)
		}
	}
	if !open && len(gotKeys) != len(wantKeys) {
		return fmt.Errorf("got other keys: %v", got)
	}
	return nil
}

// request sends an H> line: method, path, and a body in Go strings.
func (r *replay) request(what string) error {
	line, body, _ := cutBody(what)
	method, path, found := strings.Cut(line, " ")
	if !found {
		return errors.New("no method and path")
	}
	body, err := unquoteAll(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.httpAddr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := r.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	r.answer = httpAnswer{response.StatusCode, string(answer)}
	return err
}

// response compares an H< line: a status, and a body in Go strings.
func (r *replay) response(what string) error {
	status, rest, _ := strings.Cut(what, " ")
	code, err := strconv.Atoi(status)
	if err != nil {
		return err
	}
	body, err := unquoteAll(rest)
	if err != nil {
		return err
	}
	if want := (httpAnswer{code, body}); r.answer != want {
		return fmt.Errorf("got %d %s", r.answer.status, quote(r.answer.body))
	}
	return nil
}
