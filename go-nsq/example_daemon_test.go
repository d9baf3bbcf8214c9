package nsq_test

import (
	"context"
	"log"
	"log/slog"
	"os"

	"github.com/nsq-suite/nsq/nsqd"
)

// startNSQD runs an nsqd for an example. stop stops it and removes its files.
func startNSQD() (tcpAddr string, stop func()) {
	dir, err := os.MkdirTemp("", "nsq-example-")
	if err != nil {
		log.Fatal(err)
	}
	opts := nsqd.NewOptions()
	opts.TCPAddress, opts.HTTPAddress, opts.HTTPSAddress = "127.0.0.1:0", "", ""
	opts.DataPath = dir
	opts.Logger = slog.New(slog.DiscardHandler)
	n, err := nsqd.New(opts)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- n.Run(ctx) }() // ends with stop
	return n.TCPAddr().String(), func() {
		cancel()
		if err := <-stopped; err != nil {
			log.Print(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Print(err)
		}
	}
}
