package nsqlookupd_test

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

// TestReload: the log level and the content of files change while nsqds stay
// connected; what cannot change says so; a mistake changes nothing.
func TestReload(t *testing.T) {
	ca, next := nsqtest.NewCA(t), nsqtest.NewCA(t)
	secret := secretFile(t, "first")
	var opts nsqlookupd.Options
	level := new(slog.LevelVar)
	d := start(t, serveTLS(ca), func(o *nsqlookupd.Options) {
		o.RegistrationSecretFile, o.HTTPSAddress, o.Level = secret, "127.0.0.1:0", level
		opts = *o
	})
	known := func(s string) string { return strings.TrimSuffix(identity, "}") + `,"secret":"` + s + `"}` }
	identified := func(config *tls.Config, secret string) (reply string) {
		t.Helper()
		c := d.v1OrTLS(config)
		c.send(identify(known(secret)))
		return c.reply()
	}
	stays := d.v1()
	stays.send(identify(known("first")))
	stays.reply()
	stays.do("REGISTER t c")

	for file, with := range map[string]string{secret: "", opts.TLSCert: "x"} {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, file, with)
		if err := d.l.Reload(&opts); err == nil {
			t.Errorf("no error for %q in %s", with, file)
		}
		overwrite(t, file, string(before))
	}
	if got := identified(ca.Client(), "first"); !strings.HasPrefix(got, "{") {
		t.Errorf("after a reload that failed: %s", got)
	}

	overwrite(t, secret, "second")
	certFile, keyFile := next.IssueFiles("nsqlookupd")
	for to, from := range map[string]string{opts.TLSCert: certFile, opts.TLSKey: keyFile} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, to, string(content))
	}
	opts.LogLevel, opts.TCPAddress = logging.LevelError, "127.0.0.1:1"
	if err := d.l.Reload(&opts); err != nil {
		t.Fatal(err)
	}
	d.log.wait(t, "WARNING: these options take effect at the next start options=tcp_address\n")
	if level.Level() != slog.LevelError {
		t.Errorf("level %v", level.Level())
	}
	if got := identified(nil, "first"); !strings.HasPrefix(got, "E_UNAUTHORIZED ") {
		t.Errorf("with the old secret: %s", got)
	}
	if got := identified(next.Client(), "second"); !strings.HasPrefix(got, "{") {
		t.Errorf("with the new secret and certificate: %s", got)
	}
	conn, err := tls.Dial("tcp", d.l.HTTPSAddr().String(), next.Client())
	if err != nil {
		t.Fatalf("HTTPS with the new certificate: %v", err)
	}
	conn.Close()
	stays.do("REGISTER u", "PING")
}

func overwrite(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
