package nsqd_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/nsqtest/daemon"
	"github.com/nsq-suite/nsq/nsqd"
)

// get returns the body of a GET over plain HTTP.
func (s *site) get(path string) string {
	s.t.Helper()
	return s.ask(http.MethodGet, path)
}

// post is get with POST and no body.
func (s *site) post(path string) string {
	s.t.Helper()
	return s.ask(http.MethodPost, path)
}

func (s *site) ask(method, path string) string {
	s.t.Helper()
	_, body := request(s.t, nil, method, "http://"+s.HTTPAddr+path)
	return body
}

// request makes one request, trusting and showing what config says.
func request(t *testing.T, config *tls.Config, method, url string) (*http.Response, string) {
	t.Helper()
	response, body, err := tryRequest(t, config, method, url)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func tryRequest(t *testing.T, config *tls.Config, method, url string) (*http.Response, string, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		return nil, "", err
	}
	response, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

// Which clients get in under which policy, over TCP and HTTPS alike.
func TestClientCertificatePolicies(t *testing.T) {
	ca, stranger := nsqtest.NewCA(t), nsqtest.NewCA(t)
	own, strange := ca.Issue("client"), stranger.Issue("client")
	for _, c := range []struct {
		policy               string
		none, strange, known bool // who gets in
	}{
		{"", true, true, true},
		{"require", false, true, true},
		{"require-verify", false, false, true},
		{"whatever", true, true, true},
	} {
		s := &site{t: t, ca: ca, transport: transport{tls: true}}
		s.Daemon = daemon.Start(t, withTLS(ca), func(o *nsqd.Options) {
			o.TLSClientAuthPolicy, o.TLSRootCAFile = c.policy, ca.File()
		})
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, who := range []struct {
				name  string
				certs []tls.Certificate
				getIn bool
			}{
				{"none", nil, c.none},
				{"of another CA", []tls.Certificate{strange}, c.strange},
				{"of the CA", []tls.Certificate{own}, c.known},
			} {
				t.Run(fmt.Sprintf("policy %q, certificate %s, %s", c.policy, who.name, tls.VersionName(version)), func(t *testing.T) {
					config := ca.Client()
					config.MaxVersion = version
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if len(who.certs) == 0 {
							return new(tls.Certificate), nil
						}
						return &who.certs[0], nil // also one that the server did not name the CA of
					}
					conn := nsqtest.Dial(t, s.TCPAddr)
					conn.CommandBody(s.identity(""), "IDENTIFY").ExpectJSON(new(any))
					err := conn.Handshake(config)
					if err == nil {
						err = conn.TryReadOK()
					}
					if (err == nil) != who.getIn {
						t.Errorf("over TCP: %v", err)
					}
					_, _, err = tryRequest(t, config, http.MethodGet, "https://"+s.HTTPSAddr+"/ping")
					if (err == nil) != who.getIn {
						t.Errorf("over HTTPS: %v", err)
					}
				})
			}
		}
	}
}

// A policy makes TLS required, an unknown one too.
func TestPolicyRequiresTLS(t *testing.T) {
	for _, policy := range []string{"require", "require-verify", "whatever"} {
		d := daemon.Start(t, withTLS(nsqtest.NewCA(t)), func(o *nsqd.Options) { o.TLSClientAuthPolicy = policy })
		d.Dial().Send("NOP\n").ExpectError("E_INVALID cannot NOP in current state (TLS required)").ExpectClosed()
	}
}

