package nsq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// PublishError says that a ProducerPool could not publish. It wraps the errors
// of the attempts and their causes.
type PublishError struct {
	// Uncertain says that the last nsqd that was tried may have stored the
	// publish all the same. To publish again may double it.
	Uncertain bool

	// Attempts are the nsqds that were tried, in this order; none if there are
	// no nsqds.
	Attempts []PublishAttempt
}

// PublishAttempt is a failed attempt to publish.
type PublishAttempt struct {
	Address string
	Err     error // what the Producer for this nsqd returned
	Cause   error // what is behind ErrNotConnected; may be nil
}

// Error lists the attempts.
func (e *PublishError) Error() string {
	if len(e.Attempts) == 0 {
		return "publish: no nsqd"
	}
	var b strings.Builder
	b.WriteString("publish")
	if e.Uncertain {
		b.WriteString(" (may have been stored)")
	}
	for _, attempt := range e.Attempts {
		fmt.Fprintf(&b, ": (%s) %s", attempt.Address, attempt.Err)
		if attempt.Cause != nil {
			fmt.Fprintf(&b, " (%s)", attempt.Cause)
		}
	}
	return b.String()
}

// Unwrap returns the errors of all attempts and their causes; ErrNotConnected if
// there are no nsqds.
func (e *PublishError) Unwrap() []error {
	if len(e.Attempts) == 0 {
		return []error{ErrNotConnected}
	}
	var errs []error
	for _, attempt := range e.Attempts {
		errs = append(errs, attempt.Err)
		if attempt.Cause != nil {
			errs = append(errs, attempt.Cause)
		}
	}
	return errs
}

// A poolPublish is one publish on its way through the nsqds of a pool.
type poolPublish struct {
	pool     *ProducerPool
	cmd      *Command
	key      []byte
	tried    []*poolNode
	failures []PublishAttempt
	outcome  *ProducerTransaction // of an asynchronous one
}

func (p *ProducerPool) newPublish(topic string, first []byte, cmd *Command) *poolPublish {
	publish := &poolPublish{pool: p, cmd: cmd}
	if PoolStrategy(p.strategy.Load()) == PoolHash {
		publish.key = p.keyOf(topic, first)
	}
	return publish
}

func (p *ProducerPool) keyOf(topic string, body []byte) []byte {
	p.mu.Lock()
	key := p.key
	p.mu.Unlock()
	if key == nil {
		return []byte(topic)
	}
	return key(topic, body)
}

// next returns the nsqd to try next, nil if there is none left.
func (b *poolPublish) next() *poolNode {
	nodes := *b.pool.nodes.Load()
	if len(nodes) == 0 {
		return nil
	}
	strategy, start := PoolStrategy(b.pool.strategy.Load()), 0
	if strategy == PoolRoundRobin {
		start = int(b.pool.turn.Add(1) % uint64(len(nodes)))
	}
	var best *poolNode
	for i := range nodes {
		node := nodes[(start+i)%len(nodes)]
		if slices.Contains(b.tried, node) {
			continue
		}
		if best == nil || b.better(node, best, strategy) {
			best = node
		}
	}
	return best
}

// better says whether node is to be preferred to best, which comes before it.
func (b *poolPublish) better(node, best *poolNode, strategy PoolStrategy) bool {
	if healthy := node.healthy.Load(); healthy != best.healthy.Load() {
		return healthy
	}
	return strategy == PoolHash && hashScore(b.key, node.producer.addr) > hashScore(b.key, best.producer.addr)
}

