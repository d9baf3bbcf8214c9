package nsq_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
)

func ExampleConfigFlag() {
	cfg := nsq.NewConfig()
	flagSet := flag.NewFlagSet("", flag.ExitOnError)
	flagSet.Var(&nsq.ConfigFlag{cfg}, "consumer-opt", "option to pass to the Consumer (may be given multiple times)")

	err := flagSet.Parse([]string{
		"--consumer-opt=heartbeat_interval,1s",
		"--consumer-opt=max_attempts,10",
		"--consumer-opt=snappy",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(cfg.HeartbeatInterval, cfg.MaxAttempts, cfg.Snappy)
	// Output: 1s 10 true
}

func ExampleConfig_Set() {
	cfg := nsq.NewConfig()
	for _, option := range []struct {
		name  string
		value interface{}
	}{
		{"max-in-flight", "200"},
		{"msg_timeout", 90_000}, // milliseconds
		{"heartbeat_interval", 15 * time.Second},
		{"sample_rate", 100},
	} {
		if err := cfg.Set(option.name, option.value); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(cfg.MaxInFlight, cfg.MsgTimeout, cfg.HeartbeatInterval)
	// Output:
	// invalid sample_rate ! 100 > 99
	// 200 1m30s 15s
}

// A message is published, and handled by a consumer of the channel "billing".
func Example() {
	addr, stop := startNSQD()
	defer stop()

	consumer, err := nsq.NewConsumer("orders", "billing", nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	consumer.SetLogger(nil, nsq.LogLevelError)
	handled := make(chan struct{})
	consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
		fmt.Printf("attempt %d: %s\n", m.Attempts, m.Body)
		close(handled)
		return nil // an error would requeue the message
	}))
	if err := consumer.ConnectToNSQD(addr); err != nil {
		log.Fatal(err)
	}

	producer, err := nsq.NewProducer(addr, nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	producer.SetLogger(nil, nsq.LogLevelError)
	if err := producer.Publish("orders", []byte("one book")); err != nil {
		log.Fatal(err)
	}
	<-handled
	producer.Stop()
	consumer.Stop()
	<-consumer.StopChan
	fmt.Println(consumer.Stats().MessagesFinished, "finished")
	// Output:
	// attempt 1: one book
	// 1 finished
}

// Many publishes are under way at once; each has its outcome.
func ExampleProducer_PublishAsync() {
	addr, stop := startNSQD()
	defer stop()
	producer, err := nsq.NewProducer(addr, nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Stop()
	producer.SetLogger(nil, nsq.LogLevelError)

	done := make(chan *nsq.ProducerTransaction, 100)
	bodies := []string{"one", "two", ""}
	for i, body := range bodies {
		if err := producer.PublishAsync("numbers", []byte(body), done, i); err != nil {
			log.Fatal(err)
		}
	}
	for range bodies {
		result := <-done
		fmt.Println(result.Args[0], result.Error)
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 E_BAD_MESSAGE PUB invalid message body size 0
}

// A publish that takes too long is given up.
func ExampleProducer_PublishWithContext() {
	producer, err := nsq.NewProducer("192.0.2.1:4150", nsq.NewConfig()) // nobody there answers
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Stop()
	producer.SetLogger(nil, nsq.LogLevelError)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = producer.PublishWithContext(ctx, "orders", []byte("one book"))
	fmt.Println(errors.Is(err, context.Canceled))
	// Output: true
}

// Of two nsqds one is down: the pool publishes to the other.
func ExampleProducerPool() {
	addr, stop := startNSQD()
	defer stop()
	pool, err := nsq.NewProducerPool([]string{"127.0.0.1:1", addr}, nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Stop()
	pool.SetLogger(nil, nsq.LogLevelError)
	pool.SetStrategy(nsq.PoolFirstHealthy)

	err = pool.Publish("orders", []byte("one book"))
	if failure := (*nsq.PublishError)(nil); errors.As(err, &failure) && failure.Uncertain {
		fmt.Println("it may have been stored: publishing again may double it")
	}
	fmt.Println(err)
	for _, node := range pool.Nodes() {
		fmt.Println(node.Healthy, node.Stats.Published)
	}
	// Output:
	// <nil>
	// false 0
	// true 1
}

// Messages are handled up to three at a time.
func ExampleConsumer_AddBatchHandler() {
	addr, stop := startNSQD()
	defer stop()
	producer, err := nsq.NewProducer(addr, nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Stop()
	producer.SetLogger(nil, nsq.LogLevelError)
	if err := producer.MultiPublish("rows", [][]byte{[]byte("a"), []byte("b"), []byte("c")}); err != nil {
		log.Fatal(err)
	}

	config := nsq.NewConfig()
	config.MaxInFlight = 100 // no less than a batch
	consumer, err := nsq.NewConsumer("rows", "database", config)
	if err != nil {
		log.Fatal(err)
	}
	consumer.SetLogger(nil, nsq.LogLevelError)
	handled := make(chan int)
	consumer.AddBatchHandler(nsq.BatchHandlerFunc(func(messages []*nsq.Message) error {
		handled <- len(messages)
		return nil // all are finished; those a handler answers itself keep its answer
	}), 3, time.Second)
	if err := consumer.ConnectToNSQD(addr); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-handled)
	consumer.Stop()
	<-consumer.StopChan
	// Output: 3
}
