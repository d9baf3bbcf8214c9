package nsqlookupd

import (
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/version"
)

// httpServer answers the questions and orders that come by HTTP.
// Source of the rules: nsqlookupd spec, sections 6 and 7.
type httpServer struct {
	registry *registry
	log      *slog.Logger
}

// newHTTPAPI returns the routes that need the registry alone.
func newHTTPAPI(reg *registry, opts *Options, guard *httpapi.Guard, log *slog.Logger) *httpapi.API {
	s := &httpServer{registry: reg, log: log}
	api := httpapi.New(httpapi.Config{Guard: guard, AccessLog: func() httpapi.AccessLog { return opts.HTTPAccessLog }, Log: log})
	api.Handle(http.MethodGet, "/ping", ping, httpapi.Plain)
	api.Handle(http.MethodGet, "/info", info)
	api.Handle(http.MethodGet, "/lookup", s.lookup)
	api.Handle(http.MethodGet, "/topics", s.topics)
	api.Handle(http.MethodGet, "/channels", s.channels)
	api.Handle(http.MethodGet, "/nodes", s.nodes)
	api.Handle(http.MethodGet, "/debug", s.debug)
	api.Handle(http.MethodPost, "/topic/create", s.createTopic, httpapi.Guarded)
	api.Handle(http.MethodPost, "/topic/delete", s.deleteTopic, httpapi.Guarded)
	api.Handle(http.MethodPost, "/topic/tombstone", s.tombstone, httpapi.Guarded)
	api.Handle(http.MethodPost, "/channel/create", s.createChannel, httpapi.Guarded)
	api.Handle(http.MethodPost, "/channel/delete", s.deleteChannel, httpapi.Guarded)
	api.Pprof()
	// Tools know the index without the slash; its links work only with it.
	api.Raw(http.MethodGet, "/debug/pprof", http.HandlerFunc(pprof.Index), httpapi.Guarded)
	return api
}

func ping(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	return "OK", nil
}

func info(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	return struct {
		Version string `json:"version"`
	}{version.Number}, nil
}

func (s *httpServer) lookup(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	_, topicName, err := topicParam(r)
	if err != nil {
		return nil, err
	}
	channels, producers, ok := s.registry.lookup(topicName)
	if !ok {
		return nil, httpapi.Error{Status: http.StatusNotFound, Text: "TOPIC_NOT_FOUND"}
	}
	return httpapi.AppendJSON(func(b []byte) []byte {
		b = appendNames(append(b, `{"channels":`...), channels)
		b = append(b, `,"producers":[`...)
		for i, p := range producers {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, p.json...), '}')
		}
		return append(b, "]}"...)
	}), nil
}

func (s *httpServer) topics(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	return httpapi.AppendJSON(func(b []byte) []byte {
		b = append(b, `{"topics":[`...)
		for i, t := range s.registry.sortedTopics() {
			b = appendName(b, i, t.name)
		}
		return append(b, "]}"...)
	}), nil
}

func (s *httpServer) channels(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	_, topicName, err := topicParam(r)
	if err != nil {
		return nil, err
	}
	names, _ := s.registry.channelNames(topicName)
	return httpapi.AppendJSON(func(b []byte) []byte {
		b = appendNames(append(b, `{"channels":`...), names)
		return append(b, '}')
	}), nil
}

func (s *httpServer) nodes(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	list := s.registry.nodes()
	return httpapi.AppendJSON(func(b []byte) []byte {
		// Megabytes that grow step by step would be copied several times.
		const around, perName, perNode = 64, len(`"",false,`), 512
		b = slices.Grow(b, around+list.nameBytes+perName*list.names+perNode*len(list.producers))
		b = append(b, `{"producers":[`...)
		first := true
		for p, topics := range list.all() {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = appendNode(b, p, topics)
		}
		return append(b, "]}"...)
	}), nil
}

func appendNode(b []byte, p *producer, topics []nodeTopic) []byte {
	b = append(append(b, p.json...), `,"tombstones":[`...)
	for i, t := range topics {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendBool(b, t.tombstoned)
	}
	b = append(b, `],"topics":[`...)
	for i, t := range topics {
		b = appendName(b, i, t.name)
	}
	return append(b, "]}"...)
}

// neverTombstoned is the tombstoned_at of /debug where there is no tombstone:
// the zero time in unix nanoseconds.
var neverTombstoned = time.Time{}.UnixNano()

