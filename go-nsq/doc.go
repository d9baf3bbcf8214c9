// Package nsq is the Go client library of NSQ: a Producer that publishes to an
// nsqd and a Consumer that receives the messages of a channel.
//
// # Consumer
//
//	config := nsq.NewConfig()
//	config.MaxInFlight = 100
//	consumer, err := nsq.NewConsumer("orders", "billing", config)
//	if err != nil { ... }
//	consumer.AddConcurrentHandlers(nsq.HandlerFunc(func(m *nsq.Message) error {
//		return bill(m.Body) // nil finishes the message, an error requeues it
//	}), 10)
//	err = consumer.ConnectToNSQLookupd("127.0.0.1:4161")
//	...
//	consumer.Stop()
//	<-consumer.StopChan
//
// # Producer
//
//	producer, err := nsq.NewProducer("127.0.0.1:4150", nsq.NewConfig())
//	if err != nil { ... }
//	err = producer.Publish("orders", body)
//	...
//	producer.Stop()
//
// # How it works
//
// A publish goes Publish, sendCommand, sendCommandAsync, transactionChan. The
// router, one goroutine per connection, takes all that waits there, writes it
// and flushes when nothing waits. nsqd answers in order: the connection's read
// loop calls onConnResponse or onConnError, popTransaction finds the first
// transaction, and deliveries hands it to its doneChan. Writing and reading
// never wait for each other, so they cannot come to a standstill with both
// directions of the connection full.
//
// A message goes readLoop, onConnMessage, incomingMessages, handlerLoop, then
// Message.Finish or Requeue, msgResponseChan, writeLoop. Before its FIN or REQ
// is written, backoff and RDY are adjusted, and what they send comes first.
// The write loop takes all answers that wait and flushes once.
//
// nsqds are found by ConnectToNSQLookupd, queryLookupd, nextLookupdEndpoint,
// apiRequestNegotiateV1, ConnectToNSQD; RDY is set by shareRDY,
// maybeUpdateRDY, updateRDYLocked, sendRDY; startStopContinueBackoff, backoff
// and resume pause after failures.
//
// # Goroutines
//
//	goroutine                started by             ends when                       waited for by
//	readLoop, writeLoop      Conn.Connect           the connection ends             waitForCleanup
//	waitForCleanup           Conn.close             it has called OnClose           the owner of the Conn
//	router                   Producer.connect       connection closed, or Stop      Producer.Stop, connect
//	waitForEnd               Producer.close         router and connection ended     Producer.Stop, connect
//	deliveries.send          a doneChan was full    its reader has taken all        nobody: only the reader can end it
//	handlerLoop              AddConcurrentHandlers  incomingMessages closed, empty  Consumer.exit follows the last
//	rdyLoop, lookupdLoop     NewConsumer, lookupd   Consumer.exit                   Consumer.exit
//	reconnect                a lost connection      connected, or Consumer.exit     Consumer.exit
//
// # What has surprised us
//
//   - A read that is stopped by shutting down the socket's read side makes the
//     system answer what still arrives with a reset, and nsqd can lose FINs it
//     has not read. We stop reading with a deadline, and read to the end before
//     the socket is closed.
//   - A FIN may be written only after the RDY changes it causes: after a
//     failure nsqd would use the room for the next message at once.
//   - compress/flate writes 240 bytes at a time, hence a buffer below it.
package nsq
