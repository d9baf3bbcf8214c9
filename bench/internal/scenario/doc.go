// Package scenario is what the benchmark programs do: each type is one kind of work for
// an nsqd, whose exported fields are the flags of its program, and is measured the same
// way there and by the runner of all (package bench).
//
//	writer.go       publish: PUB or MPUB, some commands outstanding
//	http.go         publish by POST /pub
//	reader.go       drain a channel that was filled before
//	channels.go     publish to topics with channels, and consume them at the same time
//	latency.go      publish at a pace, and see how old messages arrive
//	connections.go  many consumers that have nothing to do
//	topics.go       many topics, and a restart
//	deferred.go     many messages that are not due
//
// How nsqd is started and spoken to is in package load.
package scenario
