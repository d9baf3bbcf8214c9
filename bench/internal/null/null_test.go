package null

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

func start(t *testing.T) *Server {
	t.Helper()
	nsqtest.NoLeaks(t)
	s, err := Listen("127.0.0.1:0", "127.0.0.1:0", logging.New(t.Output(), "[null] ", slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *Server) *nsqtest.Conn {
	t.Helper()
	return nsqtest.Dial(t, s.TCPAddr().String())
}

// post publishes over HTTP and returns the answer.
func post(t *testing.T, s *Server, body string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post("http://"+s.HTTPAddr().String()+"/pub?topic=t", "", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Status + " " + string(answer)
}

// expectMessages reads n messages with bodies of that size.
func expectMessages(t *testing.T, c *nsqtest.Conn, n, size int) (last nsqtest.Message) {
	t.Helper()
	for range n {
		if last = c.ReadMessage(); len(last.Body) != size {
			t.Fatalf("got a body of %d bytes, want %d", len(last.Body), size)
		}
	}
	return last
}

// A channel gets as many messages as were published, before and after it came into
// being, by whatever command.
func TestDeliversWhatWasPublished(t *testing.T) {
	s := start(t)
	producer := dial(t, s)
	producer.Pub("t", "abc")
	one := dial(t, s).Sub("t", "one").Rdy(100)
	expectMessages(t, one, 1, 3)

	producer.Mpub("t", "abcd", "abcd", "abcd")
	expectMessages(t, one, 3, 4)
	producer.Dpub("t", time.Hour, "abcde")
	expectMessages(t, one, 1, 5)
	nsqtest.Equal(t, post(t, s, "abcdef"), "200 OK OK")
	expectMessages(t, one, 1, 6)
	producer.Pub("other", "abc").Pub("t", "a")
	expectMessages(t, one, 1, 1)

	expectMessages(t, dial(t, s).Sub("t", "two").Rdy(100), 7, 1)
}

// No more messages are in flight than RDY says. FIN, and REQ with which the message
// comes again, make room for others.
func TestRdy(t *testing.T) {
	s := start(t)
	dial(t, s).Mpub("t", "a", "b", "c", "d")
	c := dial(t, s).Sub("t", "c").Rdy(2)
	id := expectMessages(t, c, 2, 1).ID
	expectIdle := func() {
		c.Command("MPUB", "empty").Send("\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x01e").ExpectOK()
	}
	expectIdle()
	c.Fin(id).Touch(id)
	expectMessages(t, c, 1, 1)
	expectIdle()
	c.Req(id, 0)
	expectMessages(t, c, 1, 1)
	c.Cls().Fin(id).Fin(id)
	expectIdle()

	// What the one has left goes to the next.
	expectMessages(t, dial(t, s).Sub("t", "c").Rdy(2), 1, 1)
}

// Commands that arrive together are answered together, in their order.
func TestPipelined(t *testing.T) {
	c := dial(t, start(t))
	c.Send("PUB a\n\x00\x00\x00\x01xPUB b\n\x00\x00\x00\x01xNOP\nSUB b c\nRDY 1\n")
	c.ExpectOK().ExpectOK().ExpectOK()
	expectMessages(t, c, 1, 1)
}

func TestRefuses(t *testing.T) {
	s := start(t)
	for _, commands := range []string{
		"LOOKS WRONG\n", "PUB\n", "PUB t\n\x00\x00\x00\x00", "PUB t\n\xff\xff\xff\xff", "MPUB t\n\x00\x00\x00\x04\x00\x00\x00\x00",
		"RDY 1\n", "CLS\n", "REQ id 0\n", "SUB t\n", "SUB t c\nRDY x\n", "IDENTIFY\n\x00\x00\x00\x01{",
	} {
		c := dial(t, s).Send(commands)
		if strings.HasPrefix(commands, "SUB t c") {
			c.ExpectOK()
		}
		c.ExpectError("E_INVALID").ExpectClosed()
	}
	nsqtest.DialSilent(t, s.TCPAddr().String()).Send("GET / HTTP/1.1\r\n\r\n").ExpectClosed()
	nsqtest.Equal(t, post(t, s, strings.Repeat("x", maxMessageSize+1)), "413 Request Entity Too Large MSG_TOO_BIG\n")
}

// The client library can be measured with it.
func TestClientLibrary(t *testing.T) {
	s := start(t)
	producer, err := nsq.NewProducer(s.TCPAddr().String(), nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Stop()
	if err := producer.MultiPublish("t", [][]byte{[]byte("one"), []byte("two")}); err != nil {
		t.Fatal(err)
	}
	consumer, err := nsq.NewConsumer("t", "c", nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 2)
	consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
		got <- len(m.Body)
		return nil
	}))
	if err := consumer.ConnectToNSQD(s.TCPAddr().String()); err != nil {
		t.Fatal(err)
	}
	nsqtest.Equal(t, []int{<-got, <-got}, []int{3, 3})
	consumer.Stop()
	<-consumer.StopChan
}
