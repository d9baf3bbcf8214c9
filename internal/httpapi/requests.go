package httpapi

import (
	"maps"
	"slices"
	"sync"
)

// A RequestCount is how many requests to one route got answers of one status.
// Method and Path are empty for requests that match no route.
type RequestCount struct {
	Method, Path string // as given to [API.Handle]
	Status       int
	Count        uint64
}

// Requests returns what has been answered so far: in the order of the routes, and
// for each in that of the status. Redirects are not counted, and of Raw routes only
// what the guard refuses.
func (a *API) Requests() []RequestCount {
	var list []RequestCount
	for _, r := range a.routes {
		r.mu.Lock()
		for _, status := range slices.Sorted(maps.Keys(r.counts)) {
			list = append(list, RequestCount{r.method, r.path, status, r.counts[status]})
		}
		r.mu.Unlock()
	}
	return list
}

// A route counts the requests to one route.
type route struct {
	method, path string

	mu     sync.Mutex
	counts map[int]uint64 // requests, by the status of the answer
}

// route makes what counts the requests of one route.
func (a *API) route(method, path string) *route {
	r := &route{method: method, path: path}
	a.routes = append(a.routes, r)
	return r
}

func (r *route) count(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[int]uint64)
	}
	r.counts[status]++
}
