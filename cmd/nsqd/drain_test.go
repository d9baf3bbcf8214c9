//go:build unix

package main

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// startDraining runs an nsqd that drains when it gets SIGTERM, and returns its
// addresses.
func startDraining(t *testing.T, dataPath string, args ...string) (p *process, tcp, http string) {
	t.Helper()
	p = startProcess(t, append([]string{"--data-path=" + dataPath, "--sigterm=drain", "--drain-grace=0s"}, args...)...)
	// The two lines come in any order.
	for tcp == "" || http == "" {
		if at := p.wait(`INFO: (TCP|HTTP): listening on (\S+)`); at[1] == "TCP" {
			tcp = at[2]
		} else {
			http = at[2]
		}
	}
	return p, tcp, http
}

// expectStats checks that the text of /stats has some lines.
func expectStats(t *testing.T, addr, want string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/stats?include_mem=0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), want) {
		t.Errorf("got %s, %v; want in it %s", body, err, want)
	}
}

// A process that gets SIGTERM lets its consumer finish, and ends with 0.
func TestSigtermDrains(t *testing.T) {
	p, tcp, http := startDraining(t, t.TempDir())
	consumer := nsqtest.Dial(t, tcp).Sub("t", "c").Rdy(1)
	nsqtest.Dial(t, tcp).Mpub("t", "1", "2")
	first := consumer.ReadMessage()
	p.signal(syscall.SIGTERM)
	p.wait(`INFO: DRAIN: publishes are refused from now on\n`)
	nsqtest.Dial(t, tcp).CommandBody("3", "PUB", "t").ExpectError("E_PUB_FAILED PUB failed draining").ExpectClosed()
	expectStats(t, http, "\nDraining: publishes refused: true, messages left: 2\n")
	consumer.Fin(first.ID)
	consumer.Fin(consumer.ReadMessage().ID)
	p.wait(`INFO: DRAIN: empty\n`)
	p.wait(`INFO: NSQ: bye\n`)
	consumer.ExpectClosed()
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A second SIGTERM stops at once, SIGINT at any time, and so does the end of
// --drain-timeout. What is left is there again.
func TestDrainCutShort(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct {
		flag    string
		signals []syscall.Signal
		said    string
	}{
		{"--drain-timeout=1h", []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, `INFO: TCP: closing`},
		{"--drain-timeout=1h", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, `INFO: TCP: closing`},
		{"--drain-timeout=1h", []syscall.Signal{syscall.SIGINT}, `INFO: TCP: closing`},
		{"--drain-timeout=10ms", []syscall.Signal{syscall.SIGTERM}, `WARNING: DRAIN: time is over, what is left stays on disk messages=2\n`},
		{"--sigterm=stop", []syscall.Signal{syscall.SIGTERM}, `INFO: TCP: closing`},
	} {
		p, tcp, http := startDraining(t, dir, c.flag)
		if i == 0 {
			nsqtest.Dial(t, tcp).Mpub("t", "1", "2").Close()
		}
		expectStats(t, http, "depth: 2 ")
		for n, s := range c.signals {
			if n > 0 {
				p.wait(`INFO: DRAIN: publishes are refused from now on\n`)
			}
			p.signal(s)
		}
		p.wait(c.said)
		p.wait(`INFO: NSQ: bye\n`)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v: %v", c.signals, err)
		}
	}
}
