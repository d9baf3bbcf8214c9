package nsq

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxLookupAttempts is how many nsqlookupds one query asks until one answers.
const maxLookupAttempts = 3

// minRecheckInterval is the least time between two queries made because
// connections closed: an nsqd that accepts us and closes would keep us busy.
const minRecheckInterval = time.Second

// lookupResponse is what we use of nsqlookupd's answer.
type lookupResponse struct {
	Producers []lookupProducer `json:"producers"`
}

type lookupProducer struct {
	BroadcastAddress string `json:"broadcast_address"`
	TCPPort          int    `json:"tcp_port"`
}

// SetLookupdHttpClient sets the client for questions to nsqlookupd, which is
// used as it is. It must be called before ConnectToNSQLookupd.
func (r *Consumer) SetLookupdHttpClient(httpclient *http.Client) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.lookupdHTTPClient, r.ownHTTPClient = httpclient, false
}

// ConnectToNSQLookupd adds an nsqlookupd, by the "host:port" of its HTTP port or
// a URL. The first one is asked at once, and all nsqds it names are connected,
// before it returns; then one of those known is asked every
// LookupdPollInterval. Failed questions are logged, not returned.
func (r *Consumer) ConnectToNSQLookupd(addr string) error {
	if err := r.mayConnect(); err != nil {
		return err
	}
	endpoint, err := lookupEndpoint(addr, r.topic)
	if err != nil {
		return err
	}
	if first := r.addLookupd(endpoint); first {
		r.queryLookupd()
		r.goUnlessStopped(r.lookupdLoop)
	}
	return nil
}

// ConnectToNSQLookupds adds several nsqlookupds, up to the first error.
func (r *Consumer) ConnectToNSQLookupds(addresses []string) error {
	for _, addr := range addresses {
		if err := r.ConnectToNSQLookupd(addr); err != nil {
			return err
		}
	}
	return nil
}

// DisconnectFromNSQLookupd forgets an nsqlookupd. ErrNotConnected is returned
// for one that is not known; the last one cannot be removed.
func (r *Consumer) DisconnectFromNSQLookupd(addr string) error {
	endpoint, err := lookupEndpoint(addr, r.topic)
	if err != nil {
		return err
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	i := slices.Index(r.lookupdHTTPAddrs, endpoint)
	if i < 0 {
		return ErrNotConnected
	}
	if len(r.lookupdHTTPAddrs) == 1 {
		return fmt.Errorf("cannot disconnect from only remaining nsqlookupd HTTP address %s", addr)
	}
	r.lookupdHTTPAddrs = slices.Delete(r.lookupdHTTPAddrs, i, i+1)
	return nil
}

// lookupEndpoint is the URL that answers who has the topic.
func lookupEndpoint(addr, topic string) (string, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return "", err
	}
	if u.Port() == "" {
		return "", errors.New("missing port")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/lookup"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", err
	}
	query.Add("topic", topic)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// addLookupd adds an endpoint and says whether it is the first.
func (r *Consumer) addLookupd(endpoint string) bool {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.connected = true
	if slices.Contains(r.lookupdHTTPAddrs, endpoint) {
		return false
	}
	r.lookupdHTTPAddrs = append(r.lookupdHTTPAddrs, endpoint)
	if r.lookupdHTTPClient == nil {
		r.lookupdHTTPClient, r.ownHTTPClient = newLookupClient(r.config.LookupdPollTimeout), true
	}
	return len(r.lookupdHTTPAddrs) == 1
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

// lookupdLoop asks nsqlookupd every LookupdPollInterval, and when a connection
// closed.
func (r *Consumer) lookupdLoop() {
	jitter := r.random() * r.config.LookupdPollJitter * float64(r.config.LookupdPollInterval)
	if !r.sleep(time.Duration(jitter)) {
		return
	}
	ticker := time.NewTicker(r.config.LookupdPollInterval)
	defer ticker.Stop()
	var last time.Time // of the last recheck
	for {
		select {
		case <-ticker.C:
		case <-r.recheckChan:
			if !r.sleep(time.Until(last.Add(min(minRecheckInterval, r.config.LookupdPollInterval)))) {
				return
			}
			last = time.Now()
		case <-r.exitChan:
			return
		}
		r.queryLookupd()
	}
}

// nextLookupdEndpoint returns the endpoints in turn, and how many there are.
func (r *Consumer) nextLookupdEndpoint() (endpoint string, count int) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	count = len(r.lookupdHTTPAddrs)
	r.lookupdQueryIndex %= count
	endpoint = r.lookupdHTTPAddrs[r.lookupdQueryIndex]
	r.lookupdQueryIndex++
	return endpoint, count
}

// queryLookupd asks an nsqlookupd which nsqds have the topic and connects to
// those.
func (r *Consumer) queryLookupd() {
	answer, ok := r.askLookupds()
	if !ok {
		return
	}
	for _, addr := range r.discovered(answer) {
		err := r.ConnectToNSQD(addr)
		if err != nil && !errors.Is(err, ErrAlreadyConnected) && !r.stopFlag.Load() {
			r.log(LogLevelError, "error connecting to nsqd", addrAttr(addr), errAttr(err))
		}
	}
}

// askLookupds returns the first answer. That a topic is not known yet is
// nothing unusual, and not worth to ask the same nsqlookupd twice.
func (r *Consumer) askLookupds() (*lookupResponse, bool) {
	for attempt := 1; attempt <= maxLookupAttempts; attempt++ {
		endpoint, count := r.nextLookupdEndpoint()
		r.log(LogLevelInfo, "querying nsqlookupd", slog.String("url", endpoint))
		answer, err := r.askLookupd(endpoint)
		if err == nil {
			return answer, true
		}
		if r.ctx.Err() != nil {
			return nil, false
		}
		if status, ok := errors.AsType[*statusError](err); ok && status.code == http.StatusNotFound {
			r.log(LogLevelInfo, "nsqlookupd does not know the topic", slog.String("url", endpoint), errAttr(err))
			if attempt >= count {
				return nil, false
			}
			continue
		}
		r.log(LogLevelError, "error querying nsqlookupd", slog.String("url", endpoint), errAttr(err))
	}
	return nil, false
}

func (r *Consumer) askLookupd(endpoint string) (*lookupResponse, error) {
	r.mtx.RLock()
	client := r.lookupdHTTPClient
	r.mtx.RUnlock()
	header := make(http.Header)
	if r.config.AuthSecret != "" && r.config.LookupdAuthorization {
		header.Set("Authorization", "Bearer "+r.config.AuthSecret)
	}
	answer := new(lookupResponse)
	if err := apiRequestNegotiateV1(r.ctx, client, endpoint, header, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// discovered returns the addresses to connect to.
func (r *Consumer) discovered(answer *lookupResponse) []string {
	var addrs []string
	for _, p := range answer.Producers {
		addrs = append(addrs, net.JoinHostPort(p.BroadcastAddress, strconv.Itoa(p.TCPPort)))
	}
	r.mtx.RLock()
	filter, ok := r.behaviorDelegate.(DiscoveryFilter)
	r.mtx.RUnlock()
	if ok {
		return filter.Filter(addrs)
	}
	return addrs
}
