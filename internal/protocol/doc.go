// Package protocol is the NSQ TCP protocol as bytes, in both directions:
// names, commands, frames, messages, numbers and error codes. Both daemons and
// the client library share it.
//
// It knows nothing of sockets beyond [io.Reader], starts no goroutine and keeps
// no state. Append functions write to the end of a slice and return it, in the
// manner of [strconv.AppendInt]; they keep no reference to what they were given.
// All integers on the wire are big-endian.
package protocol

// The four bytes with which a client chooses the protocol it is going to speak.
// Source: TCP protocol spec, "Connecting".
const (
	MagicV1 = "  V1" // nsqd to nsqlookupd
	MagicV2 = "  V2" // client to nsqd
)

// Heartbeat is the data of the response frame by which nsqd asks a client for a
// sign of life.
const Heartbeat = "_heartbeat_"