func (s *httpServer) debug(http.ResponseWriter, *http.Request, httprouter.Params) (any, error) {
	type producerEntry struct { // keys in alphabetical order
		BroadcastAddress string `json:"broadcast_address"`
		Hostname         string `json:"hostname"`
		HTTPPort         int    `json:"http_port"`
		ID               string `json:"id"`
		LastUpdate       int64  `json:"last_update"`
		TCPPort          int    `json:"tcp_port"`
		Tombstoned       bool   `json:"tombstoned"`
		TombstonedAt     int64  `json:"tombstoned_at"`
		TopologyRegion   string `json:"topology_region"`
		TopologyZone     string `json:"topology_zone"`
		Version          string `json:"version"`
	}
	all := map[string][]producerEntry{}
	for key, entries := range s.registry.entries() {
		for _, e := range entries {
			at := e.tombstonedAt
			if at == 0 {
				at = neverTombstoned
			}
			all[key] = append(all[key], producerEntry{
				e.BroadcastAddress, e.Hostname, e.HTTPPort, e.id, e.lastUpdate.Load(), e.TCPPort,
				e.tombstonedAt != 0, at, e.TopologyRegion, e.TopologyZone, e.Version,
			})
		}
	}
	return all, nil
}

func (s *httpServer) createTopic(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	_, topicName, err := topicParam(r)
	if err != nil {
		return nil, err
	}
	if !protocol.IsValidTopicName(topicName) {
		return nil, badRequest("INVALID_ARG_TOPIC")
	}
	if err := s.registry.createTopic(topicName); err != nil {
		return nil, full()
	}
	s.log.Info("DB: adding topic(" + topicName + ")")
	return nil, nil
}

func (s *httpServer) deleteTopic(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	_, topicName, err := topicParam(r)
	if err != nil {
		return nil, err
	}
	channels, existed := s.registry.deleteTopic(topicName)
	for _, name := range channels {
		s.log.Info("DB: removing channel(" + name + ") from topic(" + topicName + ")")
	}
	if existed {
		s.log.Info("DB: removing topic(" + topicName + ")")
	} else {
		s.log.Warn("no topic(" + topicName + ") to remove")
	}
	return nil, nil
}

func (s *httpServer) tombstone(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	params, topicName, err := topicParam(r)
	if err != nil {
		return nil, err
	}
	node, ok := params.Get("node")
	if !ok {
		return nil, badRequest("MISSING_ARG_NODE")
	}
	s.log.Info("DB: setting tombstone for producer@" + node + " of topic(" + topicName + ")")
	if s.registry.tombstone(topicName, node) == 0 {
		// The answer is 200 all the same: tools send it to every nsqlookupd.
		s.log.Warn("no producer@" + node + " of topic(" + topicName + ") to set a tombstone for")
	}
	return nil, nil
}

func (s *httpServer) createChannel(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	topicName, channelName, err := topicChannelParams(r)
	if err != nil {
		return nil, err
	}
	if err := s.registry.createChannel(topicName, channelName); err != nil {
		return nil, full()
	}
	s.log.Info("DB: adding channel(" + channelName + ") in topic(" + topicName + ")")
	return nil, nil
}

func (s *httpServer) deleteChannel(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	topicName, channelName, err := topicChannelParams(r)
	if err != nil {
		return nil, err
	}
	if !s.registry.deleteChannel(topicName, channelName) {
		return nil, httpapi.Error{Status: http.StatusNotFound, Text: "CHANNEL_NOT_FOUND"}
	}
	s.log.Info("DB: removing channel(" + channelName + ") from topic(" + topicName + ")")
	return nil, nil
}

// topicParam returns the parameters and the topic among them, as it is.
func topicParam(r *http.Request) (params httpapi.Params, topicName string, err error) {
	httpapi.DiscardBody(r)
	params, err = httpapi.Query(r)
	if err != nil {
		return nil, "", err
	}
	topicName, ok := params.Get("topic")
	if !ok {
		return nil, "", badRequest("MISSING_ARG_TOPIC")
	}
	return params, topicName, nil
}

// topicChannelParams returns the topic and the channel, both valid names.
func topicChannelParams(r *http.Request) (topicName, channelName string, err error) {
	params, topicName, err := topicParam(r)
	if err != nil {
		return "", "", err
	}
	if !protocol.IsValidTopicName(topicName) {
		return "", "", badRequest("INVALID_ARG_TOPIC")
	}
	channelName, ok := params.Get("channel")
	if !ok {
		return "", "", badRequest("MISSING_ARG_CHANNEL")
	}
	if !protocol.IsValidChannelName(channelName) {
		return "", "", badRequest("INVALID_ARG_CHANNEL")
	}
	return topicName, channelName, nil
}

// full is the answer to an order for which there is no room.
func full() error {
	return httpapi.Error{Status: http.StatusServiceUnavailable, Text: "TOO_MANY_REGISTRATIONS"}
}

func badRequest(text string) error {
	return httpapi.Error{Status: http.StatusBadRequest, Text: text}
}

// appendNames appends a JSON array of names of topics or channels. Those are
// valid, so they need no escaping.
func appendNames(b []byte, names []string) []byte {
	b = append(b, '[')
	for i, name := range names {
		b = appendName(b, i, name)
	}
	return append(b, ']')
}

func appendName(b []byte, i int, name string) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"')
}
