package nsq

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxLookupAttempts is how often one question is put until an nsqlookupd answers.
const maxLookupAttempts = 3

// lookupResponse is what we use of nsqlookupd's answer, to /lookup or /nodes.
type lookupResponse struct {
	Producers []lookupProducer `json:"producers"`
}

type lookupProducer struct {
	BroadcastAddress string `json:"broadcast_address"`
	TCPPort          int    `json:"tcp_port"`
}

// addrs returns the addresses of the nsqds in the answer.
func (l *lookupResponse) addrs() []string {
	var addrs []string
	for _, p := range l.Producers {
		addrs = append(addrs, net.JoinHostPort(p.BroadcastAddress, strconv.Itoa(p.TCPPort)))
	}
	return addrs
}

// lookupEndpoint is the URL that answers who has the topic.
func lookupEndpoint(addr, topic string) (string, error) {
	u, err := apiURL(addr, "/lookup")
	if err != nil {
		return "", err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", err
	}
	query.Add("topic", topic)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// nodesEndpoint is the URL that answers which nsqds there are.
func nodesEndpoint(addr string) (string, error) {
	u, err := apiURL(addr, "/nodes")
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// apiURL is the URL of an nsqlookupd given as "host:port" or as a URL, with path
// unless that has one.
func apiURL(addr, path string) (*url.URL, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, err
	}
	if u.Port() == "" {
		return nil, errors.New("missing port")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	return u, nil
}

func newLookupClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
			ResponseHeaderTimeout: timeout,
			MaxIdleConns:          100,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   10 * time.Second,
		},
	}
}

// lookupHeader is what goes with every question.
func lookupHeader(config *Config) http.Header {
	header := make(http.Header)
	if config.AuthSecret != "" && config.LookupdAuthorization {
		header.Set("Authorization", "Bearer "+config.AuthSecret)
	}
	return header
}

// A lookupClient puts one question to several nsqlookupds.
type lookupClient struct {
	ctx       context.Context
	http      *http.Client
	header    http.Header
	endpoints []string
	log       func(lvl LogLevel, msg string, facts ...slog.Attr)
}

// ask asks all at once and returns the addresses that any of them names, each
// once. complete says that every one has answered. If none has, they are asked
// again.
func (l lookupClient) ask() (listed []string, complete bool) {
	for range maxLookupAttempts {
		answers, failed := l.askEach()
		for _, answer := range answers {
			for _, addr := range answer.addrs() {
				if !slices.Contains(listed, addr) {
					listed = append(listed, addr)
				}
			}
		}
		if failed < len(l.endpoints) || l.ctx.Err() != nil {
			return listed, failed == 0
		}
	}
	return nil, false
}

// askEach asks each nsqlookupd and returns the answers in the order of endpoints.
// That a topic is not known yet is nothing unusual: an answer, with nobody in it.
func (l lookupClient) askEach() (answers []*lookupResponse, failed int) {
	answers = make([]*lookupResponse, len(l.endpoints))
	errs := make([]error, len(l.endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range l.endpoints {
		l.log(LogLevelInfo, "querying nsqlookupd", slog.String("url", endpoint))
		answers[i] = new(lookupResponse)
		asking.Go(func() { errs[i] = apiRequestNegotiateV1(l.ctx, l.http, endpoint, l.header, answers[i]) })
	}
	asking.Wait()
	for i, err := range errs {
		if status, ok := errors.AsType[*statusError](err); ok && status.code == http.StatusNotFound {
			l.log(LogLevelInfo, "nsqlookupd does not know the topic", slog.String("url", l.endpoints[i]), errAttr(err))
		} else if err != nil {
			failed++
			answers[i] = new(lookupResponse)
			if l.ctx.Err() == nil {
				l.log(LogLevelError, "error querying nsqlookupd", slog.String("url", l.endpoints[i]), errAttr(err))
			}
		}
	}
	return answers, failed
}
