package httpapi

import (
	"net/http"
	"net/http/pprof"
	"time"
)

// Pprof adds the routes of net/http/pprof below /debug/pprof/, the index among
// them. They are Guarded: they show the command line and what is in memory.
func (a *API) Pprof() {
	a.Raw(http.MethodGet, "/debug/pprof/", http.HandlerFunc(pprof.Index), Guarded)
	a.Raw(http.MethodGet, "/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline), Guarded)
	a.Raw(http.MethodGet, "/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol), Guarded)
	a.Raw(http.MethodPost, "/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol), Guarded)
	a.Raw(http.MethodGet, "/debug/pprof/profile", unhurried(http.HandlerFunc(pprof.Profile)), Guarded)
	a.Raw(http.MethodGet, "/debug/pprof/trace", unhurried(http.HandlerFunc(pprof.Trace)), Guarded)
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		a.Raw(http.MethodGet, "/debug/pprof/"+name, unhurried(pprof.Handler(name)), Guarded)
	}
}

// unhurried lifts the deadlines of the connection. Without that a profile of more
// than readTimeout ends early: the server watches the connection while the handler
// runs, takes the deadline for a lost client, and cancels the request.
func unhurried(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The only error is that there is no deadline to lift.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{})
		_ = control.SetWriteDeadline(time.Time{})
		h.ServeHTTP(w, r)
	})
}
