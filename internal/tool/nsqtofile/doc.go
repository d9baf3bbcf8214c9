// Package nsqtofile writes the messages of topics to files. Source: tools spec,
// section 5.
//
// A message goes HandleMessage, topic.run, writer.write, file.write. It stays in
// flight until topic.sync has made the file durable; only then it is finished. So
// whatever ends the process, a message is in a file that a reader can read to its
// end, or comes again, or both.
//
//	run.go       the topics: given, or discovered from time to time
//	topic.go     one topic: its Consumer, and the goroutine that writes
//	writer.go    one file after the other: names, rotation, the way to --output-dir
//	file.go      one file: buffer, compression, sync
//	open.go      opening, and what a crash has left in a file that is appended to
//	recover.go   what a crash has left in other files
//	members.go   how far a compressed file is whole
//	move.go      from --work-dir to --output-dir without a moment of half a file
//
// Files are locked (flock) while they are written: alone if they were created for
// us, shared if others may append. So processes can tell files left behind from
// files of each other.
package nsqtofile
