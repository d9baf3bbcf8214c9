package httpapi

import (
	"net/http"

	"github.com/julienschmidt/httprouter"
)

// Health adds /health/live and /health/ready, for GET and HEAD, out of the access
// log.
//
// Live answers 200 and {"status":"ok"} as long as the process answers at all:
// where it does not, a restart may help. Ready answers the same while notReady
// returns no reason, and else 503 and {"status":"unavailable","reasons":[...]}:
// then a restart does not help, and traffic should go elsewhere.
func (a *API) Health(notReady func() (reasons []string)) {
	live := func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
		return healthy, nil
	}
	ready := func(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
		if reasons := notReady(); len(reasons) > 0 {
			return Answer{http.StatusServiceUnavailable, health{"unavailable", reasons}}, nil
		}
		return healthy, nil
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		a.Handle(method, "/health/live", live, Unlogged)
		a.Handle(method, "/health/ready", ready, Unlogged)
	}
}

// health is the body of an answer about health.
type health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

var healthy = health{Status: "ok"}
