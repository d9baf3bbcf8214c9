package nsq

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxFirstRecheckDelay is the longest wait before the first query because a
// connection closed; see recheckDelay.
const maxFirstRecheckDelay = 100 * time.Millisecond

// connectsAtOnce is how many nsqds a query connects to at a time.
const connectsAtOnce = 16

// pollsUntilUnlisted is how many polls in a row must not name an nsqd before
// DisconnectUnlisted drops it: one may find an nsqlookupd that has restarted.
const pollsUntilUnlisted = 2

// SetLookupdHttpClient sets the client for questions to nsqlookupd, which is
// used as it is. It must be called before ConnectToNSQLookupd.
func (r *Consumer) SetLookupdHttpClient(httpclient *http.Client) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.lookupdHTTPClient, r.ownHTTPClient = httpclient, false
}

// ConnectToNSQLookupd adds an nsqlookupd, by the "host:port" of its HTTP port or
// a URL. The first one is asked at once, and all nsqds it names are connected,
// before it returns; then all those known are asked every LookupdPollInterval,
// soon after a new one is added, and when a connection is lost. Failed questions
// are logged, not returned.
func (r *Consumer) ConnectToNSQLookupd(addr string) error {
	if err := r.mayConnect(); err != nil {
		return err
	}
	endpoint, err := lookupEndpoint(addr, r.topic)
	if err != nil {
		return err
	}
	if first := r.addLookupd(endpoint); first {
		r.queryLookupd().Wait()
		r.goUnlessStopped(r.lookupdLoop)
		return nil
	}
	r.recheck()
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

// recheck has nsqlookupd asked soon.
func (r *Consumer) recheck() {
	select {
	case r.recheckChan <- struct{}{}:
	default:
	}
}

// lookupdLoop asks nsqlookupd every LookupdPollInterval, the first time up to
// LookupdPollJitter of it later, and soon when a connection closed.
func (r *Consumer) lookupdLoop() {
	interval := r.config.LookupdPollInterval
	jitter := time.Duration(rand.Float64() * r.config.LookupdPollJitter * float64(interval))
	poll := time.NewTimer(jitter + interval)
	defer poll.Stop()
	var recheck <-chan time.Time // nil unless one is due
	delay, last := time.Duration(0), time.Time{}
	for {
		select {
		case <-poll.C:
			poll.Reset(interval)
		case <-r.recheckChan:
			if recheck == nil {
				delay = r.recheckDelay(delay, time.Since(last))
				recheck = time.After(jittered(delay))
			}
			continue
		case <-recheck:
			recheck, last = nil, time.Now()
		case <-r.exitChan:
			return
		}
		r.queryLookupd()
	}
}

// recheckDelay is how long to wait before a query that is asked for because a
// connection closed, after delay before the last such query, which was since
// ago. It grows up to LookupdPollInterval while that happens often: an nsqd that
// accepts us and closes would keep us busy.
func (r *Consumer) recheckDelay(delay, since time.Duration) time.Duration {
	if since >= delay+r.upToPollInterval(stableAfter) {
		return r.upToPollInterval(maxFirstRecheckDelay)
	}
	return r.upToPollInterval(2 * delay)
}

// queryLookupd asks all nsqlookupds which nsqds have the topic, and begins to
// connect to those: the result waits for the end of that.
func (r *Consumer) queryLookupd() *sync.WaitGroup {
	connecting := new(sync.WaitGroup)
	listed, complete := r.lookupds().ask()
	if len(listed) == 0 && !complete {
		return connecting
	}
	addrs := r.filtered(listed)
	limit := make(chan struct{}, connectsAtOnce)
	for _, addr := range addrs {
		if r.isConnected(addr) {
			continue
		}
		connecting.Add(1)
		started := r.goUnlessStopped(func() {
			defer connecting.Done()
			limit <- struct{}{}
			defer func() { <-limit }()
			r.connectToListed(addr)
		})
		if !started {
			connecting.Done()
		}
	}
	if complete && r.config.DisconnectUnlisted {
		r.dropUnlisted(addrs)
	}
	return connecting
}

func (r *Consumer) isConnected(addr string) bool {
	r.mtx.RLock()
	defer r.mtx.RUnlock()
	return r.connections[addr] != nil || r.pendingConnections[addr] != nil
}

func (r *Consumer) connectToListed(addr string) {
	err := r.connectTo(addr, false)
	if err == nil || errors.Is(err, ErrAlreadyConnected) || r.stopFlag.Load() {
		return
	}
	r.log(LogLevelError, "error connecting to nsqd", addrAttr(addr), errAttr(err))
	if r.isDirect(addr) {
		r.startReconnect(addr) // one that was there may have left this attempt to us
	}
}

// dropUnlisted ends the connections to nsqds that were found through nsqlookupd
// and are not listed any more.
func (r *Consumer) dropUnlisted(listed []string) {
	for _, addr := range r.unlisted(listed) {
		r.log(LogLevelInfo, "nsqlookupd does not name this nsqd any more", addrAttr(addr))
		_ = r.DisconnectFromNSQD(addr) // fails only if someone was faster
	}
}

func (r *Consumer) unlisted(listed []string) []string {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	var addrs []string
	for addr, known := range r.nsqds {
		if known.direct || slices.Contains(listed, addr) {
			known.unlisted = 0
			continue
		}
		known.unlisted++
		if known.unlisted >= pollsUntilUnlisted {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// lookupds is who to ask.
func (r *Consumer) lookupds() lookupClient {
	r.mtx.RLock()
	defer r.mtx.RUnlock()
	return lookupClient{
		ctx:       r.ctx,
		http:      r.lookupdHTTPClient,
		header:    lookupHeader(&r.config),
		endpoints: slices.Clone(r.lookupdHTTPAddrs),
		log:       r.log,
	}
}

// filtered returns the addresses to connect to.
func (r *Consumer) filtered(addrs []string) []string {
	r.mtx.RLock()
	filter, ok := r.behaviorDelegate.(DiscoveryFilter)
	r.mtx.RUnlock()
	if ok {
		return filter.Filter(addrs)
	}
	return addrs
}
