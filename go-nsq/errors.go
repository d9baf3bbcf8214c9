package nsq

import "errors"

// ErrNotConnected is what a publish gets when its connection was lost before
// the answer came (the message may have been stored), and what disconnecting
// from an unknown address returns.
var ErrNotConnected = errors.New("not connected")

// ErrStopped is returned by every use of a Producer after Stop.
var ErrStopped = errors.New("stopped")

// ErrClosing means that a connection is being closed: a RDY update was refused
// (seen only in logs), or Connect was called after Close.
var ErrClosing = errors.New("closing")

// ErrAlreadyConnected is returned by ConnectToNSQD for an address to which the
// Consumer has a connection or is making one.
var ErrAlreadyConnected = errors.New("already connected")

// ErrOverMaxInFlight means that a RDY update was refused because the total
// would exceed max in flight. It is seen only in logs.
var ErrOverMaxInFlight = errors.New("over configure max-inflight")

// ErrIdentify says that the handshake with nsqd failed.
// It is always used as a value, never as a pointer.
type ErrIdentify struct {
	Reason string // nsqd's error frame, or the text of the underlying error
}

// Error returns "failed to IDENTIFY - " and the reason.
func (e ErrIdentify) Error() string {
	return "failed to IDENTIFY - " + e.Reason
}

// ErrProtocol is an error frame with which nsqd answered a publish, or the one
// it would have answered: what is certain to be refused is not sent at all.
// It is always used as a value, never as a pointer.
type ErrProtocol struct {
	Reason string // the frame verbatim: code, space, description
}

// Error returns the reason verbatim, for example
// `E_BAD_TOPIC PUB topic name "x*y" is not valid`.
func (e ErrProtocol) Error() string {
	return e.Reason
}
