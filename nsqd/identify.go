package nsqd

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/version"
)

// identifyRequest is the body of IDENTIFY; times are in milliseconds. Source: TCP
// protocol spec, IDENTIFY.
type identifyRequest struct {
	ClientID            string `json:"client_id"`
	Hostname            string `json:"hostname"`
	UserAgent           string `json:"user_agent"`
	FeatureNegotiation  bool   `json:"feature_negotiation"`
	HeartbeatInterval   int64  `json:"heartbeat_interval"`
	OutputBufferSize    int64  `json:"output_buffer_size"`
	OutputBufferTimeout int64  `json:"output_buffer_timeout"`
	SampleRate          int32  `json:"sample_rate"`
	MsgTimeout          int64  `json:"msg_timeout"`
	TLSv1               bool   `json:"tls_v1"`
	Deflate             bool   `json:"deflate"`
	DeflateLevel        int    `json:"deflate_level"`
	Snappy              bool   `json:"snappy"`
	TopologyRegion      string `json:"topology_region"`
	TopologyZone        string `json:"topology_zone"`
}

// identifyResponse answers a client that negotiates.
type identifyResponse struct {
	MaxRdyCount         int64  `json:"max_rdy_count"`
	Version             string `json:"version"`
	MaxMsgTimeout       int64  `json:"max_msg_timeout"`
	MsgTimeout          int64  `json:"msg_timeout"`
	TLSv1               bool   `json:"tls_v1"`
	Deflate             bool   `json:"deflate"`
	DeflateLevel        int    `json:"deflate_level"`
	MaxDeflateLevel     int    `json:"max_deflate_level"`
	Snappy              bool   `json:"snappy"`
	SampleRate          int32  `json:"sample_rate"`
	AuthRequired        bool   `json:"auth_required"`
	OutputBufferSize    int    `json:"output_buffer_size"`
	OutputBufferTimeout int64  `json:"output_buffer_timeout"`
	TopologyRegion      string `json:"topology_region"`
	TopologyZone        string `json:"topology_zone"`
}

// defaultDeflateLevel is for clients that do not choose, and reported while deflate
// is off.
const defaultDeflateLevel = 6

func (c *conn) identify() error {
	if c.state.Load() != stateInit {
		return fatalError(protocol.CodeInvalid, "cannot IDENTIFY in current state", nil)
	}
	body, err := c.readJSONBody("IDENTIFY")
	if err != nil {
		return err
	}
	var req identifyRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return fatalError(protocol.CodeBadBody, "IDENTIFY failed to decode JSON body", err)
	}
	if c.log.Enabled(c.svc.life, slog.LevelInfo) {
		c.log.Info(fmt.Sprintf("[%s] IDENTIFY: %+v", c.addr, req))
	}
	opts := c.svc.opts()
	s, refused := c.settings.Load().with(&req, opts)
	if refused != nil {
		return refused
	}
	var added upgrade
	if req.FeatureNegotiation {
		if added, err = c.negotiate(&req, opts); err != nil {
			return err
		}
	}
	c.settings.Store(s)
	c.identified.Store(true)
	if err := c.out.configure(s.outputBufferSize, s.heartbeat); err != nil {
		return err
	}
	defer c.pump.call()
	if !req.FeatureNegotiation {
		return c.out.answer(protocol.FrameResponse, "OK")
	}
	resp, err := json.Marshal(identifyResponse{
		MaxRdyCount:         opts.MaxRdyCount,
		Version:             version.Number,
		MaxMsgTimeout:       opts.MaxMsgTimeout.Milliseconds(),
		MsgTimeout:          s.msgTimeout.Milliseconds(),
		TLSv1:               added.tls,
		Deflate:             added.deflate,
		DeflateLevel:        added.level,
		MaxDeflateLevel:     opts.MaxDeflateLevel,
		Snappy:              added.snappy,
		SampleRate:          s.sampleRate,
		AuthRequired:        c.svc.auth != nil,
		OutputBufferSize:    s.outputBufferSize,
		OutputBufferTimeout: s.outputBufferTimeout.Milliseconds(),
		TopologyRegion:      opts.TopologyRegion,
		TopologyZone:        opts.TopologyZone,
	})
	if err != nil {
		return fatalError(protocol.CodeIdentifyFailed, fmt.Sprintf("IDENTIFY failed %s", err), err)
	}
	if added.any() {
		return c.upgrade(string(resp), added)
	}
	return c.out.answer(protocol.FrameResponse, string(resp))
}

