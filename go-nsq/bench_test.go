//go:build unix

package nsq

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The benchmarks talk to a fakeNSQD in a process of its own and report the CPU
// time of the client alone as cpu-ns/op, beside the usual time.

func init() {
	if os.Getenv(serverEnv) != "" {
		runBenchServer()
		os.Exit(0)
	}
}

// serverEnv makes the test binary such a server.
const serverEnv = "NSQ_BENCH_SERVER"

// runBenchServer prints its address and serves until its input ends.
func runBenchServer() {
	s, err := startFakeNSQD("", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.tcpAddr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.close()
}

func startBenchServer(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// cpuTime is the CPU time this process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration, ops int) {
	b.ReportMetric(float64(cpuTime(b)-start)/float64(ops), "cpu-ns/op")
}

func benchProducer(b *testing.B) *Producer {
	w := newTestProducer(b, startBenchServer(b), NewConfig())
	if err := w.Ping(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return w
}

func BenchmarkPublishAsync(b *testing.B) {
	w := benchProducer(b)
	body := make([]byte, 100)
	done := make(chan *ProducerTransaction, 1000)
	finished := make(chan struct{})
	start := cpuTime(b)
	b.ResetTimer()
	go func() {
		defer close(finished)
		for range b.N {
			if t := <-done; t.Error != nil {
				b.Error(t.Error)
			}
		}
	}()
	for range b.N {
		if err := w.PublishAsync("discard", body, done); err != nil {
			b.Fatal(err)
		}
	}
	<-finished
	reportCPU(b, start, b.N)
}

func BenchmarkPublish(b *testing.B) {
	for _, goroutines := range []int{1, 32} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			w := benchProducer(b)
			body := make([]byte, 100)
			start := cpuTime(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			finished := make(chan struct{})
			b.ResetTimer()
			for range goroutines {
				go func() {
					defer func() { finished <- struct{}{} }()
					for left.Add(-1) >= 0 {
						if err := w.Publish("discard", body); err != nil {
							b.Error(err)
						}
					}
				}()
			}
			for range goroutines {
				<-finished
			}
			reportCPU(b, start, b.N)
		})
	}
}

// BenchmarkMultiPublish counts messages, 100 in a command.
func BenchmarkMultiPublish(b *testing.B) {
	w := benchProducer(b)
	bodies := make([][]byte, 100)
	for i := range bodies {
		bodies[i] = make([]byte, 100)
	}
	start := cpuTime(b)
	b.ResetTimer()
	for n := 0; n < b.N; n += len(bodies) {
		if err := w.MultiPublish("discard", bodies); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, start, b.N)
}

// BenchmarkConsume counts messages that are received, handled and finished.
func BenchmarkConsume(b *testing.B) {
	for _, handlers := range []int{1, 8} {
		b.Run(fmt.Sprintf("handlers=%d", handlers), func(b *testing.B) {
			config := NewConfig()
			config.MaxInFlight = 1000
			r := newTestConsumer(b, "endless", config)
			var count atomic.Int64
			finished := make(chan struct{})
			r.AddConcurrentHandlers(HandlerFunc(func(*Message) error {
				if count.Add(1) == int64(b.N) {
					close(finished)
				}
				return nil
			}), handlers)
			addr := startBenchServer(b)
			b.ReportAllocs()
			start := cpuTime(b)
			b.ResetTimer()
			if err := r.ConnectToNSQD(addr); err != nil {
				b.Fatal(err)
			}
			<-finished
			reportCPU(b, start, b.N)
		})
	}
}

func BenchmarkCommandWriteTo(b *testing.B) {
	cmd := Publish("test", make([]byte, 2048))
	var buf bytes.Buffer
	b.SetBytes(2048)
	for b.Loop() {
		buf.Reset()
		if _, err := cmd.WriteTo(&buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProducerRouter publishes from many goroutines over a connection that
// answers at once.
func BenchmarkProducerRouter(b *testing.B) {
	w := newTestProducer(b, "127.0.0.1:0", NewConfig())
	conn := &mockConn{delegate: &producerConnDelegate{w}, pubs: make(chan struct{}, 100)}
	w.conn, w.closeChan = conn, make(chan int)
	atomic.StoreInt32(&w.state, StateConnected)
	go w.router()
	go conn.answer()
	body := make([]byte, 512)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := w.Publish("test", body); err != nil {
				b.Error(err)
			}
		}
	})
	close(conn.pubs)
}
