package httpapi

import (
	"log/slog"
	"net/http"
	"time"
)

// Limits of the server that NewServer makes.
const (
	readHeaderTimeout = 10 * time.Second // from the first byte of a request to the end of its header
	readTimeout       = time.Minute      // to the end of its body
	idleTimeout       = 5 * time.Minute  // between requests on a kept-alive connection; pollers ask every 60 s
	maxHeaderBytes    = 64 << 10
)

// NewServer returns a server for h, HTTP/1.1 only, that bounds the time to
// read a request and to wait for the next one, and the size of its header.
// Answers have no time limit: profiles take as long as they are asked to.
// What the library complains about goes to log as WARNING.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
