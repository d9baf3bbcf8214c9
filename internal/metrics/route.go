package metrics

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/nsq-suite/nsq/internal/httpapi"
)

// Route adds GET /metrics to api, with what [Handler] serves and
// <program>_http_requests_total, which tells what api has answered.
func Route(api *httpapi.API, program string, log *slog.Logger, gather func(*Samples)) {
	api.Raw(http.MethodGet, "/metrics", Handler(program, log, func(s *Samples) {
		gather(s)
		requests := s.Counter(program+"_http_requests_total",
			"Requests answered, by route and status; without a route those that match none.")
		for _, r := range api.Requests() {
			requests.Add(float64(r.Count), NewLabels("code", strconv.Itoa(r.Status), "method", r.Method, "route", r.Path))
		}
	}))
}
