package nsqd

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// However many commands of a kind arrive at once, each is executed and answered.
func TestLongRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		c := b.connect().Sub("t", "ch")
		const n = 4 * (maxFinRun + maxRun)
		var fins, want strings.Builder
		for i := range n {
			fmt.Fprintf(&fins, "FIN %016x\n", i)
			want.Write(protocol.AppendFrame(nil, protocol.FrameError, fmt.Appendf(nil, "E_FIN_FAILED FIN %016x failed ID not in flight", i)))
		}
		// The first command is long enough for the next read to take in all of a run.
		c.Send(strings.Repeat("NOP\n", largeInput/8))
		synctest.Wait()
		go c.Send(fins.String())
		c.ExpectRaw(want.String())

		go c.Send(strings.Repeat(pubCommand("t", "x"), n))
		c.ExpectRaw(strings.Repeat(okFrame, n))
		nsqtest.Equal(t, b.topic("t").messages.Load(), uint64(n))
	})
}
