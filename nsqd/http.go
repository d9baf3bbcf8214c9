package nsqd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/metrics"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/version"
)

// serveHTTP serves the HTTP API until ctx ends and no request is in progress. It
// begins before the daemon is ready; see [NSQD.onceReady].
// Where TLS is required of HTTP too, it tells clients where to find that.
func (n *NSQD) serveHTTP(ctx context.Context) error {
	h := n.onceReady(n.api)
	if n.options().TLSRequired == TLSRequired {
		h = http.HandlerFunc(n.refuseHTTP)
	}
	return serving(httpapi.ServeEarly(ctx, n.httpListener("HTTP", n.http), h))
}

// serveHTTPS serves the HTTP API over TLS until ctx ends and no request is in
// progress.
func (n *NSQD) serveHTTPS(ctx context.Context) error {
	config := reloadableTLS(func() *tls.Config { return n.serverTLS.Load().https })
	return serving(httpapi.ServeEarly(ctx, n.httpListener("HTTPS", tls.NewListener(n.https, config)), n.onceReady(n.api)))
}

// onceReady makes requests wait until the topics of the last run are there again,
// as they always have waited for the listener to be served. Health, metrics and
// profiles do not wait: they are asked for what takes so long.
func (n *NSQD) onceReady(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-n.ready:
		default:
			if !isDiagnosis(r.URL.Path) {
				select {
				case <-n.ready:
				case <-n.life.Done(): // they cannot be loaded
					n.api.Refuse(w, r, errNotAccepted)
					return
				case <-r.Context().Done(): // the daemon stops, or the client is gone
					n.api.Refuse(w, r, errNotAccepted)
					return
				}
			}
		}
		h.ServeHTTP(w, r)
	})
}

func isDiagnosis(path string) bool {
	return path == "/metrics" || strings.HasPrefix(path, "/health/") || strings.HasPrefix(path, "/debug/")
}

// httpListener is how HTTP is served on l. Requests in progress get half of the
// time that a stop may take: the rest is for storing messages.
func (n *NSQD) httpListener(name string, l net.Listener) httpapi.Listener {
	opts := n.options()
	return httpapi.Listener{Listener: l, Name: name, Grace: opts.ShutdownTimeout / 2, MaxConnections: opts.MaxHTTPConnections, Log: n.log}
}

// announceHTTP logs where HTTP and HTTPS are served, once all requests are.
func (n *NSQD) announceHTTP() {
	if n.http != nil {
		n.httpListener("HTTP", n.http).Announce()
	}
	if n.https != nil {
		n.httpListener("HTTPS", n.https).Announce()
	}
}

func serving(err error) error {
	if err != nil {
		return fmt.Errorf("http.Serve() error - %w", err)
	}
	return nil
}

// refuseHTTP answers every plain request where TLS is required. Clients repeat the
// request on https_port; the blanks in the body are part of the format. Source:
// nsqd HTTP API, "tls-required and plain HTTP".
func (n *NSQD) refuseHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(httpapi.ContentTypeHeader, httpapi.ContentTypeValue)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusForbidden)
	// A failed write means that the client is gone.
	_, _ = fmt.Fprintf(w, `{"message": "TLS_REQUIRED", "https_port": %d}`, boundPort(n.https))
}

// routes returns the HTTP API. Source of all paths, parameters, answers and
// orders of checks: nsqd HTTP API.
func (n *NSQD) routes() *httpapi.API {
	api := httpapi.New(httpapi.Config{
		Guard:     n.guard,
		AccessLog: func() httpapi.AccessLog { return n.options().HTTPAccessLog },
		Log:       n.log,
	})
	api.Handle(http.MethodGet, "/ping", n.getPing, httpapi.Plain)
	api.Handle(http.MethodGet, "/info", n.getInfo)
	api.Handle(http.MethodGet, "/stats", n.getStats)
	api.Handle(http.MethodPost, "/pub", n.postPub, httpapi.Unlogged)
	api.Handle(http.MethodPost, "/mpub", n.postMpub, httpapi.Unlogged)
	n.topicRoutes(api)
	n.channelRoutes(api)
	n.drainRoutes(api)
	api.Health(n.notReady)
	metrics.Route(api, "nsqd", n.log, n.gatherMetrics)
	n.configRoutes(api)
	debugRoutes(api)
	return api
}

// Errors that several endpoints answer.
var (
	errMissingTopic    = refusal(http.StatusBadRequest, "MISSING_ARG_TOPIC")
	errInvalidTopic    = refusal(http.StatusBadRequest, "INVALID_TOPIC")
	errInvalidArgTopic = refusal(http.StatusBadRequest, "INVALID_ARG_TOPIC")
	errTopicNotFound   = refusal(http.StatusNotFound, "TOPIC_NOT_FOUND")
)

// refusal is the answer to a request that is refused.
func refusal(status int, text string) error { return httpapi.Error{Status: status, Text: text} }

// topicParam returns the topic that a request names. A name that is not valid is
// the error invalid.
func topicParam(params httpapi.Params, invalid error) (string, error) {
	name, ok := params.Get("topic")
	if !ok {
		return "", errMissingTopic
	}
	if !protocol.IsValidTopicName(name) {
		return "", invalid
	}
	return name, nil
}

// getPing answers GET /ping: OK while messages can be stored.
func (n *NSQD) getPing(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	if n.health.Err() != nil {
		return nil, refusal(http.StatusInternalServerError, n.health.String())
	}
	return n.health.String(), nil
}

// info is the answer to GET /info. Ports are those bound: -1 for a Unix socket, 0
// for no listener. Intervals are in nanoseconds.
type info struct {
	Version                string `json:"version"`
	BroadcastAddress       string `json:"broadcast_address"`
	Hostname               string `json:"hostname"`
	HTTPPort               int    `json:"http_port"`
	TCPPort                int    `json:"tcp_port"`
	StartTime              int64  `json:"start_time"` // seconds since 1970
	MaxHeartbeatInterval   int64  `json:"max_heartbeat_interval"`
	MaxOutputBufferSize    int64  `json:"max_output_buffer_size"`
	MaxOutputBufferTimeout int64  `json:"max_output_buffer_timeout"`
	MaxDeflateLevel        int    `json:"max_deflate_level"`
	TopologyZone           string `json:"topology_zone"`
	TopologyRegion         string `json:"topology_region"`
}

// getInfo answers GET /info.
func (n *NSQD) getInfo(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, refusal(http.StatusInternalServerError, err.Error())
	}
	opts := n.options()
	return info{
		Version:                version.Number,
		BroadcastAddress:       opts.BroadcastAddress,
		Hostname:               hostname,
		HTTPPort:               boundPort(n.http),
		TCPPort:                boundPort(n.tcp),
		StartTime:              n.started.Unix(),
		MaxHeartbeatInterval:   int64(opts.MaxHeartbeatInterval),
		MaxOutputBufferSize:    opts.MaxOutputBufferSize,
		MaxOutputBufferTimeout: int64(opts.MaxOutputBufferTimeout),
		MaxDeflateLevel:        opts.MaxDeflateLevel,
		TopologyZone:           opts.TopologyZone,
		TopologyRegion:         opts.TopologyRegion,
	}, nil
}