// With TLS required a client in the clear can say nothing but IDENTIFY.
func TestTLSRequired(t *testing.T) {
	for _, required := range []nsqd.TLSRequirement{nsqd.TLSRequired, nsqd.TLSRequiredExceptHTTP} {
		t.Run(required.String(), func(t *testing.T) {
			tr := transport{name: "tls", tls: true}
			s := tr.start(t, func(o *nsqd.Options) { o.TLSRequired = required })
			for _, command := range []string{"SUB t ch", "PUB t", "FIN x", "DPUB t 1", "RDY 1", "AUTH", "NOP", "FOO bar", "", "  "} {
				name, _, _ := strings.Cut(command, " ")
				refusal := fmt.Sprintf("E_INVALID cannot %s in current state (TLS required)", name)
				s.Dial().Send(command + "\n").ExpectError(refusal).ExpectClosed()
				c := s.Dial()
				c.CommandBody(`{"feature_negotiation":true}`, "IDENTIFY").ExpectJSON(new(any))
				c.CommandBody(`{}`, "IDENTIFY").ExpectOK()
				c.Send(command + "\n").ExpectError(refusal).ExpectClosed()
			}
			c := s.Dial()
			c.CommandBody(`{"feature_negotiation":true,"snappy":true}`, "IDENTIFY").ExpectJSON(new(any))
			c.StartSnappy().Send("NOP\n").ExpectError("E_INVALID cannot NOP in current state (TLS required)").ExpectClosed()
			s.dial("").Pub("t", "a")
		})
	}
}

// Where TLS is required of HTTP too, plain requests learn where to go.
func TestPlainHTTPRefused(t *testing.T) {
	tr := transport{name: "tls", tls: true}
	s := tr.start(t, func(o *nsqd.Options) { o.TLSRequired = nsqd.TLSRequired })
	_, port, _ := strings.Cut(s.HTTPSAddr, ":")
	for _, request := range []string{"GET /ping", "POST /pub?topic=t", "GET /nothing", "OPTIONS /stats"} {
		method, path, _ := strings.Cut(request, " ")
		response, body := requestPlain(t, s, method, path)
		nsqtest.Equal(t, response.StatusCode, http.StatusForbidden)
		nsqtest.Equal(t, body, `{"message": "TLS_REQUIRED", "https_port": `+port+`}`)
		nsqtest.Equal(t, response.Header.Get("Content-Type"), "application/json; charset=utf-8")
		nsqtest.Equal(t, response.Header.Get("X-NSQ-Content-Type"), "nsq; version=1.0")
	}
	response, body := request(t, s.ca.Client(), http.MethodGet, "https://"+s.HTTPSAddr+"/ping")
	nsqtest.Equal(t, response.Proto, "HTTP/1.1")
	nsqtest.Equal(t, body, "OK")
	_, body = request(t, nil, http.MethodGet, "http://"+s.HTTPSAddr+"/ping")
	nsqtest.Equal(t, body, "Client sent an HTTP request to an HTTPS server.\n")

	t.Run("no HTTPS", func(t *testing.T) {
		s := tr.start(t, func(o *nsqd.Options) { o.TLSRequired, o.HTTPSAddress = nsqd.TLSRequired, "" })
		nsqtest.Equal(t, s.get("/ping"), `{"message": "TLS_REQUIRED", "https_port": 0}`)
	})
	t.Run("tcp-https", func(t *testing.T) {
		s := tr.start(t, func(o *nsqd.Options) { o.TLSRequired = nsqd.TLSRequiredExceptHTTP })
		nsqtest.Equal(t, s.get("/ping"), "OK")
		_, body := request(t, s.ca.Client(), http.MethodGet, "https://"+s.HTTPSAddr+"/ping")
		nsqtest.Equal(t, body, "OK")
	})
}

func requestPlain(t *testing.T, s *site, method, path string) (*http.Response, string) {
	t.Helper()
	return request(t, nil, method, "http://"+s.HTTPAddr+path)
}

func TestTLSMinVersion(t *testing.T) {
	tr := transport{name: "tls", tls: true}
	for _, c := range []struct {
		flag string
		max  uint16
		ok   bool
	}{
		{"--tls-min-version=", tls.VersionTLS10, true},
		{"--tls-min-version=tls1.0", tls.VersionTLS11, true},
		{"--tls-min-version=TLS1.2", tls.VersionTLS11, false},
		{"--tls-min-version=tls1.2", tls.VersionTLS12, true},
		{"--tls-min-version=tls1.3", tls.VersionTLS12, false},
		{"--tls-min-version=tls1.3", tls.VersionTLS13, true},
	} {
		s := tr.start(t, daemon.Flags(t, c.flag))
		config := s.ca.Client()
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, c.max
		conn := s.Dial()
		conn.CommandBody(s.identity(""), "IDENTIFY").ExpectJSON(new(any))
		err := conn.Handshake(config)
		if (err == nil) != c.ok {
			t.Errorf("%s, client up to %s: %v", c.flag, tls.VersionName(c.max), err)
		}
	}
}

