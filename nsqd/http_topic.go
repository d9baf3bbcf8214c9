package nsqd

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/julienschmidt/httprouter"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/protocol"
)

var (
	errMissingChannel    = refusal(http.StatusBadRequest, "MISSING_ARG_CHANNEL")
	errInvalidArgChannel = refusal(http.StatusBadRequest, "INVALID_ARG_CHANNEL")
	errChannelNotFound   = refusal(http.StatusNotFound, "CHANNEL_NOT_FOUND")
)

func (n *NSQD) topicRoutes(api *httpapi.API) {
	// Whether a bad name is called so or just not found is what clients know.
	handle := func(path string, badName error, act func(*Topic) error) {
		api.Handle(http.MethodPost, path, n.onTopic(badName, act), httpapi.Guarded)
	}
	api.Handle(http.MethodPost, "/topic/create", n.postTopicCreate, httpapi.Guarded)
	handle("/topic/delete", errTopicNotFound, func(t *Topic) error {
		return errors.Join(n.deleteTopic(t), n.record(t.ephemeral))
	})
	handle("/topic/empty", errInvalidTopic, func(t *Topic) error {
		return unlessGone(t.empty(), &t.closing, errTopicNotFound)
	})
	handle("/topic/pause", errTopicNotFound, func(t *Topic) error { return n.pauseTopic(t, true) })
	handle("/topic/unpause", errTopicNotFound, func(t *Topic) error { return n.pauseTopic(t, false) })
}

// postTopicCreate answers POST /topic/create.
func (n *NSQD) postTopicCreate(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	params, err := httpapi.Query(r)
	if err != nil {
		return nil, err
	}
	name, err := topicParam(params, errInvalidTopic)
	if err != nil {
		return nil, err
	}
	_, err = n.GetTopic(name)
	return nil, err
}

// onTopic makes a handler that applies act to the topic that the request names.
func (n *NSQD) onTopic(badName error, act func(*Topic) error) httpapi.Handler {
	return func(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
		httpapi.DiscardBody(r)
		params, err := httpapi.Query(r)
		if err != nil {
			return nil, err
		}
		name, err := topicParam(params, badName)
		if err != nil {
			return nil, err
		}
		t := n.existingTopic(name)
		if t == nil {
			return nil, errTopicNotFound
		}
		return nil, act(t)
	}
}

// unlessGone returns err, or notFound where it comes of a deletion that was faster
// than the request.
func unlessGone(err error, closing *atomic.Bool, notFound error) error {
	if err != nil && closing.Load() {
		return notFound
	}
	return err
}

// record returns when what has just changed is in the metadata file, so that not
// even a crash undoes it. Ephemeral things are not in there.
func (n *NSQD) record(ephemeral bool) error {
	if ephemeral {
		return nil
	}
	return n.metadata.persist()
}

// recordPause records a pause or its end. The change is in force, so a client is
// not told that it failed if it could only not be recorded.
func (n *NSQD) recordPause(ephemeral bool) error {
	if err := n.record(ephemeral); err != nil {
		n.log.Error("persist pause", "err", err) // it will be tried again
	}
	return nil
}

func (n *NSQD) pauseTopic(t *Topic, paused bool) error {
	t.pause(paused)
	return n.recordPause(t.ephemeral)
}

func (n *NSQD) channelRoutes(api *httpapi.API) {
	handle := func(path string, act func(*Topic, *Channel) error) {
		api.Handle(http.MethodPost, path, n.onChannel(act), httpapi.Guarded)
	}
	api.Handle(http.MethodPost, "/channel/create", n.postChannelCreate, httpapi.Guarded)
	handle("/channel/delete", func(t *Topic, c *Channel) error {
		return errors.Join(t.deleteChannel(c), n.record(t.ephemeral || c.ephemeral))
	})
	handle("/channel/empty", func(_ *Topic, c *Channel) error {
		return unlessGone(c.empty(), &c.closing, errChannelNotFound)
	})
	handle("/channel/pause", func(t *Topic, c *Channel) error { return n.pauseChannel(t, c, true) })
	handle("/channel/unpause", func(t *Topic, c *Channel) error { return n.pauseChannel(t, c, false) })
}

// postChannelCreate answers POST /channel/create. The topic must exist.
func (n *NSQD) postChannelCreate(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
	t, channel, err := n.channelParams(r)
	if err != nil {
		return nil, err
	}
	_, err = t.GetChannel(channel)
	if errors.Is(err, errExiting) {
		return nil, errTopicNotFound // it is being deleted
	}
	return nil, err
}

// onChannel makes a handler that applies act to the channel that the request
// names.
func (n *NSQD) onChannel(act func(*Topic, *Channel) error) httpapi.Handler {
	return func(_ http.ResponseWriter, r *http.Request, _ httprouter.Params) (any, error) {
		t, channel, err := n.channelParams(r)
		if err != nil {
			return nil, err
		}
		c := t.existingChannel(channel)
		if c == nil {
			return nil, errChannelNotFound
		}
		return nil, act(t, c)
	}
}

// channelParams returns the topic and the name of the channel of a request.
func (n *NSQD) channelParams(r *http.Request) (t *Topic, channel string, err error) {
	httpapi.DiscardBody(r)
	params, err := httpapi.Query(r)
	if err != nil {
		return nil, "", err
	}
	topic, err := topicParam(params, errInvalidArgTopic)
	if err != nil {
		return nil, "", err
	}
	channel, ok := params.Get("channel")
	if !ok {
		return nil, "", errMissingChannel
	}
	if !protocol.IsValidChannelName(channel) {
		return nil, "", errInvalidArgChannel
	}
	if t = n.existingTopic(topic); t == nil {
		return nil, "", errTopicNotFound
	}
	return t, channel, nil
}

func (n *NSQD) pauseChannel(t *Topic, c *Channel, paused bool) error {
	c.pause(paused)
	return n.recordPause(t.ephemeral || c.ephemeral)
}
