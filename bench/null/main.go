// Null is the limit for an nsqd: a server that moves the same bytes over the same
// sockets and queues nothing, to be put under the load that an nsqd is measured with.
// What it does and does not is said in package bench/internal/null. It stops at Ctrl-C
// and SIGTERM.
//
//	null [-tcp-address 127.0.0.1:4150] [-http-address 127.0.0.1:4151]
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsq-suite/nsq/bench/internal/null"
	"github.com/nsq-suite/nsq/internal/logging"
)

func main() {
	tcpAddr := flag.String("tcp-address", "127.0.0.1:4150", "`address` for clients")
	httpAddr := flag.String("http-address", "127.0.0.1:4151", "`address` for HTTP")
	flag.Parse()
	if err := run(*tcpAddr, *httpAddr); err != nil {
		fmt.Fprintf(os.Stderr, "null failed: %v\n", err)
		os.Exit(1)
	}
}

func run(tcpAddr, httpAddr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, err := null.Listen(tcpAddr, httpAddr, logging.New(os.Stderr, "[null] ", slog.LevelInfo))
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