// hashScore is what an nsqd bids for a key: the highest bid has it. It is the
// same in every process.
// Source: "A Name-Based Mapping Scheme for Rendezvous", Thaler and Ravishankar, 1996.
func hashScore(key []byte, addr string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	h = (h ^ 0xff) * prime
	for i := range len(addr) {
		h = (h ^ uint64(addr[i])) * prime
	}
	// FNV leaves the high bits of similar inputs alike.
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// verdict is what a failed attempt means for the publish.
type verdict int

const (
	tryNext verdict = iota // certainly not accepted, another nsqd may
	refused                // certainly not accepted, and no other nsqd will
	unclear                // it may have been accepted
)

// judge notes a failed attempt and says what follows from it.
func (b *poolPublish) judge(node *poolNode, err, cause error, uncertain bool) verdict {
	b.tried = append(b.tried, node)
	b.failures = append(b.failures, PublishAttempt{Address: node.producer.addr, Err: err, Cause: cause})
	if refusal, ok := errors.AsType[ErrProtocol](err); ok {
		return b.judgeRefusal(node, refusal)
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		node.failed(err)
	}
	if uncertain {
		return unclear
	}
	return tryNext
}

// judgeRefusal judges what nsqd said. A failure of its own, or a lack of
// permission, may be different at another nsqd; an invalid publish is not.
func (b *poolPublish) judgeRefusal(node *poolNode, refusal ErrProtocol) verdict {
	code, _, _ := strings.Cut(refusal.Reason, " ")
	switch code {
	case "E_PUB_FAILED", "E_DPUB_FAILED":
		node.failed(refusal)
		return tryNext
	case "E_MPUB_FAILED": // an nsqd may have stored some of the messages before it failed
		node.failed(refusal)
		return unclear
	case "E_AUTH_FAILED", "E_AUTH_FIRST", "E_UNAUTHORIZED":
		return tryNext
	}
	return refused
}

// failure is the error that the caller gets.
func (b *poolPublish) failure(v verdict) error {
	if v == refused {
		return b.failures[len(b.failures)-1].Err
	}
	return &PublishError{Uncertain: v == unclear, Attempts: b.failures}
}

// send publishes and waits for the answer.
func (b *poolPublish) send(ctx context.Context) error {
	if b.pool.isStopped() {
		return ErrStopped
	}
	for {
		node := b.next()
		if node == nil {
			return b.failure(tryNext)
		}
		uncertain, err := node.producer.send(ctx, b.cmd)
		if err == nil {
			node.healthy.Store(true)
			return nil
		}
		if b.pool.isStopped() && errors.Is(err, ErrStopped) {
			return ErrStopped
		}
		v := b.judge(node, err, causeOf(node, err), uncertain)
		if v != tryNext || ctx.Err() != nil {
			return b.failure(v)
		}
	}
}

func causeOf(node *poolNode, err error) error {
	if errors.Is(err, ErrNotConnected) {
		return node.producer.LastError()
	}
	return nil
}

// sendAsync queues the publish at an nsqd. If that fails later, done goes on.
func (b *poolPublish) sendAsync(ctx context.Context) error {
	if b.pool.isStopped() {
		return ErrStopped
	}
	for {
		node := b.next()
		if node == nil {
			return b.failure(tryNext)
		}
		t := &ProducerTransaction{cmd: b.cmd}
		t.details().onDone = func(t *ProducerTransaction) { b.done(node, t) }
		err := node.producer.sendTransaction(ctx, t)
		if err == nil {
			return nil
		}
		if b.pool.isStopped() && errors.Is(err, ErrStopped) {
			return ErrStopped
		}
		if v := b.judge(node, err, causeOf(node, err), false); v != tryNext || ctx.Err() != nil {
			return b.failure(v)
		}
	}
}

// done takes the outcome at one nsqd. It is called by a read loop or a router
// and must not block: what another nsqd is to be tried with has a goroutine.
func (b *poolPublish) done(node *poolNode, t *ProducerTransaction) {
	if t.Error == nil {
		node.healthy.Store(true)
		b.finish(nil, tryNext)
		return
	}
	v := b.judge(node, t.Error, t.Cause(), t.Uncertain())
	if v != tryNext {
		b.finish(b.failure(v), v)
		return
	}
	again := func() {
		if err := b.sendAsync(b.pool.ctx); err != nil {
			b.finish(err, tryNext)
		}
	}
	if !b.pool.goUnlessStopped(again) {
		b.finish(b.failure(tryNext), tryNext)
	}
}

// finish tells the caller of an asynchronous publish its outcome.
func (b *poolPublish) finish(err error, v verdict) {
	b.outcome.Error = err
	if len(b.failures) > 0 && err != nil {
		b.outcome.more = &transactionDetails{cause: b.failures[len(b.failures)-1].Cause, uncertain: v == unclear}
	}
	b.pool.deliveries.deliver(b.outcome)
}

func (p *ProducerPool) isStopped() bool {
	return p.ctx.Err() != nil
}

// Publish publishes body to topic at one of the nsqds and waits for its answer.
// An error is ErrStopped, ErrProtocol for what every nsqd would refuse, or a
// *PublishError.
func (p *ProducerPool) Publish(topic string, body []byte) error {
	return p.PublishWithContext(context.Background(), topic, body)
}

// PublishWithContext is Publish, given up when ctx ends: the *PublishError wraps
// its error then.
func (p *ProducerPool) PublishWithContext(ctx context.Context, topic string, body []byte) error {
	if err := checkPublish(topic, body); err != nil {
		return p.refuse(err)
	}
	return p.newPublish(topic, body, Publish(topic, body)).send(ctx)
}

// MultiPublish publishes several messages to topic, all at the same nsqd, and
// waits for its answer. Errors are those of Publish.
func (p *ProducerPool) MultiPublish(topic string, body [][]byte) error {
	return p.MultiPublishWithContext(context.Background(), topic, body)
}

// MultiPublishWithContext is to MultiPublish what PublishWithContext is to
// Publish.
func (p *ProducerPool) MultiPublishWithContext(ctx context.Context, topic string, body [][]byte) error {
	cmd, err := multiPublish(topic, body)
	if err != nil {
		return p.refuse(err)
	}
	return p.newPublish(topic, body[0], cmd).send(ctx)
}

// DeferredPublish is Publish, the message to be delivered after delay.
func (p *ProducerPool) DeferredPublish(topic string, delay time.Duration, body []byte) error {
	return p.DeferredPublishWithContext(context.Background(), topic, delay, body)
}

// DeferredPublishWithContext is to DeferredPublish what PublishWithContext is
// to Publish.
func (p *ProducerPool) DeferredPublishWithContext(ctx context.Context, topic string, delay time.Duration,
	body []byte) error {
	if err := checkDeferredPublish(topic, delay, body); err != nil {
		return p.refuse(err)
	}
	return p.newPublish(topic, body, DeferredPublish(topic, delay, body)).send(ctx)
}

// PublishAsync is Publish without waiting for the answer. If it returns nil,
// exactly one transaction is sent on doneChan, its Error as Publish would return
// it; nil discards it. Transactions may come in another order than published:
// nsqds answer each at its own pace. body must not be changed before.
func (p *ProducerPool) PublishAsync(topic string, body []byte, doneChan chan *ProducerTransaction,
	args ...interface{}) error {
	return p.PublishAsyncWithContext(context.Background(), topic, body, doneChan, args...)
}

// PublishAsyncWithContext is PublishAsync, given up when ctx ends before the
// publish could be queued. Afterwards ctx has no effect.
func (p *ProducerPool) PublishAsyncWithContext(ctx context.Context, topic string, body []byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	return p.publishAsync(ctx, checkPublish(topic, body), topic, body, Publish(topic, body), doneChan, args)
}

// MultiPublishAsync is MultiPublish in the manner of PublishAsync: one
// transaction for all messages.
func (p *ProducerPool) MultiPublishAsync(topic string, body [][]byte, doneChan chan *ProducerTransaction,
	args ...interface{}) error {
	return p.MultiPublishAsyncWithContext(context.Background(), topic, body, doneChan, args...)
}

// MultiPublishAsyncWithContext is to MultiPublishAsync what
// PublishAsyncWithContext is to PublishAsync.
func (p *ProducerPool) MultiPublishAsyncWithContext(ctx context.Context, topic string, body [][]byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	cmd, err := multiPublish(topic, body)
	var first []byte
	if len(body) > 0 {
		first = body[0]
	}
	return p.publishAsync(ctx, err, topic, first, cmd, doneChan, args)
}

// DeferredPublishAsync is DeferredPublish in the manner of PublishAsync.
func (p *ProducerPool) DeferredPublishAsync(topic string, delay time.Duration, body []byte,
	doneChan chan *ProducerTransaction, args ...interface{}) error {
	return p.DeferredPublishAsyncWithContext(context.Background(), topic, delay, body, doneChan, args...)
}

// DeferredPublishAsyncWithContext is to DeferredPublishAsync what
// PublishAsyncWithContext is to PublishAsync.
func (p *ProducerPool) DeferredPublishAsyncWithContext(ctx context.Context, topic string, delay time.Duration,
	body []byte, doneChan chan *ProducerTransaction, args ...interface{}) error {
	return p.publishAsync(ctx, checkDeferredPublish(topic, delay, body), topic, body,
		DeferredPublish(topic, delay, body), doneChan, args)
}

// publishAsync queues cmd, or delivers invalid, what nsqd would say to it.
func (p *ProducerPool) publishAsync(ctx context.Context, invalid error, topic string, first []byte, cmd *Command,
	doneChan chan *ProducerTransaction, args []interface{}) error {
	if p.isStopped() {
		return ErrStopped
	}
	if err := p.deliveries.waitForRoom(ctx, doneChan); err != nil {
		return err
	}
	outcome := &ProducerTransaction{Error: invalid, doneChan: doneChan, Args: args}
	if invalid != nil {
		p.deliveries.deliver(outcome)
		return nil
	}
	publish := p.newPublish(topic, first, cmd)
	publish.outcome = outcome
	return publish.sendAsync(ctx)
}

// refuse returns err, what nsqd would say, unless nobody would ask it.
func (p *ProducerPool) refuse(err error) error {
	if p.isStopped() {
		return ErrStopped
	}
	return err
}
