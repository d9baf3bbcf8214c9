// Package nsqtest is the test kit of the suite: a client's side of the TCP
// protocol V2 that speaks in bytes and fails the test when the answer is not
// the expected one ([Conn]), golden transcripts ([ReadTranscript]), a check for
// goroutines left behind ([NoLeaks]), and an in-memory network ([Pipe]).
//
// It knows the protocol and none of the daemons, so every package can use it,
// in tests inside the package too.
package nsqtest
