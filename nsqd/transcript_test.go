package nsqd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/nsqd"
)

// The transcripts are written from the protocol spec, not from what nsqd does.
// Each case has a daemon of its own and is spoken twice: over TCP with the
// client's bytes in as few writes as possible, and over a Unix socket byte by
// byte.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("find transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		cases, err := nsqtest.ReadTranscript(file)
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		for _, c := range cases {
			for _, chunks := range []nsqtest.Chunks{nsqtest.Together, nsqtest.Bytes} {
				t.Run(name+"/"+c.Name+"/"+chunks.String(), func(t *testing.T) {
					t.Parallel()
					skipMissingFlags(t, c.Flags)
					d := daemon.Start(t, daemon.Flags(t, c.Flags...), func(o *nsqd.Options) {
						if chunks == nsqtest.Bytes {
							o.TCPAddress = socketPath(t)
						}
					})
					c.Replay(t, d.TCPAddr, d.HTTPAddr, chunks)
				})
			}
		}
	}
}

// socketPath returns a free path short enough for a Unix socket, which may have
// about 100 bytes.
func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "nsqd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "tcp")
}

// skipMissingFlags skips a case about an option that nsqd does not have yet.
func skipMissingFlags(t *testing.T, flags []string) {
	known := config.NewFlagSet("nsqd", nsqd.NewOptions())
	for _, flag := range flags {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		if known.Lookup(name) == nil {
			t.Skipf("nsqd has no flag --%s", name)
		}
	}
}
