package nsq

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// SetLookupdHttpClient sets the client for questions to nsqlookupd, which is
// used as it is. It must be called before ConnectToNSQLookupd.
func (p *ProducerPool) SetLookupdHttpClient(httpclient *http.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookupClient, p.ownHTTPClient = httpclient, false
}

// SetFilter sets what chooses among the nsqds that nsqlookupd names.
func (p *ProducerPool) SetFilter(filter DiscoveryFilter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filter = filter
}

// ConnectToNSQLookupd adds an nsqlookupd, by the "host:port" of its HTTP port or
// a URL: all nsqds that are registered there belong to the pool. The first one
// is asked before it returns; then all are asked every LookupdPollInterval. An
// nsqd that two polls in a row do not name, answered by every nsqlookupd, leaves
// the pool. Failed questions are logged, not returned.
func (p *ProducerPool) ConnectToNSQLookupd(addr string) error {
	endpoint, err := nodesEndpoint(addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return ErrStopped
	}
	first := len(p.lookupdHTTPAddrs) == 0
	if !slices.Contains(p.lookupdHTTPAddrs, endpoint) {
		p.lookupdHTTPAddrs = append(p.lookupdHTTPAddrs, endpoint)
	}
	if p.lookupClient == nil {
		p.lookupClient, p.ownHTTPClient = newLookupClient(p.config.LookupdPollTimeout), true
	}
	p.mu.Unlock()
	if first {
		p.queryLookupd()
		p.goUnlessStopped(p.lookupdLoop)
	}
	return nil
}

// ConnectToNSQLookupds adds several nsqlookupds, up to the first error.
func (p *ProducerPool) ConnectToNSQLookupds(addresses []string) error {
	for _, addr := range addresses {
		if err := p.ConnectToNSQLookupd(addr); err != nil {
			return err
		}
	}
	return nil
}

// lookupdLoop asks nsqlookupd every LookupdPollInterval, the first time up to
// LookupdPollJitter of it later.
func (p *ProducerPool) lookupdLoop() {
	interval := p.config.LookupdPollInterval
	wait := interval + time.Duration(rand.Float64()*p.config.LookupdPollJitter*float64(interval))
	for sleepContext(p.ctx, wait) {
		p.queryLookupd()
		wait = interval
	}
}

// queryLookupd asks all nsqlookupds which nsqds there are.
func (p *ProducerPool) queryLookupd() {
	p.mu.Lock()
	lookupds := lookupClient{
		ctx:       p.ctx,
		http:      p.lookupClient,
		header:    lookupHeader(&p.config),
		endpoints: slices.Clone(p.lookupdHTTPAddrs),
		log:       p.log,
	}
	filter := p.filter
	p.mu.Unlock()

	listed, complete := lookupds.ask()
	if len(listed) == 0 && !complete {
		return
	}
	if filter != nil {
		listed = filter.Filter(listed)
	}
	for _, addr := range listed {
		p.add(addr, false)
	}
	for _, node := range *p.nodes.Load() {
		p.noteListed(node, slices.Contains(listed, node.producer.addr), complete)
	}
}

// noteListed removes a node that is not named any more.
func (p *ProducerPool) noteListed(node *poolNode, listed, complete bool) {
	switch {
	case listed || node.direct.Load():
		node.unlisted = 0
		return
	case complete:
		node.unlisted++
	}
	if node.unlisted >= pollsUntilUnlisted {
		p.log(LogLevelInfo, "nsqlookupd does not name this nsqd any more", slog.String("addr", node.producer.addr))
		_ = p.RemoveNSQD(node.producer.addr) // fails only if someone was faster
	}
}
