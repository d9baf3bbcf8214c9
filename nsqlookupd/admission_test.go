package nsqlookupd_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/nsqlookupd"
)

// serveTLS gives the daemon a certificate of ca.
func serveTLS(ca *nsqtest.CA) func(*nsqlookupd.Options) {
	return func(o *nsqlookupd.Options) { o.TLSCert, o.TLSKey = ca.IssueFiles("nsqlookupd") }
}

// overTLS connects with TLS and says the magic, which fails only where the server
// refuses the handshake right away.
func (d *daemon) overTLS(config *tls.Config) *client {
	d.t.Helper()
	c := d.dial()
	c.conn = tls.Client(c.conn, config)
	c.send("  V1")
	return c
}

func secretFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestAdmission: what an nsqd must show to be let in, and that nothing is asked of it
// by default.
func TestAdmission(t *testing.T) {
	ca, other := nsqtest.NewCA(t), nsqtest.NewCA(t)
	caFile, secrets := ca.File(), secretFile(t, "\n old secret \nnew\n")
	withTLS := serveTLS(ca)
	required := func(o *nsqlookupd.Options) { o.RegistrationTLS = true }
	certificates := func(o *nsqlookupd.Options) { o.RegistrationCAFile = caFile }
	secret := func(o *nsqlookupd.Options) { o.RegistrationSecretFile = secrets }
	const (
		needsTLS = "E_UNAUTHORIZED IDENTIFY requires TLS"
		unknown  = "E_UNAUTHORIZED IDENTIFY secret is missing or wrong"
		json     = "E_BAD_BODY IDENTIFY failed to decode JSON body"
	)
	plain := (*tls.Config)(nil)
	known := func(s string) string { return strings.TrimSuffix(identity, "}") + `,"secret":` + s + `}` }
	for _, tt := range []struct {
		name   string
		opts   []func(*nsqlookupd.Options)
		client *tls.Config
		body   string
		want   string // "" is let in; "handshake" is not even answered
	}{
		{"by default", nil, plain, identity, ""},
		{"by default, a secret that nobody asked for", nil, plain, known(`5`), ""},
		{"TLS is offered, plain", []func(*nsqlookupd.Options){withTLS}, plain, identity, ""},
		{"TLS is offered and used", []func(*nsqlookupd.Options){withTLS}, ca.Client(), identity, ""},
		{"TLS required, plain", []func(*nsqlookupd.Options){withTLS, required}, plain, identity, needsTLS},
		{"TLS required, plain, not even an identity", []func(*nsqlookupd.Options){withTLS, required}, plain, "xx", needsTLS},
		{"TLS required and used", []func(*nsqlookupd.Options){withTLS, required}, ca.Client(), identity, ""},
		{"certificate required, plain", []func(*nsqlookupd.Options){withTLS, certificates}, plain, identity, needsTLS},
		{"certificate required, none", []func(*nsqlookupd.Options){withTLS, certificates}, ca.Client(), identity, "handshake"},
		{"certificate required, of somebody else", []func(*nsqlookupd.Options){withTLS, certificates}, ca.Client(other.Issue("nsqd")), identity, "handshake"},
		{"certificate required and shown", []func(*nsqlookupd.Options){withTLS, certificates}, ca.Client(ca.Issue("nsqd")), identity, ""},
		{"secret required, none", []func(*nsqlookupd.Options){secret}, plain, identity, unknown},
		{"secret required, empty", []func(*nsqlookupd.Options){secret}, plain, known(`""`), unknown},
		{"secret required, a part of one", []func(*nsqlookupd.Options){secret}, plain, known(`"old"`), unknown},
		{"secret required, no text", []func(*nsqlookupd.Options){secret}, plain, known(`7`), json},
		{"secret required, the first", []func(*nsqlookupd.Options){secret}, plain, known(`"old secret"`), ""},
		{"secret required, the second", []func(*nsqlookupd.Options){secret}, plain, known(`"new"`), ""},
		{"all of it", []func(*nsqlookupd.Options){withTLS, certificates, secret}, ca.Client(ca.Issue("nsqd")), known(`"new"`), ""},
		{"all of it but the secret", []func(*nsqlookupd.Options){withTLS, certificates, secret}, ca.Client(ca.Issue("nsqd")), identity, unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := start(t, tt.opts...)
			if tt.want == "handshake" {
				conn := d.dial().conn
				client := tls.Client(conn, tt.client)
				_, err := client.Write([]byte("  V1" + identify(tt.body)))
				if err == nil {
					_, err = client.Read(make([]byte, 1))
				}
				if err == nil || !strings.Contains(err.Error(), "tls: ") {
					t.Errorf("got %v", err)
				}
				d.log.wait(t, "failed TLS handshake - tls: ")
				return
			}
			c := d.v1OrTLS(tt.client)
			c.do("PING")
			c.send(identify(tt.body))
			if got := c.reply(); tt.want != "" {
				if got != tt.want {
					t.Errorf("reply %q, want %q", got, tt.want)
				}
				c.wantEnd()
				d.eventually("/nodes", `200 {"producers":[]}`)
				return
			} else if !strings.HasPrefix(got, "{") {
				t.Fatalf("reply %q", got)
			}
			c.do("REGISTER t c", "PING", "UNREGISTER t c")
			if got := d.get("/lookup?topic=t"); !strings.Contains(got, `"remote_address":"`+c.addr()+`"`) {
				t.Errorf("/lookup: %s", got)
			}
		})
	}
}

