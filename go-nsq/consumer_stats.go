package nsq

import (
	"slices"
	"strings"
	"time"
)

// ConsumerStats are the counters of a Consumer.
type ConsumerStats struct {
	MessagesReceived uint64
	MessagesFinished uint64
	MessagesRequeued uint64
	Connections      int // established ones, those being closed included
}

// Stats returns the current counters.
func (r *Consumer) Stats() *ConsumerStats {
	r.mtx.RLock()
	defer r.mtx.RUnlock()
	return &ConsumerStats{
		MessagesReceived: r.messagesReceived.Load(),
		MessagesFinished: r.messagesFinished.Load(),
		MessagesRequeued: r.messagesRequeued.Load(),
		Connections:      len(r.connections),
	}
}

// ConsumerState is what a Consumer is doing.
type ConsumerState struct {
	ConsumerStats

	MessagesGivenUp uint64 // of those finished, the ones attempted too often
	AnswersFailed   uint64 // FIN, REQ and TOUCH that nsqd refused or never got

	Waiting  int // messages received that no handler has taken yet
	Handlers int // goroutines that handle messages

	MaxInFlight   int  // as configured or changed
	RDY           int  // sum over all connections; at most MaxInFlight
	BackoffLevel  int  // 0 outside backoff
	BackoffPaused bool // no connection has RDY, because of backoff

	Stopping   bool              // Stop was called
	Connecting []string          // addresses of nsqds being connected to
	Nsqds      []ConnectionState // established connections, by address
}

// ConnectionState is what a connection of a Consumer is doing.
type ConnectionState struct {
	Address         string
	RDY             int       // as last told to nsqd
	MaxRDY          int       // nsqd's limit
	InFlight        int       // messages received and not answered
	LastMessageTime time.Time // when the last message came; when it connected if none has
	Closing         bool      // it gets no more messages
}

// State returns what the Consumer is doing now. The parts are read one after
// the other, so they may be of slightly different times.
func (r *Consumer) State() ConsumerState {
	state := ConsumerState{
		ConsumerStats:   *r.Stats(),
		MessagesGivenUp: r.messagesGivenUp.Load(),
		AnswersFailed:   r.answersFailed.Load(),
		Waiting:         r.incomingMessages.len(),
		Handlers:        int(r.runningHandlers.Load()),
		Stopping:        r.stopFlag.Load(),
	}
	r.rdyMtx.Lock()
	state.MaxInFlight, state.RDY = int(r.maxInFlight), int(r.totalRdyInFlight)
	state.BackoffLevel, state.BackoffPaused = int(r.backoffLevel.Load()), r.backoffPaused
	for _, c := range r.conns() {
		state.Nsqds = append(state.Nsqds, ConnectionState{
			Address:         c.addr,
			RDY:             int(c.RDY()),
			MaxRDY:          int(c.MaxRDY()),
			InFlight:        int(c.inFlight.Load()),
			LastMessageTime: c.LastMessageTime(),
			Closing:         c.takesNoRDY(),
		})
	}
	r.rdyMtx.Unlock()

	r.mtx.RLock()
	defer r.mtx.RUnlock()
	for addr := range r.pendingConnections {
		state.Connecting = append(state.Connecting, addr)
	}
	slices.Sort(state.Connecting)
	return state
}

// ConsumerHooks are called when something happens, for metrics and alarms. Any
// of them may be nil. They may be called from several goroutines at once, must
// not block, and must not call the Consumer.
type ConsumerHooks struct {
	// Connected: the nsqd at addr has accepted our subscription.
	Connected func(addr string)

	// Disconnected: the connection to addr has ended. err says why; nil if we
	// ended it.
	Disconnected func(addr string, err error)

	// Handled: a handler has returned err, after it took so long. m is answered
	// next, unless the handler does that itself. A batch is told by message.
	Handled func(m *Message, took time.Duration, err error)

	// GaveUp: a message is finished because it was attempted too often.
	GaveUp func(m *Message)

	// AnswerFailed: an answer to a message did not reach nsqd or was refused.
	AnswerFailed func(AnswerFailure)

	// Backoff: the level has changed, or a pause begins: level 0 and no pause is
	// the end of backoff.
	Backoff func(level int, pause time.Duration)
}

// AnswerFailure says that an answer to a message failed. nsqd has delivered, or
// will deliver, the message again.
type AnswerFailure struct {
	Address string    // of the nsqd
	Command string    // FIN, REQ or TOUCH
	ID      MessageID // of the message
	Err     error     // ErrProtocol if nsqd refused it; ErrNotConnected if it was not sent
}

// SetHooks sets the hooks. It panics once the Consumer has been told to connect.
func (r *Consumer) SetHooks(hooks ConsumerHooks) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.connected {
		panic("already connected")
	}
	r.hooks = hooks
}

func (r *Consumer) onAnswerFailed(failure AnswerFailure) {
	r.answersFailed.Add(1)
	if r.hooks.AnswerFailed != nil {
		r.hooks.AnswerFailed(failure)
	}
}

// answerFailed reads an error frame that refuses an answer, for example
// "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight". It is false for
// any other.
func answerFailed(addr string, data []byte) (AnswerFailure, bool) {
	text := string(data)
	code, rest, _ := strings.Cut(text, " ")
	command, rest, _ := strings.Cut(rest, " ")
	id, _, _ := strings.Cut(rest, " ")
	switch {
	case len(id) != MsgIDLength || code != "E_"+command+"_FAILED":
		return AnswerFailure{}, false
	case command != "FIN" && command != "REQ" && command != "TOUCH":
		return AnswerFailure{}, false
	}
	return AnswerFailure{Address: addr, Command: command, ID: MessageID([]byte(id)), Err: ErrProtocol{text}}, true
}
