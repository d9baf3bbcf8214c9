package nsqd

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// replace puts the content of one file into another.
func replace(t *testing.T, path, from string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// New connections see the new certificate, over TCP and HTTPS; a file that is
// broken changes nothing; who is connected stays.
func TestReloadCertificate(t *testing.T) {
	ca := nsqtest.NewCA(t)
	var given Options
	d := startDaemon(t, func(o *Options) {
		o.TLSCert, o.TLSKey = ca.IssueFiles("first")
		given = *o
	})
	shown := func() (tcp, https string) {
		t.Helper()
		conn := d.dial()
		conn.CommandBody(`{"feature_negotiation":true,"tls_v1":true}`, "IDENTIFY").ExpectJSON(new(any))
		config := ca.Client()
		config.VerifyConnection = func(s tls.ConnectionState) error {
			tcp = s.PeerCertificates[0].Subject.CommonName
			return nil
		}
		if err := conn.Handshake(config); err != nil {
			t.Fatal(err)
		}
		conn.ExpectOK().Pub("t", "m")
		secure, err := tls.Dial("tcp", d.HTTPSAddr().String(), ca.Client())
		if err != nil {
			t.Fatal(err)
		}
		defer secure.Close()
		return tcp, secure.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	expect := func(want string) {
		t.Helper()
		if tcp, https := shown(); tcp != want || https != want {
			t.Errorf("TCP shows the certificate %q, HTTPS %q, want %q", tcp, https, want)
		}
	}
	expect("first")
	old := d.dial()
	old.CommandBody(`{"feature_negotiation":true,"tls_v1":true}`, "IDENTIFY").ExpectJSON(new(any))
	if err := old.Handshake(ca.Client()); err != nil {
		t.Fatal(err)
	}
	old.ExpectOK()

	cert, key := ca.IssueFiles("second")
	replace(t, given.TLSCert, cert)
	if err := d.Reload(&given); err == nil || !strings.HasPrefix(err.Error(), "failed to build TLS config - ") {
		t.Errorf("a certificate without its key is taken: %v", err)
	}
	expect("first")
	replace(t, given.TLSKey, key)
	if err := d.Reload(&given); err != nil {
		t.Fatal(err)
	}
	expect("second")
	if err := os.WriteFile(given.TLSCert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(&given); err == nil {
		t.Error("a broken certificate is taken")
	}
	expect("second")
	old.Pub("t", "still here")
}

// The CAs of client certificates are read again too.
func TestReloadClientCA(t *testing.T) {
	ca, next := nsqtest.NewCA(t), nsqtest.NewCA(t)
	var given Options
	d := startDaemon(t, func(o *Options) {
		o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd")
		o.TLSClientAuthPolicy, o.TLSRootCAFile = "require-verify", ca.File()
		given = *o
	})
	ask := func(certs ...tls.Certificate) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client(certs...), DisableKeepAlives: true}}
		resp, err := client.Get("https://" + d.HTTPSAddr().String() + "/ping")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := ask(next.Issue("client")); err == nil {
		t.Error("a certificate of another CA is taken")
	}
	replace(t, given.TLSRootCAFile, next.File())
	if err := d.Reload(&given); err != nil {
		t.Fatal(err)
	}
	if err := ask(next.Issue("client")); err != nil {
		t.Errorf("a certificate of the new CA: %v", err)
	}
	if err := ask(ca.Issue("client")); err == nil {
		t.Error("a certificate of the old CA is taken")
	}
}

// What may change while running does, all or nothing; of the rest the log tells.
func TestReloadOptions(t *testing.T) {
	var logged logLines
	var given Options
	d := startDaemon(t, func(o *Options) {
		o.Options = logging.Options{LogLevel: logging.LevelInfo}
		o.Logger, o.Level = o.Options.Logger(&logged)
		given = *o
	})
	d.expect("PUT", "/config/max_rdy_count", "7", 200, "7")

	next := given
	next.LogLevel, next.MsgTimeout, next.MaxRdyCount = logging.LevelDebug, 5*time.Second, -1
	if err := d.Reload(&next); err == nil || err.Error() != "--max-rdy-count is -1, must be from 0 to 2147483647" {
		t.Errorf("got %v", err)
	}
	d.expect("GET", "/config/msg_timeout", "", 200, "60000000000")
	d.expect("GET", "/config/log_level", "", 200, "2")

	next.MaxRdyCount, next.MemQueueSize, next.TLSMinVersion = 9, 5, tls.VersionTLS13
	if err := d.Reload(&next); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"msg_timeout": "5000000000", "log_level": "1", "max_rdy_count": "9", // taken over
		"mem_queue_size": "10000", "tls_min_version": "769", // not
	} {
		d.expect("GET", "/config/"+key, "", 200, want)
	}
	if got := d.NSQD.options().Level.Level(); got != slog.LevelDebug {
		t.Errorf("the level of the log is %v", got)
	}
	if want := `WARNING: these options take effect at the next start options=mem_queue_size,tls_min_version`; !strings.Contains(logged.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, &logged)
	}

	// What PUT has changed ends with the next reload.
	if err := d.Reload(&given); err != nil {
		t.Fatal(err)
	}
	d.expect("GET", "/config/max_rdy_count", "", 200, "2500")
}

