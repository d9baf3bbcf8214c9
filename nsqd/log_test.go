package nsqd

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/logging"
)

// Scripts look for these lines. Source: nsqd HTTP API, "Logging" and "Signals,
// shutdown, exit codes".
func TestLinesOfALife(t *testing.T) {
	var logged logLines
	d := startDaemon(t, func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	c := d.dial()
	addr := c.LocalAddr()
	c.Command("BOGUS").ExpectError("E_INVALID invalid command BOGUS").ExpectClosed()
	d.post("/topic/create?topic=t", "", "")
	d.post("/channel/create?topic=t&channel=ch", "", "")
	d.post("/pub?topic=t", "x", "OK")
	d.post("/topic/create?topic=alone", "", "")
	d.post("/pub?topic=alone", "x", "OK")
	d.post("/topic/create?topic=gone", "", "")
	d.post("/topic/delete?topic=gone", "", "")
	d.shutdown()
	for _, lines := range [][]string{
		{
			fmt.Sprintf("INFO: TCP: new client(%s)", addr),
			fmt.Sprintf("INFO: CLIENT(%s): desired protocol magic '  V2'", addr),
			fmt.Sprintf("ERROR: [%s] - E_INVALID invalid command BOGUS", addr),
			fmt.Sprintf("ERROR: client(%s) - E_INVALID invalid command BOGUS", addr),
			fmt.Sprintf("INFO: PROTOCOL(V2): [%s] exiting messagePump", addr),
			fmt.Sprintf("INFO: PROTOCOL(V2): [%s] exiting ioloop", addr),
		},
		{"INFO: TOPIC(gone): created", "INFO: TOPIC(gone): deleting", "INFO: NSQ: closing topics"},
		{
			"INFO: TOPIC(t): created", "INFO: TOPIC(t): new channel(ch)",
			"INFO: NSQ: closing topics", "INFO: TOPIC(t): closing", "INFO: TOPIC(t): closing ... messagePump",
			"INFO: CHANNEL(ch): closing", "INFO: CHANNEL(ch): flushing 1 memory 0 in-flight 0 deferred messages to backend",
			"INFO: NSQ: bye",
		},
		{"INFO: TOPIC(alone): closing ... messagePump", "INFO: TOPIC(alone): flushing 1 memory messages to backend", "INFO: NSQ: bye"},
	} {
		rest := logged.String()
		for _, line := range lines {
			var found bool
			if _, rest, found = strings.Cut(rest, line+"\n"); !found {
				t.Errorf("the log lacks %q, or has it too early:\n%s", line, &logged)
				break
			}
		}
	}
}
