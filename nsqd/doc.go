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
//	auth.go        AUTH: who the client is, what it may publish and subscribe to
//	publish.go     PUB MPUB DPUB: name, size, then the topic
//	credit.go      … memory for a body before it has arrived
//	topic.go       Topic: takes messages, passes them to its channels
//	queue.go       queue: memory first, disk when full; one type for topics and channels
//	backend.go     … what it stores on disk and takes from there
//	excess.go      what a channel must not lose and its disk does not take yet
//	delays.go      delays of messages on disk, and over a restart
//	records.go     what was read from disk stays there until it is finished
//	channel.go     Channel: a queue, its consumers, pause, empty, close
//	pump.go        messagePump, one per client: RDY, mark in flight, write, flush, heartbeat
//	sleepers.go    consumers whose messagePumps have nothing to do, and who is woken
//	crew.go        the goroutines that run messagePumps
//	topology.go    preference: consumers nearby come first, an experiment
//	inflight.go    inFlight and deferred: start, finish, touch, take what is due
//	consume.go     SUB RDY FIN REQ TOUCH CLS: a consumer's words
//	timekeeper.go  rings when a message has timed out or a deferred one is due
//
// Around that path: options.go; nsqd.go (New, Run, the map of topics); listen.go,
// reload.go and stop.go (its beginning, its changes while it runs, its end); message.go
// and guid.go (what a message is and how it is named); storage.go, metadata.go and
// dirlock_*.go (the data directory); health.go (whether messages can be stored);
// lookup.go and lookup_peer.go (towards nsqlookupd); tls.go (TLS options and their
// checks); http*.go (the HTTP API); stats.go, latency.go (from publish to FIN),
// http_metrics.go and statsd.go (what there is to tell, and to whom); drain.go (out of
// service, and whether the daemon is ready).
//
// # Goroutines
//
// Run starts, and waits for, the accept loop, the HTTP and HTTPS servers, the
// timekeeper, the metadata writer, the nsqlookupd peers, the drainer, the trials of
// queues that fail and, where it is asked for, statsd. The HTTP servers come before
// topics are loaded, and tell of that; what is not about the daemon's health waits in
// them (onceReady). The accept loop's connSet starts, and waits for, one IOLoop per
// client, which waits for the client's messagePump. The IOLoop of a client that says
// little has commands executed on a goroutine that ends with them (aside), so that its
// own stack stays small. The messagePump has a goroutine only while there is something
// to do: a member of the crew, some of whom wait for the next pump, until Run ends
// them. An idle consumer costs one goroutine and 6 KiB in all. A topic has a pump only
// while it has a backlog to move; closing the topic waits for it. A channel has a mover
// (excess.go) only while it has more in memory than it may; closing or deleting the
// channel waits for that. An idle topic or channel has no goroutine and no timer.
//
// # Deferred messages
//
// The delay of a deferred publish begins when the message leaves its topic, that of
// a REQ at once. In a topic such a message is queued as any other. In a channel it
// waits in memory, in a heap by due time, outside of the queue's limit: about 300
// bytes for one of 200. A kill loses it there unless it was on disk before.
//
// On disk it is an ordinary record, so that every program that knows the queue files
// finds every message. Its delay is noted beside it: in memory while the daemon runs
// (a topic whose memory is full keeps some 50 bytes per deferred message that it has
// spilled), and from a clean stop on in a file, <queue>.deferred.dat, that is this
// daemon's own. When the record is read, the delay goes on: in a channel until the
// wall-clock time that was noted, in a topic with all of it. Until then the message
// counts in the depth, as every record does. Notes are matched by message ID, so a
// file that is missing, damaged or out of date costs delays, never a message, and
// brings none back. It stays until the next clean stop: after a kill it still holds
// for the records that are still there.
//
// # What a message costs in memory
//
// A batch is the bytes that messages came in, as they came, with four bytes for each
// that say where it ends (message.go). Queues hold rows of a batch (entry), not
// messages: a deep backlog is little more than its bodies, and the garbage collector
// finds two pointers for each batch. Single messages there are in flight, and where
// one was requeued, timed out or read from disk. What may wait long by itself gets
// memory of its own (alone), or it would keep its batch's.
//
// # What a kill leaves
//
// Every message that was on disk and is not finished comes again: queued, in
// flight, timed out, requeued or deferred. Its record is let go of when it is
// answered with FIN or discarded, or when it is stored anew, which is how its
// attempts get to disk; an entry says whether it has a record (records.go). How much
// of what was finished comes again is said in package diskqueue. Messages that were
// never on disk are lost: memory is what --mem-queue-size allows, and the deferred
// messages that went straight to a channel, which has them in memory with any size.
//
// A topic hands over what it has read from disk by way of the channels' disks, not
// through their memory, and lets go of it afterwards: what was safe stays so,
// without one channel's slowness keeping records for all of them. A deferred message
// goes to the channel's memory and, beside its queue, to disk (Keep). An ephemeral
// channel has no disk and takes no part. A channel whose disk does not take them
// borrows messages from the topic (loans): it has them in memory, and the topic keeps
// the record until none of the channels needs it.
//
// # Disks that fail
//
// A publisher is told when the topic's own queue cannot store a message. All that
// was accepted before is kept. A channel whose disk fails keeps in memory what it is
// given, up to about twice its limit; its topic stops handing over on the goroutines
// of publishers, and at all once the channel has that much. Then messages wait in
// the topic, for all its channels, until publishers are refused: a topic has one
// backlog, not one per channel. Up to there, healthy channels get theirs at once. A
// write that does not return holds up its publisher, and the topic's pump where
// there is a backlog; by then what they hand over is in the memory of the others.
//
// Messages that time out, are requeued or fall due were in memory before and stay
// there; meanwhile consumers take nothing from disk, or memory would fill with what
// they read and do not finish. Writes are tried again after 50 ms, later every
// second, and when one succeeds all goes its usual way again.
//
// /ping is bad while a queue cannot store messages, or an fsync in the background
// fails. It is good again by itself: a queue that keeps messages in memory stores
// them, and for one that has refused its publishers health.go tries, every second,
// whether as many bytes could be written and synced.
//
// Timeouts and deferred messages never wait for a disk: they go to memory, beyond
// the limit if need be, and from there to disk on the channel's mover.
//
// # Locks
//
// In the order in which they may be taken:
//
//	NSQD.changing  options change; files are read under it
//	NSQD.mu        a topic is created or removed
//	Topic.mu       … and says so to NSQD.changed; a channel is created or removed
//	Channel.mu     a consumer joins or leaves
//	inFlight.mu    one per client; deferred.mu, one per channel
//	preference.mu  one per channel, with the experiment: who wants messages
//	sleepers.mu    one per channel: who sleeps
//	pump.callMu    one per client: its messagePump is called
//	crew.mu        … and gets a goroutine
//	timekeeper.mu  an alarm is set
//	loans.mu       a topic lends messages to channels, or has them back
//	excess.mu      a queue's mover starts or ends, an entry goes beyond the limit
//	health.mu      a queue has failed or recovered
//	drainer.mu     a drain begins or is cancelled
//	latencyWindow.mu  a run of FINs is recorded
//
// None of them is held during network or disk I/O, with two exceptions: changing, for
// which only other changes wait; and NSQD.mu and Topic.mu while a queue that a former
// run left on disk is opened, which happens once per name. Locks whose whole purpose is I/O (output.mu, metadata.writing,
// pump.bursting, queue.opening, excess.moveMu, those of the disk queue) are taken last.
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
//     on, or a consumer sleeps beside a queue with messages. It is handed to who has
//     slept longest (sleepers): a pump that is awake would be back for it before one
//     that has to wake up, and consumers would not share.
//   - A consumer that sleeps because its RDY room is used up is not woken by every
//     FIN but by the first of a run (starved). The pump sets starved and looks at the
//     room again before it sleeps, so that no FIN falls between.
//   - A consumer's claim on messages (preference) is its RDY room when somebody looks.
//     What it has taken and not yet marked in flight is counted twice for that
//     moment; it looks again itself when it has marked it.
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
//   - A stack that has grown to 4 KiB does not become smaller before its goroutine ends,
//     as the runtime keeps room of nearly 1 KiB in each. A read that waits fits into the
//     first 2 KiB, no command does.
//   - Setting a socket deadline costs as much as a small write, so deadlines are
//     set a little late and serve many operations.
package nsqd
