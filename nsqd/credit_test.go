package nsqd

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// Clients that announce what they do not send get memory for a few of them, and what
// they had is there for others when they have gone or have sent it.
func TestCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		credit := &b.svc.credit
		announcement := string(protocol.AppendCommand(nil, "PUB", "t")) + "\x00\x10\x00\x00" // 1 MiB
		batch := string(protocol.AppendCommand(nil, "MPUB", "t")) + "\x00\x10\x00\x00" + "\x00\x00\x00\x09"
		var clients []*nsqtest.Conn
		for i := range 100 {
			clients = append(clients, b.connect().Send([]string{announcement, batch}[i%2]))
		}
		synctest.Wait()
		if used := credit.used.Load(); used > creditLimit || used < creditLimit-1<<20 {
			t.Errorf("%d bytes for bodies that have not come, want nearly %d", used, creditLimit)
		}
		// The one that has no credit is served as well.
		clients[98].Send(strings.Repeat("a", 1<<20)).ExpectOK()
		for _, c := range clients {
			c.Close()
		}
		synctest.Wait()
		nsqtest.Equal(t, credit.used.Load(), int64(0))
		b.connect().Pub("t", strings.Repeat("a", 1<<20)).Mpub("t", strings.Repeat("a", 1<<19), strings.Repeat("b", 1<<19))
		nsqtest.Equal(t, credit.used.Load(), int64(0))
	})
}
