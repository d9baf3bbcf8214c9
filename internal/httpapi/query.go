package httpapi

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Params are the parameters of a request: those in the query string of its
// URL, never those of a form in its body.
type Params []param

type param struct{ key, value string }

// Query returns the parameters of the request. A raw ";" or a bad % escape
// anywhere in the query string is an error, the [Error] 400 INVALID_REQUEST.
// It leaves the body alone.
func Query(r *http.Request) (Params, error) {
	rest := r.URL.RawQuery
	if rest == "" {
		return nil, nil
	}
	params := make(Params, 0, strings.Count(rest, "&")+1)
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "&")
		if part == "" {
			continue
		}
		if strings.Contains(part, ";") {
			return nil, invalidRequest
		}
		rawKey, rawValue, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(rawKey)
		if err != nil {
			return nil, invalidRequest
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return nil, invalidRequest
		}
		params = append(params, param{key, value})
	}
	return params, nil
}

var invalidRequest = Error{Status: http.StatusBadRequest, Text: "INVALID_REQUEST"}

// Get returns the first value of the parameter, and whether it is present. It
// may be present and empty: ?topic= or ?topic.
func (p Params) Get(key string) (value string, ok bool) {
	for i := range p {
		if p[i].key == key {
			return p[i].value, true
		}
	}
	return "", false
}

// maxDiscarded is how much of a body nobody wants is read, in bytes.
const maxDiscarded = 1 << 20

// DiscardBody reads and drops the body of a request to an endpoint that takes
// none, so that the connection can be used again. A body beyond 1 MiB is left
// unread; the server then closes the connection after the answer.
func DiscardBody(r *http.Request) {
	// What cannot be read is not missed; the connection notices by itself.
	_, _ = io.CopyN(io.Discard, r.Body, maxDiscarded)
}
