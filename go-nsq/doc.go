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
// A ProducerPool does the same with several nsqds, and goes on to another when
// one fails. Every publish and connect has a variant with a context.
//
// # How it works
//
// A publish goes Publish, sendCommand, sendTransaction, transactionChan. The
// router, one goroutine per connection, takes all that waits there, writes it
// and flushes when nothing waits. nsqd answers in order: the connection's read
// loop calls onConnResponse or onConnError, popTransaction finds the first
// transaction, and deliveries hands it to its doneChan. Writing and reading
// never wait for each other, so they cannot come to a standstill with both
// directions of the connection full. In a ProducerPool a poolPublish goes from
// nsqd to nsqd until one accepts it, or may have.
//
// A message goes readLoop, onConnMessage, incomingMessages, handlerLoop or
// batchLoop, then Message.Finish or Requeue, msgResponseChan, writeLoop. Before
// its FIN or REQ is written, backoff and RDY are adjusted, and what they send
// comes first. The write loop takes all answers that wait and flushes once.
//
// nsqds are found by ConnectToNSQLookupd, queryLookupd, lookupClient.ask,
// apiRequestNegotiateV1, connectTo, which ConnectToNSQD uses too; RDY is set by
// changeRDY, shareRDYLocked, sharesLocked, updateRDYLocked, sendRDY;
// startStopContinueBackoff, backoff and resume pause after failures.
//
// # Goroutines
//
//	goroutine                started by             ends when                       waited for by
//	readLoop, writeLoop      Conn.Connect           the connection ends             waitForCleanup
//	waitForCleanup           Conn.close             it has called OnClose           the owner of the Conn
//	runAttempt               Producer.connect       the connect has a result        Producer.Stop
//	router                   Producer.connect       connection closed, or Stop      Producer.Stop, connect
//	waitForEnd               Producer.close         router and connection ended     Producer.Stop, connect
//	deliveries.send          a doneChan was full    its reader has taken all        nobody: only the reader can end it
//	poolNode.recover         an nsqd failed         it is back, or left the pool    ProducerPool.Stop
//	poolPublish.sendAsync    an nsqd failed         another has taken the publish   ProducerPool.Stop
//	poolNode.stop            RemoveNSQD, Stop       its Producer has stopped        ProducerPool.Stop
//	ProducerPool.lookupdLoop ConnectToNSQLookupd    ProducerPool.Stop               ProducerPool.Stop
//	runHandler               AddConcurrentHandlers  incomingMessages closed, empty  Consumer.exit follows the last
//	rdyLoop, lookupdLoop     NewConsumer, lookupd   Consumer.exit                   Consumer.exit
//	connectToListed          queryLookupd           connected, or not               Consumer.exit
//	reconnect                a lost connection      connected, or Consumer.exit     Consumer.exit
//
// # Locks
//
// In this order; a lock that is not named is held for a few fields alone.
//
//   - Consumer.rdySendMtx: one change of RDY and telling nsqd are one step, or a
//     connection could be told what another has not been told to give up. The
//     only lock held while something is sent.
//   - Consumer.rdyMtx: RDY counts, their sum, backoff.
//   - Consumer.mtx: connections and addresses.
//   - Producer.finishing: finding an outcome and delivering it are one step, to
//     keep their order. A ProducerPool is told under it.
//   - ProducerPool.mu, Producer.guard, transactionQueue.mu, deliveries.mu.
//   - Conn.lifeMu, Conn.writeMu: the second is held for one write to the socket.
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
//   - A sync.Pool of Go channels for the whole process ends programs whose tests
//     use more than one synctest bubble: each Producer has its own.
//   - Somebody who tries ConnectToNSQD again until it succeeds would never leave
//     that loop once we connect in the background: so he is told of success once.
package nsq
