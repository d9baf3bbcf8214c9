//go:build unix

package nsq

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The benchmarks talk to a fakeNSQD in a process of its own and report the CPU
// time of the client alone as cpu-ns/message, beside the usual time.

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

// reportPerMessage reports the time, and the CPU time since start, of each of n
// messages.
func reportPerMessage(b *testing.B, start time.Duration, n int) {
	b.ReportMetric(float64(b.Elapsed())/float64(n), "ns/message")
	b.ReportMetric(float64(cpuTime(b)-start)/float64(n), "cpu-ns/message")
}

func benchProducer(b *testing.B) *Producer {
	w := newTestProducer(b, startBenchServer(b), NewConfig())
	if err := w.Ping(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return w
}

// BenchmarkPublishAsync has 1,000 transactions under way.
func BenchmarkPublishAsync(b *testing.B) {
	w := benchProducer(b)
	body := make([]byte, 100)
	done := make(chan *ProducerTransaction, 1000)
	finish := func() {
		if t := <-done; t.Error != nil {
			b.Fatal(t.Error)
		}
	}
	start := cpuTime(b)
	underWay := 0
	for b.Loop() {
		if underWay == cap(done) {
			finish()
			underWay--
		}
		if err := w.PublishAsync("discard", body, done); err != nil {
			b.Fatal(err)
		}
		underWay++
	}
	for ; underWay > 0; underWay-- {
		finish()
	}
	reportPerMessage(b, start, b.N)
}

func BenchmarkPublish(b *testing.B) {
	body := make([]byte, 100)
	b.Run("one goroutine", func(b *testing.B) {
		w := benchProducer(b)
		start := cpuTime(b)
		for b.Loop() {
			if err := w.Publish("discard", body); err != nil {
				b.Fatal(err)
			}
		}
		reportPerMessage(b, start, b.N)
	})
	b.Run("32 goroutines", func(b *testing.B) {
		w := benchProducer(b)
		b.SetParallelism(max(1, 32/runtime.GOMAXPROCS(0)))
		start := cpuTime(b)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := w.Publish("discard", body); err != nil {
					b.Error(err)
				}
			}
		})
		reportPerMessage(b, start, b.N)
	})
}

// BenchmarkMultiPublish sends 100 messages in a command.
func BenchmarkMultiPublish(b *testing.B) {
	w := benchProducer(b)
	bodies := make([][]byte, 100)
	for i := range bodies {
		bodies[i] = make([]byte, 100)
	}
	start := cpuTime(b)
	for b.Loop() {
		if err := w.MultiPublish("discard", bodies); err != nil {
			b.Fatal(err)
		}
	}
	reportPerMessage(b, start, b.N*len(bodies))
}

// BenchmarkConsume receives, handles and finishes 1,000 messages.
func BenchmarkConsume(b *testing.B) {
	const batch = 1000
	for _, handlers := range []int{1, 8} {
		b.Run(fmt.Sprintf("handlers=%d", handlers), func(b *testing.B) {
			config := NewConfig()
			config.MaxInFlight = 1000
			r := newTestConsumer(b, "endless", config)
			var count atomic.Int64
			handled, enough := make(chan struct{}), make(chan struct{})
			r.AddConcurrentHandlers(HandlerFunc(func(*Message) error {
				if count.Add(1)%batch == 0 {
					select {
					case handled <- struct{}{}:
					case <-enough:
					}
				}
				return nil
			}), handlers)
			if err := r.ConnectToNSQD(startBenchServer(b)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			<-handled
			start := cpuTime(b)
			for b.Loop() {
				<-handled
			}
			reportPerMessage(b, start, b.N*batch)
			close(enough)
		})
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
