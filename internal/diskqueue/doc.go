// Package diskqueue keeps records in rolling files, first in, first out. It is
// where topics and channels put what does not fit in memory, and what they hold
// when nsqd stops. The files are those of upstream's diskqueue 1.1, so that a
// data directory can move between the two in both directions.
//
// # Files
//
// All are in one directory, mode 0600. <name> is the topic, or topic and
// channel joined by ':' (';' on Windows).
//
//	<name>.diskqueue.<NNNNNN>.dat           records; at least six digits
//	<name>.diskqueue.<NNNNNN>.dat.bad       damaged bytes, never read again
//	<name>.diskqueue.meta.dat               positions
//	<name>.diskqueue.meta.dat.<number>.tmp  positions being written
//	<name>.diskqueue.unfinished.dat         records taken long ago; only while it runs
//
// A record is its length (int32, big-endian) and that many bytes of payload.
// There is no header, checksum or padding. A record that would make a file
// longer than MaxBytesPerFile goes to the next one, unless the file is empty.
//
// The metadata is text, five decimal numbers: how many records wait, where the
// next is read (file number and byte offset), where the next will be written.
//
//	<depth>\n<read file>,<offset>\n<write file>,<offset>\n
//
// While records are taken and not finished the first two speak of the oldest of
// these. The last file in the list is this package's own (keptfile.go); upstream
// does not see it, and it is not there after Close if all was finished.
//
// # Reading the source
//
// In the order a record meets it: batch.go (records as bytes), group.go (Put),
// write.go (commits, rollover), sync.go (fsync and metadata in the background), read.go
// (Take), extent.go (what is a record and what is damage), damage.go (setting
// aside). queue.go has the Queue, Open and Close; recover.go is what Open does;
// close.go is the end; metadata.go, store.go, names.go, fs*.go and volume_linux.go
// are the files underneath; shared.go, gathering.go and pool.go are what the queues of
// a process have in common. window.go is which records were taken and are not
// finished; kept.go and keptfile.go are where those go that stay so for long.
//
// # Locks
//
// In this order, each for one thing:
//
//	writeMu     one group is written, and synced if it must be
//	syncMu      one fsync: a rollover waits for the one in the background
//	metadataMu  one save: they must not overtake each other
//	readMu      one Take
//	keptMu      the file of the kept is read or written
//	mu          positions and counts, a few assignments, no I/O
//
// gatherMu is held alone or under writeMu, and never waited under. Take needs
// readMu and mu only, so no fsync holds it up; Depth needs none. Only Empty and
// Delete hold all. Notify is called with writeMu at most, since it may Take.
//
// There is no goroutine. The first operation that is not on stable storage arms
// a timer; its function syncs, saves, and closes the files if nothing has
// happened since. Close and Delete stop it or wait for it.
//
// # Thousands of queues
//
// A queue holds a [File] that may be closed behind its back and is opened again
// for its next call (pool.go, whose locks are leaves): so the files of all queues
// that are open at a time are bounded, whatever the number of queues that are
// written at once. In the background a few queues sync at a time. They share the
// fsyncs of their directory with each other and with publishers: whoever comes
// while one runs waits for the next.
//
// Queues that are closed at the same time are made durable together (close.go): all
// write their metadata to temporary files, one syncfs(2) covers these and all data,
// then they are renamed, and one fsync of the directory covers that. A crash at any
// moment leaves each queue with its former metadata, or with none, or with the new and
// all it speaks of. Few queues sync by themselves, as do all where syncfs is not known
// to do it or fails: it does not tell whose data could not be written.
//
// # What survives
//
// Killing the process: every record for which Put has returned nil. The
// metadata is saved now and then, so after a kill it lags behind. Open reads on
// to the end of the last file, cuts off a record that was being written, and
// counts what it found.
//
// What was taken and not finished is among that: the read position that is saved,
// and the files that are kept, do not pass a record before Finish. One that stays
// unfinished long does not hold up the others, nor make a crash repeat all that
// was finished behind it. When more than MaxReplay finished records (or 4 KiB for
// each, where records are large), and four times as much as is unfinished, lie
// behind the oldest unfinished one, it is copied to the file of the kept, synced,
// and passed. (At the end of the queue it would have to be skipped once it is
// finished, and a clean stop could not tell upstream to do so.) Open puts what it
// finds there at the end of the queue. So what comes again after a kill although
// it was finished is at most that much, and what was finished since the last save:
// SyncEvery records or those of 100 ms, whichever is more, and at most those of
// SyncTimeout. The payload is the one that was stored: the attempts a message has
// had since are forgotten.
//
// Power loss: the same, for what was synced. With SyncEvery 1 that is every
// record for which Put has returned nil; otherwise at most twice SyncEvery are
// missing. The metadata never speaks of data that was not synced, except in
// the moment a queue begins its life.
//
// An older or upstream nsqd reading the directory after a crash: the metadata
// file is there before the first record (without one, upstream overwrites the
// data), and a file is begun only after the metadata points at it (upstream
// looks no further than one file beyond). A stop is the exception: what was in
// memory until then goes to files that have no metadata before Close has synced
// them. Whoever kills a daemon that stops loses what was in its memory, as ever.
//
// A failed write: the file is cut back, what this Put wrote into further files
// is removed, and readers have seen none of it. A failed fsync: with SyncEvery
// 1, or while the failure lasts, Put fails and takes back its records. Records
// accepted before are written over themselves through a newly opened file
// before the next fsync, since the kernel may have marked the pages it could
// not write as clean. That helps as long as those pages are still in memory.
//
// # Damage
//
// A record is believed when its length fits and the length behind it fits. When
// one does not, message ids (16 characters of lower-case hex at payload offset
// 10) show where records begin, so that a bad length costs the record it
// belongs to, also when it swallows others. The bytes in between are appended
// to the file's .bad, counted in [Damage] and logged as a [CorruptError]. For
// payloads that are no messages a bad length costs the rest of the file.
//
// # Surprises
//
//   - A record at the very end of a finished file is followed by a rollover
//     that the reader did not know of. Reading up to the real size of a file
//     with a lower number than the one being written is its end, not damage;
//     upstream sets such files aside one by one.
//   - A finished file is removed after the read position was saved, not when
//     its last record is finished: a kill in between would leave a position in a
//     missing file. On a full disk, where saving fails, it is removed anyway,
//     for that makes room.
//   - Sixteen publishers that wait for fsyncs settle into groups of 15 and 1,
//     because the next leader is ready before the others. Where an fsync takes long the
//     leader waits for them, which halves the fsyncs. To yield is not enough: they come
//     again by way of the network. Where it takes 0.1 ms, waiting costs more than a
//     further fsync, as the others are answered and come again meanwhile.
//   - ext4 without a journal does not use the inode of a removed file again for
//     minutes, and looks at all of those whenever a file is created. Renaming over a
//     file removes one. So metadata that is saved often makes the creation of files
//     slow, and a stop that saved it twice for each of 3,000 queues took three times as
//     long.
//   - Payloads are cut from what was read, without a copy. A caller that keeps
//     one of many for long pins up to 64 KiB.
//   - What a failed write leaves behind the end must go before the next file is
//     begun, or else becomes part of a finished file.
package diskqueue