func (d *daemon) v1OrTLS(config *tls.Config) *client {
	d.t.Helper()
	if config == nil {
		return d.v1()
	}
	return d.overTLS(config)
}

// TestTLSSession: over TLS as over TCP a refusal arrives, the end is seen on both
// sides, and a shutdown does not wait for anybody.
func TestTLSSession(t *testing.T) {
	ca := nsqtest.NewCA(t)
	d := start(t, serveTLS(ca))
	c := d.overTLS(ca.Client())
	c.send(identify(identity) + "REGISTER t c\nbad\n" + strings.Repeat("more that nobody reads\n", 1000))
	c.reply()
	c.wantReply("OK")
	c.wantReply("E_INVALID invalid command bad")
	c.wantEnd()
	if got := d.get("/nodes"); got != `200 {"producers":[]}` {
		t.Errorf("nodes %s", got)
	}

	again := d.overTLS(ca.Client())
	again.send(identify(identity))
	again.reply()
	again.closeWrite()
	again.wantEnd()
	d.log.wait(t, "INFO: client("+again.addr()+") - EOF\n")

	// TLS where there is none is a bad magic, as anything else.
	without := start(t)
	if err := tls.Client(without.dial().conn, ca.Client()).Handshake(); err == nil {
		t.Error("a handshake without a certificate")
	}

	stuck := d.dial()
	stuck.send("\x16\x03\x01\x02")
	open := d.overTLS(ca.Client())
	open.do("PING")
	began := time.Now()
	d.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
}

// TestHTTPS: the same API over TLS, also as the only one.
func TestHTTPS(t *testing.T) {
	ca := nsqtest.NewCA(t)
	for _, only := range []bool{false, true} {
		d := start(t, serveTLS(ca), func(o *nsqlookupd.Options) {
			o.HTTPSAddress = "127.0.0.1:0"
			if only {
				o.HTTPAddress = ""
			}
		})
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client(), DisableKeepAlives: true}}
		resp, err := client.Get("https://" + d.l.HTTPSAddr().String() + "/topics")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("X-NSQ-Content-Type") != "nsq; version=1.0" {
			t.Errorf("got %s %v", resp.Status, resp.Header)
		}
		c := d.v1()
		c.send(identify(identity))
		if got := c.reply(); strings.Contains(got, `"http_port":0,`) != only || !strings.Contains(got, `,"https_port":`) {
			t.Errorf("IDENTIFY answers %s", got)
		}
		if (d.l.HTTPAddr() == nil) != only {
			t.Errorf("HTTP is on %v", d.l.HTTPAddr())
		}
		d.stop()
		if log := d.log.String(); !strings.Contains(log, "INFO: HTTPS: listening on "+d.l.HTTPSAddr().String()+"\n") || !strings.Contains(log, "INFO: HTTPS: closing ") {
			t.Errorf("log:\n%s", log)
		}
	}
}

// TestBadOptions: what cannot be meant stops the start.
func TestBadOptions(t *testing.T) {
	ca := nsqtest.NewCA(t)
	empty := secretFile(t, " \n\n")
	for want, change := range map[string]func(*nsqlookupd.Options){
		"--tcp-address is empty, must be host:port":                                    func(o *nsqlookupd.Options) { o.TCPAddress = "" },
		"--http-address is empty, must be host:port where there is no --https-address": func(o *nsqlookupd.Options) { o.HTTPAddress = "" },
		"--https-address needs --tls-cert and --tls-key":                               func(o *nsqlookupd.Options) { o.HTTPSAddress = "127.0.0.1:0" },
		"--registration-tls and --registration-ca-file need --tls-cert and --tls-key":  func(o *nsqlookupd.Options) { o.RegistrationTLS = true },
		"load --tls-cert and --tls-key: open : no such file or directory":              func(o *nsqlookupd.Options) { _, o.TLSKey = ca.IssueFiles("x") },
		"--registration-secret-file: open none: no such file or directory":             func(o *nsqlookupd.Options) { o.RegistrationSecretFile = "none" },
		"--registration-secret-file: read " + empty + ": no secret in it":              func(o *nsqlookupd.Options) { o.RegistrationSecretFile = empty },
		"--max-connections is -1, must be at least 0":                                  func(o *nsqlookupd.Options) { o.MaxConnections = -1 },
		"--max-topics-and-channels is -1, must be at least 0":                          func(o *nsqlookupd.Options) { o.MaxTopicsAndChannels = -1 },
		"--max-registrations-per-connection is -1, must be at least 0":                 func(o *nsqlookupd.Options) { o.MaxRegistrationsPerConnection = -1 },
		"--warmup is -1s, must be at least 0":                                          func(o *nsqlookupd.Options) { o.Warmup = -time.Second },
		"--unused-topic-lifetime is -1s, must be at least 0":                           func(o *nsqlookupd.Options) { o.UnusedTopicLifetime = -time.Second },
		"--registration-ca-file: no certificate in " + empty: func(o *nsqlookupd.Options) {
			serveTLS(ca)(o)
			o.RegistrationCAFile = empty
		},
	} {
		opts := nsqlookupd.NewOptions()
		opts.TCPAddress, opts.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0"
		change(opts)
		if _, err := nsqlookupd.New(opts); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