// A client that was offered TLS and sends something else is told in the clear.
func TestHandshakeFailureIsToldInTheClear(t *testing.T) {
	s := transport{name: "tls", tls: true}.start(t)
	c := s.Dial()
	c.CommandBody(s.identity(""), "IDENTIFY").ExpectJSON(new(any))
	c.Send("SUB t ch\nRDY 1\n")
	c.ExpectError("E_IDENTIFY_FAILED IDENTIFY failed tls: first record does not look like a TLS handshake").ExpectClosed()
}

// What an operator is told of TLS options that do not work, in the order of the
// checks.
func TestTLSOptionErrors(t *testing.T) {
	ca := nsqtest.NewCA(t)
	cert, key := ca.IssueFiles("nsqd")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const missing = "/does/not/exist"
	for _, c := range []struct {
		flags []string
		want  string // the beginning
	}{
		{[]string{"--max-deflate-level=10", "--node-id=1024"}, "--max-deflate-level must be [1,9]"},
		{[]string{"--node-id=1024", "--tls-required"}, "--node-id must be [0,1024)"},
		{[]string{"--tls-cert=" + missing, "--tls-key=" + key}, "failed to build TLS config - open /does/not/exist: "},
		{[]string{"--tls-cert=" + cert}, "failed to build TLS config - open : "},
		{[]string{"--tls-key=" + key}, "failed to build TLS config - open : "},
		{[]string{"--tls-cert=" + cert, "--tls-key=" + cert}, "failed to build TLS config - tls: "},
		{[]string{"--tls-cert=" + cert, "--tls-key=" + key, "--tls-root-ca-file=" + empty}, "failed to build TLS config - failed to append certificate to pool"},
		{[]string{"--tls-cert=" + cert, "--tls-key=" + key, "--tls-root-ca-file=" + missing}, "failed to build TLS config - open /does/not/exist: "},
		{[]string{"--tls-required", "--tls-root-ca-file=" + missing}, "cannot require TLS client connections without TLS key and cert"},
		{[]string{"--tls-required=tcp-https"}, "cannot require TLS client connections without TLS key and cert"},
		{[]string{"--tls-client-auth-policy=require"}, "cannot require TLS client connections without TLS key and cert"},
		{[]string{"--tls-root-ca-file=" + missing}, "failed to build client TLS config - open /does/not/exist: "},
		{[]string{"--tls-root-ca-file=" + empty}, "failed to build client TLS config - failed to append certificate to pool"},
	} {
		opts := nsqd.NewOptions()
		opts.DataPath, opts.TCPAddress, opts.HTTPAddress = t.TempDir(), "127.0.0.1:0", ""
		daemon.Flags(t, c.flags...)(opts)
		_, err := nsqd.New(opts)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %s", c.flags, err, c.want)
		}
	}
}

func TestTLSFlagValues(t *testing.T) {
	for _, c := range []struct {
		flags    []string
		required nsqd.TLSRequirement
		version  nsqd.TLSVersion
	}{
		{nil, nsqd.TLSOptional, tls.VersionTLS10},
		{[]string{"--tls-required"}, nsqd.TLSRequired, tls.VersionTLS10},
		{[]string{"--tls-required=1", "--tls-min-version=tls1.1"}, nsqd.TLSRequired, tls.VersionTLS11},
		{[]string{"--tls-required=F", "--tls-min-version="}, nsqd.TLSOptional, tls.VersionTLS10},
		{[]string{"--tls-required=tcp-https", "--tls-min-version=TLS1.3"}, nsqd.TLSRequiredExceptHTTP, tls.VersionTLS13},
	} {
		opts := nsqd.NewOptions()
		daemon.Flags(t, c.flags...)(opts)
		if opts.TLSRequired != c.required || opts.TLSMinVersion != c.version {
			t.Errorf("%v: got %v and %v", c.flags, opts.TLSRequired, opts.TLSMinVersion)
		}
	}
	for _, flag := range []string{"--tls-required=", "--tls-required=no", "--tls-min-version=ssl3.0", "--tls-min-version=1.2"} {
		set := config.NewFlagSet("nsqd", nsqd.NewOptions())
		set.SetOutput(io.Discard)
		if err := set.Parse([]string{flag}); err == nil {
			t.Errorf("%s is accepted", flag)
		}
	}
}

