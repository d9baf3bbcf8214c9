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
//	upgrade.go     … and the layers it adds: TLS, and a compression inside it
//	compress.go    snappy and deflate streams, whose memory is borrowed
//	publish.go     PUB MPUB DPUB: name, size, then the topic
//	topic.go       Topic: takes messages, passes them to its channels
//	queue.go       queue: memory first, disk when full; one type for topics and channels
//	channel.go     Channel: a queue, its consumers, pause, empty, close
//	pump.go        messagePump, one per client: RDY, mark in flight, write, flush, heartbeat
//	inflight.go    inFlight and deferred: start, finish, touch, take what is due
//	consume.go     SUB RDY FIN REQ TOUCH CLS: a consumer's words
//	timekeeper.go  rings when a message has timed out or a deferred one is due
//
// Around that path: options.go; nsqd.go (New, Run, the map of topics); message.go
// and guid.go (what a message is and how it is named); storage.go, metadata.go and
// dirlock_*.go (the data directory); lookup.go and lookup_peer.go (towards
// nsqlookupd); tls.go (TLS options and their checks); http*.go and stats.go (the HTTP API).
//
// # Goroutines
//
// Run starts, and waits for, the accept loop, the HTTP and HTTPS servers, the timekeeper,
// the metadata writer and the nsqlookupd peers. The accept loop's connSet starts, and
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
//	timekeeper.mu  an alarm is set
//
// None of them is held during network or disk I/O, with one exception: NSQD.mu and
// Topic.mu while a queue that a former run left on disk is opened, which happens
// once per name. Locks whose whole purpose is I/O (output.mu, metadata.writing,
// queue.opening, those of the disk queue) are taken last.
//
// # What has surprised us
//
//   - A topic passes messages to its channels on the publisher's goroutine. Whether
//     it may is decided under Topic.mu and read without it; see reflowLocked for why
//     no message is left behind when that changes between the look and the put.
//   - memqueue's token is a baton: who receives it and takes nothing must pass it
//     on, or a consumer sleeps beside a queue with messages.
//   - A consumer that sleeps because its RDY room is used up is not woken by every
//     FIN but by the first of a run (starved). The pump sets starved and looks at the
//     room again before it sleeps, so that no FIN falls between.
//   - An alarm of the timekeeper is not taken back when what it was set for goes
//     away: that would cost something per message. It rings, finds nothing due and is
//     set anew.
//   - A connection is closed by its IOLoop, not by who wants it gone: closing the
//     socket would drop what waits to be sent, and TLS would end without a word. So
//     stop sets deadlines; setReadDeadline and setDeadlineLocked look for it after
//     they have set another, or a stop that came in between would be lost.
//   - With layers over the socket the IOLoop's reads tell nothing of what has arrived:
//     TLS and compressions hold some of it back. Answers are therefore flushed below
//     them, in wire.Read.
//   - output.mu is held during a TLS handshake: a heartbeat in between would be
//     plaintext in it.
//   - Setting a socket deadline costs as much as a small write, so deadlines are
//     set a little late and serve many operations.
package nsqd
