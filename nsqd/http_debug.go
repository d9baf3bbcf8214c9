package nsqd

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
)

// debugRoutes adds what helps to look into the process: profiles, and two
// switches that answer an empty 200 where the daemon they come from, having done
// its work, answers 500.
func debugRoutes(api *httpapi.API) {
	api.Pprof()
	api.Handle(http.MethodPut, "/debug/setblockrate", putBlockRate, httpapi.Plain, httpapi.Guarded)
	api.Handle(http.MethodPost, "/debug/freememory", postFreeMemory, httpapi.Guarded)
}

// putBlockRate answers PUT /debug/setblockrate?rate=N: the profile of blocking
// samples one event per N nanoseconds spent blocked, none for 0.
func putBlockRate(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	rate, err := strconv.Atoi(r.FormValue("rate"))
	if err != nil {
		return nil, refusal(http.StatusBadRequest, fmt.Sprintf("invalid block rate : %s", err))
	}
	runtime.SetBlockProfileRate(rate)
	return nil, nil
}

// postFreeMemory answers POST /debug/freememory.
func postFreeMemory(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	debug.FreeOSMemory()
	return nil, nil
}