// /stats tells what was negotiated.
func TestStatsOfLayers(t *testing.T) {
	for _, c := range []struct {
		transport
		version                uint16
		suite                  uint16
		wantVersion, wantSuite string
	}{
		{transport: transport{name: "tcp"}},
		{transport: transport{name: "deflate", deflate: true}},
		{transport: transport{name: "TLS 1.2", tls: true, snappy: true}, version: tls.VersionTLS12, suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			wantVersion: "TLS1.2", wantSuite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
		{transport: transport{name: "unnamed suite", tls: true}, version: tls.VersionTLS12, suite: tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			wantVersion: "TLS1.2", wantSuite: "Unknown 49196"},
		{transport: transport{name: "TLS 1.3", tls: true}, version: tls.VersionTLS13, wantVersion: "TLS1.3", wantSuite: "Unknown 4865"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.start(t)
			conn := s.Dial()
			conn.CommandBody(s.identity(""), "IDENTIFY").ExpectJSON(new(any))
			if c.tls {
				config := s.ca.Client()
				config.MaxVersion = c.version
				if c.suite != 0 {
					config.CipherSuites = []uint16{c.suite}
				}
				conn.StartTLS(config)
			}
			if c.snappy {
				conn.StartSnappy()
			}
			if c.deflate {
				conn.StartDeflate()
			}
			conn.Pub("t", "a")
			client := s.producers()[0]
			nsqtest.Equal(t, client["tls"], any(c.tls))
			nsqtest.Equal(t, client["snappy"], any(c.snappy))
			nsqtest.Equal(t, client["deflate"], any(c.deflate))
			nsqtest.Equal(t, client["tls_version"], any(c.wantVersion))
			if c.version != tls.VersionTLS13 { // which has three suites, chosen by what the machine can do best
				nsqtest.Equal(t, client["tls_cipher_suite"], any(c.wantSuite))
			}
			nsqtest.Equal(t, client["tls_negotiated_protocol"], any(""))
			nsqtest.Equal(t, client["tls_negotiated_protocol_is_mutual"], any(c.tls))
		})
	}
}

// producers are the clients that /stats lists as such.
func (s *site) producers() []map[string]any {
	s.t.Helper()
	var stats struct {
		Producers []map[string]any `json:"producers"`
	}
	if err := json.Unmarshal([]byte(s.get("/stats?format=json")), &stats); err != nil || len(stats.Producers) == 0 {
		s.t.Fatalf("no producers (%v)", err)
	}
	return stats.Producers
}

// An https auth server is trusted by --tls-root-ca-file, and is told of the
// client's TLS.
func TestAuthOverTLS(t *testing.T) {
	ca := nsqtest.NewCA(t)
	asked := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.RawQuery
		_, _ = io.WriteString(w, `{"ttl":1,"authorizations":[{"topic":".*","channels":[".*"],"permissions":["publish"]}]}`)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue("auth")}}
	server.StartTLS()
	defer server.Close()
	s := &site{t: t, ca: ca, transport: transport{tls: true}}
	s.Daemon = daemon.Start(t, withTLS(ca), func(o *nsqd.Options) {
		o.TLSClientAuthPolicy, o.TLSRootCAFile = "require-verify", ca.File()
		o.AuthHTTPAddresses = []string{server.URL}
	})
	c := nsqtest.Dial(t, s.TCPAddr)
	c.CommandBody("early", "AUTH").ExpectError("E_INVALID cannot AUTH in current state (TLS required)").ExpectClosed()
	c = nsqtest.Dial(t, s.TCPAddr)
	c.CommandBody(s.identity(""), "IDENTIFY").ExpectJSON(new(any))
	c.StartTLS(ca.Client(ca.Issue("joe")))
	c.CommandBody("secret", "AUTH").ExpectResponse(`{"identity":"","identity_url":"","permission_count":1}`)
	nsqtest.Equal(t, <-asked, "common_name=joe&remote_ip=127.0.0.1&secret=secret&tls=true")
	c.Pub("t", "a")
}