// with returns the settings after an IDENTIFY; the first field that is out of
// range refuses all of it.
func (old settings) with(req *identifyRequest, opts *Options) (*settings, error) {
	s := old
	s.clientID, s.hostname, s.userAgent = req.ClientID, req.Hostname, req.UserAgent
	s.topologyRegion, s.topologyZone = req.TopologyRegion, req.TopologyZone

	switch ms := req.HeartbeatInterval; {
	case ms == 0:
	case ms == -1:
		s.heartbeat = 0
	case ms >= 1000 && ms <= opts.MaxHeartbeatInterval.Milliseconds():
		s.heartbeat = time.Duration(ms) * time.Millisecond
	default:
		return nil, invalidSetting("heartbeat interval", ms)
	}

	switch ms := req.OutputBufferTimeout; {
	case ms == 0:
	case ms == -1:
		s.outputBufferTimeout, s.batching = 0, true
	case ms >= opts.MinOutputBufferTimeout.Milliseconds() && ms <= opts.MaxOutputBufferTimeout.Milliseconds():
		s.outputBufferTimeout = time.Duration(ms) * time.Millisecond
		// Client libraries send the default without being asked to: only
		// another value is somebody's choice.
		s.batching = s.outputBufferTimeout != opts.OutputBufferTimeout
	default:
		return nil, invalidSetting("output buffer timeout", ms)
	}

	switch n := req.OutputBufferSize; {
	case n == 0:
	case n == -1:
		s.outputBufferSize, s.outputBufferTimeout = 1, 0
	case n >= 64 && n <= opts.MaxOutputBufferSize:
		s.outputBufferSize = int(n)
	default:
		return nil, invalidSetting("output buffer size", n)
	}

	if req.SampleRate < 0 || req.SampleRate > 99 {
		return nil, invalidSetting("sample rate", int64(req.SampleRate))
	}
	s.sampleRate = req.SampleRate

	switch ms := req.MsgTimeout; {
	case ms == 0:
	case ms >= 1000 && ms <= opts.MaxMsgTimeout.Milliseconds():
		s.msgTimeout = time.Duration(ms) * time.Millisecond
	default:
		return nil, invalidSetting("msg timeout", ms)
	}
	return &s, nil
}

func invalidSetting(name string, value int64) error {
	return fatalError(protocol.CodeBadBody, fmt.Sprintf("IDENTIFY %s (%d) is invalid", name, value), nil)
}

// readJSONBody reads the body of IDENTIFY or AUTH, whose limits are checked in
// this order.
func (c *conn) readJSONBody(command string) ([]byte, error) {
	n, err := c.in.size()
	if err != nil {
		return nil, unreadable(protocol.CodeBadBody, command+" failed to read body size", err)
	}
	if most := c.svc.opts().MaxBodySize; int64(n) > most {
		return nil, fatalError(protocol.CodeBadBody, fmt.Sprintf("%s body too big %d > %d", command, n, most), nil)
	}
	if n <= 0 {
		return nil, fatalError(protocol.CodeBadBody, fmt.Sprintf("%s invalid body size %d", command, n), nil)
	}
	body, err := protocol.ReadBody(c.in, int(n))
	if err != nil {
		return nil, unreadable(protocol.CodeBadBody, command+" failed to read body", err)
	}
	return body, nil
}
