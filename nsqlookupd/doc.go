// Package nsqlookupd is the directory daemon. nsqds announce over TCP which
// topics and channels they have; consumers, nsqadmin and tools ask over HTTP.
// All of it is in memory: a restart empties the directory, and the nsqds fill
// it again.
//
// In the order an announcement meets them:
//
//	options.go     Options: flags and their meaning
//	nsqlookupd.go  NSQLookupd: New binds the listeners, Run serves until its context ends
//	tcp.go         accept, one peer per connection
//	peer.go        a connection: magic, commands, replies; the producer it stands for
//	registry.go    the database: producers, topics, channels, indexed both ways
//	topic.go       what it holds of one topic and its channels
//	http.go        the questions, and orders such as delete and tombstone
//
// # Goroutines
//
// Run starts the accept loop, the HTTP server and one goroutine that closes
// both when the context ends, and waits for all. The accept loop starts one
// goroutine per connection, which ends with it; Run waits for those last.
//
// # Locks
//
// tcpServer.mu guards the set of connections, registry.mu the database; no
// goroutine holds both, and neither is held during I/O or logging. Queries take
// registry.mu for reading, only to copy what they are going to render. The sign
// of life of a producer is an atomic outside of it, so a PING waits for nobody.
//
// # What has surprised us
//
// A connection that ended is removed from the registry before the last reply
// is written and the socket closed: whoever sees the end of the connection
// finds the registrations gone.
//
// A client may register from the same ip:port as a connection that has just
// been reset and is not cleaned up yet. So producers are told apart by a number
// of their own, not by their id.
//
// # Where it differs from upstream
//
// Ephemeral topics and channels go with their last producer, also when its
// connection ends; an ephemeral topic takes its channels with it. "*" as a name
// is a name like others, not a wildcard. Lists are sorted. Lines, bodies and
// the time to send the magic are bounded, silent connections are closed after
// --tcp-idle-timeout. A tombstone for an IPv6 node works with and without
// brackets. A regular end of a connection is no ERROR, SIGHUP does not end the
// process, HTTP requests get five seconds to end at shutdown.
//
// # Figures
//
// See the benchmarks: BenchmarkRegister, BenchmarkLookup, BenchmarkNodes,
// BenchmarkSession, and TestMemoryPerRegistration.
package nsqlookupd
