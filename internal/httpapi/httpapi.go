// Package httpapi serves the HTTP APIs of the daemons: routes, JSON in the form
// that NSQ clients expect, error bodies, access log.
//
// A [Handler] returns what it has to say and does not write it. Source of the
// rules: HTTP and operations spec, section 1.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/julienschmidt/httprouter"
)

// ContentTypeHeader and ContentTypeValue are the response header that tells
// clients the format of the body. A client library that misses it decodes the
// envelope of old daemons and sees empty data.
const (
	ContentTypeHeader = "X-Nsq-Content-Type"
	ContentTypeValue  = "nsq; version=1.0"
)

// nsqContentType is the value of ContentTypeHeader, shared by all answers.
var nsqContentType = []string{ContentTypeValue}

// An Error is the answer to a request that failed: a status of 400 or more and
// the body {"message":"Text"}, or just Text on a [Plain] route. Tools match on
// the text.
type Error struct {
	Status int
	Text   string

	// Unread says that there may be more of the body than the handler has read and
	// than is worth reading: the connection ends with the answer.
	Unread bool
}

// Error returns the text.
func (e Error) Error() string { return e.Text }

// A Handler answers one request. w is for additional headers only. The answer
// is status 200 and
//
//	nil             an empty body without Content-Type
//	string, []byte  those bytes as text; without Content-Type when empty
//	AppendJSON      the JSON that it appends
//	Answer          the JSON of its Body, with its Status
//	anything else   its JSON: compact, <, > and & escaped, no line break at the end
//
// or, if err is not nil, what the [Error] in it says. Any other error is
// logged, and answered by 500 INTERNAL_ERROR; so is a panic.
type Handler func(w http.ResponseWriter, r *http.Request, params httprouter.Params) (result any, err error)

// AppendJSON is a result that appends its JSON to dst and returns it. The buffer
// is used again for other answers: it suits large answers that are asked for
// often. It cannot fail; it may take locks, since nothing is sent before it is
// done.
type AppendJSON func(dst []byte) []byte

// An Answer is a result with a status of its own.
type Answer struct {
	Status int
	Body   any
}

// buffers are for AppendJSON. One that a huge answer has blown up is not kept.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const maxPooledBuffer = 4 << 20

// A Mode changes how an [API] treats a route.
type Mode int

const (
	// Plain answers without the X-NSQ-Content-Type header, errors as text.
	Plain Mode = iota + 1
	// Unlogged keeps the route out of the access log.
	Unlogged
	// Guarded answers only those whom the API's Guard lets in. Routes that change
	// something other than by publishing, or reveal how the daemon is set up, are.
	Guarded
)

// An API is an [http.Handler] for a set of routes. Requests that match none
// get the answers of section 1.5: 404 NOT_FOUND, 405 METHOD_NOT_ALLOWED with
// Allow, 200 with Allow for OPTIONS, and redirects to the exact path.
// Add all routes before serving; after that calls may overlap.
type API struct {
	Config
	router *httprouter.Router
	routes []*route
	other  *route // requests that match none
}

// A Config is what an API needs of its daemon.
type Config struct {
	Guard     *Guard           // watches the Guarded routes
	AccessLog func() AccessLog // which requests are logged
	Log       *slog.Logger
}

// New returns an API without routes. It logs one INFO line per request that the
// AccessLog wants, "<status> <METHOD> <URI> (<remote>) <duration>", and panics as
// ERROR.
func New(c Config) *API {
	a := &API{Config: c, router: httprouter.New()}
	a.other = a.route("", "")
	a.router.NotFound = a.failing(Error{Status: http.StatusNotFound, Text: "NOT_FOUND"})
	a.router.MethodNotAllowed = a.failing(Error{Status: http.StatusMethodNotAllowed, Text: "METHOD_NOT_ALLOWED"})
	a.router.PanicHandler = a.rawPanic
	return a
}

// ServeHTTP answers the request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "" { // "GET http://host HTTP/1.1": the router expects a slash
		r.URL.Path = "/"
	}
	a.router.ServeHTTP(w, r)
}

// Handle adds a route. The path may have segments like :name, which the
// handler finds in its params. It panics if the route is already there.
func (a *API) Handle(method, path string, h Handler, modes ...Mode) {
	served := a.route(method, path)
	plain, unlogged, guarded := slices.Contains(modes, Plain), slices.Contains(modes, Unlogged), slices.Contains(modes, Guarded)
	a.router.Handle(method, path, func(w http.ResponseWriter, r *http.Request, ps httprouter.Params) {
		start := time.Now()
		if guarded && a.refused(w, r, start, served) {
			return
		}
		result, err := a.call(h, w, r, ps)
		status := a.respond(w, r, plain, result, err, start)
		served.count(status)
		if !unlogged {
			a.logAccess(r, status, start)
		}
	})
}

// Raw adds a route whose handler writes its answer itself: no header, no
// access log. Of the modes it knows Guarded.
func (a *API) Raw(method, path string, h http.Handler, modes ...Mode) {
	if !slices.Contains(modes, Guarded) {
		a.router.Handler(method, path, h)
		return
	}
	served := a.route(method, path)
	a.router.Handler(method, path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.refused(w, r, time.Now(), served) {
			h.ServeHTTP(w, r)
		}
	}))
}

// refused answers a request that the guard does not admit, logs it on all routes,
// and reports whether it did.
func (a *API) refused(w http.ResponseWriter, r *http.Request, start time.Time, served *route) bool {
	err := a.Guard.admit(w, r)
	if err == nil {
		return false
	}
	status := a.respond(w, r, false, nil, err, start)
	served.count(status)
	a.logAccess(r, status, start)
	return true
}

