package nsq

// States of a Producer.
const (
	// StateInit: no connection; the next publish makes one.
	StateInit = iota
	// StateDisconnected: the connection is gone, its remains are being cleared.
	StateDisconnected
	// StateConnected: there is a connection and a router.
	StateConnected
)
