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
	"log/slog"
	"net/http"
	"runtime/debug"
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
)

// An API is an [http.Handler] for a set of routes. Requests that match none
// get the answers of section 1.5: 404 NOT_FOUND, 405 METHOD_NOT_ALLOWED with
// Allow, 200 with Allow for OPTIONS, and redirects to the exact path.
// Add all routes before serving; after that calls may overlap.
type API struct {
	router *httprouter.Router
	log    *slog.Logger
	routes []*route
	other  *route // requests that match none
}

// New returns an API without routes. It logs one INFO line per request,
// "<status> <METHOD> <URI> (<remote>) <duration>", and panics as ERROR.
func New(log *slog.Logger) *API {
	a := &API{router: httprouter.New(), log: log, other: new(route)}
	a.routes = append(a.routes, a.other)
	a.router.NotFound = a.failing(Error{http.StatusNotFound, "NOT_FOUND"})
	a.router.MethodNotAllowed = a.failing(Error{http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED"})
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
	var plain, unlogged bool
	for _, m := range modes {
		plain = plain || m == Plain
		unlogged = unlogged || m == Unlogged
	}
	served := &route{method: method, path: path}
	a.routes = append(a.routes, served)
	a.router.Handle(method, path, func(w http.ResponseWriter, r *http.Request, ps httprouter.Params) {
		start := time.Now()
		result, err := a.call(h, w, r, ps)
		status := a.respond(w, plain, result, err)
		served.count(status)
		if !unlogged {
			a.logAccess(r, status, start)
		}
	})
}

// Raw adds a route whose handler writes its answer itself: no header, no
// access log.
func (a *API) Raw(method, path string, h http.Handler) {
	a.router.Handler(method, path, h)
}

// failing answers every request with the same error.
func (a *API) failing(e Error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.Refuse(w, r, e) })
}

// Refuse answers a request that is not to get as far as its route.
func (a *API) Refuse(w http.ResponseWriter, r *http.Request, e Error) {
	start := time.Now()
	a.other.count(e.Status)
	a.logAccess(r, a.respond(w, false, nil, e), start)
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
	a.logAccess(r, a.respond(w, false, nil, a.panicked(p)), start)
}

// panicked logs the panic and returns the answer. http.ErrAbortHandler is
// passed on: it is how a handler asks the server to cut the connection.
func (a *API) panicked(p any) Error {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	a.log.Error(fmt.Sprintf("panic in HTTP handler - %v", p), "stack", debug.Stack())
	return internalError
}

var internalError = Error{http.StatusInternalServerError, "INTERNAL_ERROR"}

// respond writes the answer and returns its status.
func (a *API) respond(w http.ResponseWriter, plain bool, result any, err error) int {
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
		a.log.Error("HTTP handler failed", "err", err)
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
	if !a.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := strconv.Itoa(status) + " " + r.Method + " " + r.URL.RequestURI() + " (" + r.RemoteAddr + ") " + time.Since(start).String()
	a.log.LogAttrs(ctx, slog.LevelInfo, line)
}
