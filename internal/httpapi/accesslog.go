package httpapi

import (
	"errors"
	"net/http"
	"strings"
)

// An AccessLog says which requests are logged. It is a [flag.Value]. The zero
// value is AccessAll.
type AccessLog int

// The values of --http-access-log.
const (
	AccessAll     AccessLog = iota // "all"
	AccessChanges                  // "changes": not those that read and succeed, as monitoring does all day
	AccessErrors                   // "errors": those that fail
	AccessNone                     // "none"
)

var accessLogs = [...]string{"all", "changes", "errors", "none"}

// Set reads all, changes, errors or none in any letter case; on error l is
// unchanged.
func (l *AccessLog) Set(text string) error {
	for i, name := range accessLogs {
		if strings.EqualFold(text, name) {
			*l = AccessLog(i)
			return nil
		}
	}
	return errors.New("must be all, changes, errors or none")
}

// String returns the word that Set reads.
func (l AccessLog) String() string { return accessLogs[l] }

// MarshalText returns the word, for JSON.
func (l AccessLog) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (l AccessLog) wants(method string, status int) bool {
	switch l {
	case AccessAll:
		return true
	case AccessChanges:
		return method != http.MethodGet || status >= http.StatusBadRequest
	case AccessErrors:
		return status >= http.StatusBadRequest
	}
	return false
}
