// Package nsqd is the queue daemon.
//
// # A message's life, and where to read it
//
//	tcp.go         accept, read the magic, one conn per client
//	conn.go        conn: socket, negotiated settings, counters, state
//	ioloop.go      IOLoop: execute the commands that have arrived, answer them
//	input.go       the bytes that have arrived; commands are parsed where they lie
//	output.go      frames on their way to the client, gathered and written
//	identify.go    IDENTIFY: settings checked and agreed on
//	auth.go        AUTH: who the client is, what it may publish and subscribe to
//	publish.go     PUB MPUB DPUB: name, size, then the topic
//	topic.go       Topic: takes messages, passes them to its channels
//	queue.go       queue: memory first, disk when full; one type for topics and channels
//	excess.go      what a channel must not lose and its disk does not take yet
//	delays.go      delays of messages on disk, and over a restart
//	channel.go     Channel: a queue, its consumers, pause, empty, close
//	pump.go        messagePump, one per client: RDY, mark in flight, write, flush, heartbeat
//	topology.go    preference: consumers nearby come first, an experiment
//	inflight.go    inFlight and deferred: start, finish, touch, take what is due
//	consume.go     SUB RDY FIN REQ TOUCH CLS: a consumer's words
//	timekeeper.go  rings when a message has timed out or a deferred one is due
//
// Around that path: options.go; nsqd.go (New, Run, the map of topics); message.go
// and guid.go (what a message is and how it is named); storage.go, metadata.go and
// dirlock_*.go (the data directory); health.go (whether messages can be stored); lookup.go and lookup_peer.go (towards
// nsqlookupd); http*.go and stats.go (the HTTP API).
//
// # Goroutines
//
// Run starts, and waits for, the accept loop, the HTTP server, the timekeeper, the
// metadata writer and the nsqlookupd peers. The accept loop's connSet starts, and
// waits for, one IOLoop per client, which starts, and waits for, the client's
// messagePump. A topic has a pump only while it has a backlog to move; closing the
// topic waits for it. An idle topic or channel has no goroutine and no timer.
//
// # Locks
//
// In the order in which they may be taken:
//
//	NSQD.mu        a topic is created or removed
//	Topic.mu       … and says so to NSQD.changed; a channel is created or removed
//	Channel.mu     a consumer joins or leaves
//	inFlight.mu    one per client; deferred.mu, one per channel
//	preference.mu  one per channel, with the experiment: who wants messages
//	timekeeper.mu  an alarm is set
//	excess.mu      a queue's mover starts or ends, an entry goes beyond the limit
//	health.mu      a queue has failed or recovered
//
// None of them is held during network or disk I/O, with one exception: NSQD.mu and
// Topic.mu while a queue that a former run left on disk is opened, which happens
// once per name. Locks whose whole purpose is I/O (output.mu, metadata.writing,
// queue.opening, excess.moveMu, those of the disk queue) are taken last.
//
// # What has surprised us
//
//   - A topic passes messages to its channels on the publisher's goroutine. Whether
//     it may is decided under Topic.mu and read without it; see reflowLocked for why
//     no message is left behind when that changes between the look and the put.
//   - Memory and disk of a topic are merged by age, since one pump reads both. A
//     channel's consumers take from whichever is ready first, as nobody can tell
//     which is older without reading: order is promised nowhere.
//   - memqueue's token is a baton: who receives it and takes nothing must pass it
//     on, or a consumer sleeps beside a queue with messages.
//   - A consumer that sleeps because its RDY room is used up is not woken by every
//     FIN but by the first of a run (starved). The pump sets starved and looks at the
//     room again before it sleeps, so that no FIN falls between.
//   - A consumer's claim on messages (preference) is its RDY room when somebody looks.
//     What it has taken and not yet marked in flight is counted twice for that
//     moment; it looks again itself when it has marked it.
//   - An alarm of the timekeeper is not taken back when what it was set for goes
//     away: that would cost something per message. It rings, finds nothing due and is
//     set anew.
//   - Setting a socket deadline costs as much as a small write, so deadlines are
//     set a little late and serve many operations.
package nsqd
