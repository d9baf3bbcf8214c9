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
//	peer.go        a connection: magic, lines, replies, its end
//	admission.go   who may register: TLS, certificates, secrets
//	commands.go    IDENTIFY, REGISTER, UNREGISTER, PING
//	producer.go    the nsqd that a connection stands for
//	registry.go    the database: producers, topics, channels, indexed both ways; changes
//	topic.go       what it holds of one topic and its channels
//	query.go       what it can be asked
//	http.go        the questions, and orders such as delete and tombstone
//
// # Goroutines
//
// Run starts the accept loop, the HTTP servers, the sweep of unused topics where it
// is asked for, and one goroutine that closes the listeners when the context ends;
// it waits for all. The accept loop starts one goroutine per connection, which ends
// with it; Run waits for those last.
//
// # Locks
//
// tcpServer.mu guards the set of connections and is taken alone. The topics of the
// registry are spread over 64 shards by the hash of their names, each with a lock of
// its own; registry.mu guards the list of producers, producer.mu what one producer
// has. The order is shard.mu -> producer.mu, because registering changes a topic and
// its producer together; registry.mu is taken alone, and nobody holds two shards. No
// lock is held during I/O or logging.
//
// Queries take the lock of a shard for reading, and no longer than it takes to copy
// what one topic has; they filter and render after letting go of it. So a query
// waits for nobody but a change to a topic of the same shard that is being made. The
// sign of life of a producer is an atomic, so a PING waits for nobody.
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
// A producer also has a slot, a small number that is free again when it has gone.
// Topics and channels hold slots instead of pointers: half the memory, and none of it
// for the garbage collector to follow. So a slot is given back after the last
// registration of its producer is removed, not before.
//
// Peers take turns, a few at a time: see type turns. What may block, a write or a
// read, is done between two turns.
//
// At the default log level each registration is a line, and through slog one line
// with a Write of its own costs more than registering. Peers gather their lines as
// they gather replies, and write both before they wait for input.
//
// # Where it differs from upstream
//
// Ephemeral topics and channels go with their last producer, also when its
// connection ends; an ephemeral topic takes its channels with it. A tombstone stays
// for its lifetime if the nsqd connects again. "*" as a name is a name like others,
// not a wildcard. Lists are sorted. Lines, bodies and the time to send the magic
// are bounded, silent connections are closed after --tcp-idle-timeout, what one
// connection and all together can make us hold is limited; a REGISTER beyond the
// limits is refused without an end of the connection. A tombstone for an IPv6 node
// works with and without brackets. A regular end of a connection is no ERROR, HTTP
// requests get time to end at shutdown. An empty --tcp-address is refused, an empty
// --http-address switches HTTP off.
//
// # Figures
//
// See the benchmarks: BenchmarkRegister, BenchmarkLookup, BenchmarkNodes,
// BenchmarkSession, and TestMemoryPerRegistration.
package nsqlookupd