// Tokens are read again; a file that is gone keeps the old ones.
func TestReloadTokens(t *testing.T) {
	tokens := t.TempDir() + "/tokens"
	if err := os.WriteFile(tokens, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	var given Options
	d := startDaemon(t, func(o *Options) {
		o.AdminTokenFile = tokens
		given = *o
	})
	status := func(token string) int {
		req, err := http.NewRequest("POST", d.url("/topic/create?topic=t"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := d.client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if one, two := status("one"), status("two"); one != 200 || two != 401 {
		t.Errorf("got %d and %d", one, two)
	}
	if err := os.WriteFile(tokens, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(&given); err != nil {
		t.Fatal(err)
	}
	if one, two := status("one"), status("two"); one != 401 || two != 200 {
		t.Errorf("got %d and %d", one, two)
	}
	if err := os.Remove(tokens); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(&given); err == nil {
		t.Error("a reload without the file succeeds")
	}
	if two := status("two"); two != 200 {
		t.Errorf("got %d", two)
	}
}

// What changes something, or reveals how the daemon is set up, needs a token where
// there are tokens. The rest stays open.
func TestGuardedRoutes(t *testing.T) {
	tokens := t.TempDir() + "/tokens"
	if err := os.WriteFile(tokens, []byte("right"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, func(o *Options) { o.AdminTokenFile = tokens })
	guarded := regexp.MustCompile(`^/(topic|channel|config|debug)/`)
	for _, c := range allRoutes {
		for method := range strings.SplitSeq(c.allow, ", ") {
			if method == "OPTIONS" {
				continue
			}
			resp, body := d.request(method, c.path, "x")
			want := guarded.MatchString(c.path) || c.path == "/drain" && method != "GET"
			if got := resp.StatusCode == 401 && body == `{"message":"UNAUTHORIZED"}`; got != want {
				t.Errorf("%s %s: got %d %q", method, c.path, resp.StatusCode, body)
			}
		}
	}
}

// A client certificate lets in over HTTPS, whether or not TLS asks for one.
func TestGuardedByCertificate(t *testing.T) {
	ca := nsqtest.NewCA(t)
	for _, policy := range []string{"", "require", "require-verify"} {
		d := startDaemon(t, func(o *Options) {
			o.TLSCert, o.TLSKey = ca.IssueFiles("nsqd")
			o.TLSClientAuthPolicy, o.TLSRootCAFile, o.AdminClientCerts = policy, ca.File(), []string{"admin"}
		})
		for name, want := range map[string]int{"admin": 200, "user": 403} {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client(ca.Issue(name)), DisableKeepAlives: true}}
			resp, err := client.Post("https://"+d.HTTPSAddr().String()+"/topic/create?topic=t", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != want {
				t.Errorf("policy %q, certificate of %s: got %d %q, %v", policy, name, resp.StatusCode, body, err)
			}
		}
		if policy == "" {
			d.expect("POST", "/topic/create?topic=t", "", 403, `{"message":"FORBIDDEN"}`)
			// TCP clients are not asked for a certificate.
			conn := d.dial()
			conn.CommandBody(`{"feature_negotiation":true,"tls_v1":true}`, "IDENTIFY").ExpectJSON(new(any))
			config := ca.Client()
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				t.Error("a TCP client is asked for a certificate")
				return new(tls.Certificate), nil
			}
			if err := conn.Handshake(config); err != nil {
				t.Fatal(err)
			}
			conn.ExpectOK()
		}
	}
}
