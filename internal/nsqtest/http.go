package nsqtest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
)

// ServeHTTP serves h in memory until the test ends, and returns how to connect to
// it, for the DialContext of a client. In a synctest bubble an answer may take
// minutes. Connections that the client keeps must be closed before the test ends.
func ServeHTTP(t testing.TB, h http.Handler) func(ctx context.Context, network, addr string) (net.Conn, error) {
	network := NewNetwork()
	server := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(network) }) // it returns when it is shut down
	t.Cleanup(func() {
		// Answers under way are waited for: their goroutines belong to the test.
		if err := server.Shutdown(context.Background()); err != nil {
			t.Errorf("stop HTTP server: %v", err)
		}
		serving.Wait()
	})
	return func(context.Context, string, string) (net.Conn, error) { return network.Dial() }
}
