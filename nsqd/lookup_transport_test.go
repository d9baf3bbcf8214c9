package nsqd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

func writeSecret(t *testing.T, file, secret string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An nsqlookupd that serves TLS only and wants a certificate and a secret gets them,
// and is asked for channels over HTTPS.
func TestLookupSecured(t *testing.T) {
	ca := nsqtest.NewCA(t)
	secret := filepath.Join(t.TempDir(), "secret")
	writeSecret(t, secret, "\n  open sesame \nolder\n")
	l := startLookupd(t, func(o *nsqlookupd.Options) {
		o.TLSCert, o.TLSKey = ca.IssueFiles("nsqlookupd")
		o.HTTPAddress, o.HTTPSAddress = "", "127.0.0.1:0"
		o.RegistrationCAFile, o.RegistrationSecretFile = ca.File(), secret
	})
	secured := func(o *Options) {
		o.NSQLookupdTCPAddresses = []string{l.TCPAddr().String()}
		o.LookupdTLS, o.LookupdSecretFile = true, secret
		o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd")
		o.TLSRootCAFile = ca.File()
	}
	first, second := startDaemon(t, secured), startDaemon(t, secured)
	nsqtest.Dial(t, first.TCPAddr().String()).Sub("events", "archive")
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-ticks.C {
		if slices.Equal(second.lookup.channels(t.Context(), "events"), []string{"archive"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the second nsqd does not learn of the channel")
		}
	}
	nsqtest.Dial(t, second.TCPAddr().String()).Pub("events", "x")
	if second.existingTopic("events").existingChannel("archive") == nil {
		t.Error("the second nsqd does not have the channel")
	}
}

// An nsqd that is not admitted says why, goes on, and registers once its secret is
// right, without a restart.
func TestLookupRefused(t *testing.T) {
	dir := t.TempDir()
	right, ours := filepath.Join(dir, "right"), filepath.Join(dir, "ours")
	writeSecret(t, right, "right")
	writeSecret(t, ours, "wrong")
	l := startLookupd(t, func(o *nsqlookupd.Options) { o.RegistrationSecretFile = right })
	log := new(lookupLog)
	d := startDaemon(t, func(o *Options) {
		o.NSQLookupdTCPAddresses, o.LookupdSecretFile = []string{l.TCPAddr().String()}, ours
		o.Logger = logging.New(log, "", logging.LevelInfo)
	})
	nsqtest.Dial(t, d.TCPAddr().String()).Pub("events", "x")
	const reason = "parsing response - E_UNAUTHORIZED IDENTIFY secret is missing or wrong\n"
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), reason); <-ticks.C {
		if time.Now().After(deadline) {
			t.Fatalf("the log lacks %q:\n%s", reason, log)
		}
	}
	writeSecret(t, ours, "right")
	awaitLookup(t, l, "events", func(f found) bool { return len(f.Producers) == 1 })
	if strings.Contains(log.String(), "right") || strings.Contains(log.String(), `wrong"`) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}

// A file that cannot be used stops the start.
func TestLookupTransportOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"read --lookupd-secret-file: open none: no such file or directory": func(o *Options) { o.LookupdSecretFile = "none" },
		"--lookupd-secret-file: no secret in /dev/null":                    func(o *Options) { o.LookupdSecretFile = "/dev/null" },
	} {
		opts := NewOptions()
		opts.DataPath = t.TempDir()
		change(opts)
		if _, err := New(opts); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
