package httpapi_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// A sink is where an answer goes.
type sink struct{ header http.Header }

func (s sink) Header() http.Header         { return s.header }
func (s sink) WriteHeader(int)             {}
func (s sink) Write(b []byte) (int, error) { return len(b), nil }

// requests are what is asked often, and how many allocations each may take beside what
// net/http needs.
var requests = []struct {
	method, path string
	allocations  float64
}{
	{http.MethodPost, "/pub", 2},
	{http.MethodGet, "/raw", 1},
	{http.MethodGet, "/object", 2},
}

// answering returns a function that answers one of the requests.
func answering(t testing.TB, method, path string) func() {
	api := newAPI(slog.New(slog.DiscardHandler))
	r, err := http.NewRequest(method, "http://nsqd"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := sink{make(http.Header)}
	return func() {
		clear(w.header)
		api.ServeHTTP(w, r)
	}
}

func TestRequestsAllocateLittle(t *testing.T) {
	for _, r := range requests {
		nsqtest.AllocatesAtMost(t, r.allocations, r.method+" "+r.path, answering(t, r.method, r.path))
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, r := range requests {
		b.Run(r.method+" "+r.path, func(b *testing.B) {
			run := answering(b, r.method, r.path)
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}