// failing answers every request with the same error.
func (a *API) failing(e Error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.Refuse(w, r, e) })
}

// Refuse answers a request that is not to get as far as its route.
func (a *API) Refuse(w http.ResponseWriter, r *http.Request, e Error) {
	start := time.Now()
	a.other.count(e.Status)
	a.logAccess(r, a.respond(w, r, false, nil, e, start), start)
}

// call runs the handler; a panic becomes an error.
func (a *API) call(h Handler, w http.ResponseWriter, r *http.Request, ps httprouter.Params) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = a.panicked(p)
		}
	}()
	return h(w, r, ps)
}

// rawPanic serves panics of Raw handlers. What they have written stays.
func (a *API) rawPanic(w http.ResponseWriter, r *http.Request, p any) {
	start := time.Now()
	a.logAccess(r, a.respond(w, r, false, nil, a.panicked(p), start), start)
}

// panicked logs the panic and returns the answer. http.ErrAbortHandler is
// passed on: it is how a handler asks the server to cut the connection.
func (a *API) panicked(p any) Error {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	a.Log.Error(fmt.Sprintf("panic in HTTP handler - %v", p), "stack", debug.Stack())
	return internalError
}

var internalError = Error{Status: http.StatusInternalServerError, Text: "INTERNAL_ERROR"}

// respond writes the answer to a request that came at start, and returns its
// status.
func (a *API) respond(w http.ResponseWriter, r *http.Request, plain bool, result any, err error, start time.Time) int {
	if time.Since(start) > writeTimeout/2 {
		// The time for the answer runs from the request on. Its handler has taken much
		// of it; without a deadline to move there is no need to.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	if appendJSON, ok := result.(AppendJSON); ok && err == nil {
		buf := buffers.Get().(*[]byte)
		body := appendJSON((*buf)[:0])
		status := write(w, plain, http.StatusOK, body, jsonType)
		if cap(body) <= maxPooledBuffer {
			*buf = body
			buffers.Put(buf)
		}
		return status
	}
	status, body, bodyType := a.render(plain, result, err)
	if e, ok := errors.AsType[Error](err); ok && e.Unread {
		return writeAndDrain(w, r, plain, status, body, bodyType)
	}
	return write(w, plain, status, body, bodyType)
}

// write sends the answer and returns the status.
func write(w http.ResponseWriter, plain bool, status int, body []byte, bodyType []string) int {
	header := w.Header()
	if !plain {
		header[ContentTypeHeader] = nsqContentType
	}
	if len(body) > 0 {
		header["Content-Type"] = bodyType
	} else {
		header.Del("Content-Type")
		header.Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	// A failed write means that the client is gone.
	_, _ = w.Write(body)
	return status
}

// What is read of a body that is too big, behind the answer to it.
const (
	drainBytes = 32 << 20
	drainTime  = 5 * time.Second
)

// writeAndDrain is write for a request whose body is not wanted. Many clients look
// for an answer only when they have sent all of it; closing the connection before
// would reset it under their hands. One that waits for 100 Continue sends nothing.
func writeAndDrain(w http.ResponseWriter, r *http.Request, plain bool, status int, body []byte, bodyType []string) int {
	w.Header().Set("Connection", "close")
	if r.Header.Get("Expect") != "" {
		return write(w, plain, status, body, bodyType)
	}
	control := http.NewResponseController(w)
	// Of a server that cannot do this the client gets what it would without.
	_ = control.EnableFullDuplex()
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // or its end would come with that of the handler
	write(w, plain, status, body, bodyType)
	_ = control.Flush()
	_ = control.SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.CopyN(io.Discard, r.Body, drainBytes)
	return status
}

// The values of Content-Type, shared by all answers.
var (
	textType = []string{"text/plain; charset=utf-8"}
	jsonType = []string{"application/json; charset=utf-8"}
)

func (a *API) render(plain bool, result any, err error) (status int, body []byte, bodyType []string) {
	if err == nil {
		switch result := result.(type) {
		case nil:
			return http.StatusOK, nil, nil
		case string:
			return http.StatusOK, []byte(result), textType
		case []byte:
			return http.StatusOK, result, textType
		}
		answer, ok := result.(Answer)
		if !ok {
			answer = Answer{http.StatusOK, result}
		}
		if body, err = json.Marshal(answer.Body); err == nil {
			return answer.Status, body, jsonType
		}
		err = fmt.Errorf("encode answer: %w", err)
	}
	e, ok := errors.AsType[Error](err)
	if !ok {
		a.Log.Error("HTTP handler failed", "err", err)
		e = internalError
	}
	if plain {
		return e.Status, []byte(e.Text), textType
	}
	body, err = json.Marshal(struct {
		Message string `json:"message"`
	}{e.Text})
	if err != nil {
		panic(err) // a struct of one string always has a JSON form
	}
	return e.Status, body, jsonType
}

func (a *API) logAccess(r *http.Request, status int, start time.Time) {
	ctx := context.Background()
	if !a.Log.Enabled(ctx, slog.LevelInfo) || !a.AccessLog().wants(r.Method, status) {
		return
	}
	line := strconv.Itoa(status) + " " + r.Method + " " + r.URL.RequestURI() + " (" + r.RemoteAddr + ") " + time.Since(start).String()
	a.Log.LogAttrs(ctx, slog.LevelInfo, line)
}
