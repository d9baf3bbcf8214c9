package nsqd

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/httpapi"
)

// Errors of /config.
var (
	errInvalidOption = refusal(http.StatusBadRequest, "INVALID_OPTION")
	errInvalidValue  = refusal(http.StatusBadRequest, "INVALID_VALUE")
	errNoValue       = refusal(http.StatusRequestEntityTooLarge, "INVALID_VALUE")
	errValueUnread   = httpapi.Error{Status: http.StatusRequestEntityTooLarge, Text: "INVALID_VALUE", Unread: true}
)

func (n *NSQD) configRoutes(api *httpapi.API) {
	api.Handle(http.MethodGet, "/config/:opt", n.getConfig, httpapi.Guarded)
	api.Handle(http.MethodPut, "/config/:opt", n.putConfig, httpapi.Guarded)
}

// getConfig answers GET /config/<key>: the value of the option that has this key in
// the config file, as text for a string and else as JSON; durations in nanoseconds,
// levels and TLS options as numbers.
func (n *NSQD) getConfig(_ http.ResponseWriter, _ *http.Request, params httprouter.Params) (any, error) {
	return optionValue(n.options(), params.ByName("opt"))
}

func optionValue(opts *Options, key string) (any, error) {
	if key == "statsd_prefix" {
		return statsdPrefix(opts), nil // as it is used
	}
	value, ok := config.Lookup(opts, key)
	if !ok {
		return nil, errInvalidOption
	}
	return value, nil
}

// putConfig answers PUT /config/<key>, whose body is the new value of a live
// option. It is in force when the answer comes, and until the daemon ends or
// reloads. A refusal has a fixed text; the log says why.
func (n *NSQD) putConfig(_ http.ResponseWriter, r *http.Request, params httprouter.Params) (any, error) {
	key := params.ByName("opt")
	limit := n.options().MaxMsgSize
	if r.ContentLength > limit {
		return nil, errValueUnread
	}
	body, err := readBody(r, limit)
	if err != nil {
		return nil, errUnreadable // the client is gone, or too slow
	}
	if int64(len(body)) > limit {
		return nil, errValueUnread
	}
	if len(body) == 0 {
		return nil, errNoValue
	}
	opts, err := n.change(func(o *Options) error { return config.Set(o, key, string(body)) })
	if err != nil {
		n.log.Warn(fmt.Sprintf("PUT /config/%s refused", key), "err", err)
		if errors.Is(err, config.ErrNoOption) || errors.Is(err, config.ErrNotLive) {
			return nil, errInvalidOption
		}
		return nil, errInvalidValue
	}
	n.log.Info(fmt.Sprintf("%s changed by PUT /config", key), "client", r.RemoteAddr)
	return optionValue(opts, key)
}
