package httpapi_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// secretsFile writes a file for an option of GuardOptions.
func secretsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// guarded is an API with a guarded route of each kind and an open one.
func guarded(t *testing.T, log *slog.Logger, o httpapi.GuardOptions, certs httpapi.ClientCerts) (*httpapi.API, *httpapi.Guard) {
	t.Helper()
	rules, err := httpapi.LoadRules(o, certs)
	if err != nil {
		t.Fatal(err)
	}
	c := config(log)
	c.Guard = httpapi.NewGuard("nsqd")
	c.Guard.Use(rules)
	a := httpapi.New(c)
	a.Handle("GET", "/open", result("OK"))
	a.Handle("GET", "/guarded", result("OK"), httpapi.Guarded, httpapi.Unlogged)
	a.Pprof()
	return a, c.Guard
}

func basic(userPassword string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userPassword))
}

func TestGuard(t *testing.T) {
	tokens := secretsFile(t, "# operators\n\ntop-secret\n  other \n")
	passwords := secretsFile(t, "admin:a:b c\r\nops:x\n")
	const (
		bearerChallenge = `Bearer realm="nsqd"`
		basicChallenge  = `Basic realm="nsqd", charset="UTF-8"`
	)
	both := httpapi.GuardOptions{AdminTokenFile: tokens, AdminPasswordFile: passwords}
	for _, c := range []struct {
		name, authorization string
		options             httpapi.GuardOptions
		status              int
		challenges          string
	}{
		{"off", "", httpapi.GuardOptions{}, 200, ""},
		{"off, with a token", "Bearer x", httpapi.GuardOptions{}, 200, ""},
		{"nothing", "", both, 401, bearerChallenge + ";" + basicChallenge},
		{"token", "Bearer top-secret", both, 200, ""},
		{"second token, scheme in lower case", "bearer other", both, 200, ""},
		{"wrong token", "Bearer top-secre", both, 401, bearerChallenge + ";" + basicChallenge},
		{"no token", "Bearer ", both, 401, bearerChallenge + ";" + basicChallenge},
		{"comment as token", "Bearer # operators", both, 401, bearerChallenge + ";" + basicChallenge},
		{"password", basic("admin:a:b c"), both, 200, ""},
		{"wrong password", basic("admin:x"), both, 401, bearerChallenge + ";" + basicChallenge},
		{"token as password", basic("top-secret:"), both, 401, bearerChallenge + ";" + basicChallenge},
		{"password as token", "Bearer ops:x", both, 401, bearerChallenge + ";" + basicChallenge},
		{"no base 64", "Basic !", both, 401, bearerChallenge + ";" + basicChallenge},
		{"other scheme", "Digest top-secret", both, 401, bearerChallenge + ";" + basicChallenge},
		{"tokens only", basic("ops:x"), httpapi.GuardOptions{AdminTokenFile: tokens}, 401, bearerChallenge},
		{"passwords only", "Bearer other", httpapi.GuardOptions{AdminPasswordFile: passwords}, 401, basicChallenge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var logged logBuffer
			a, _ := guarded(t, logging.New(&logged, "", slog.LevelInfo), c.options, httpapi.ClientCerts{})
			for _, path := range []string{"/guarded", "/debug/pprof/cmdline", "/open"} {
				r := httptest.NewRequest("GET", path, nil)
				if c.authorization != "" {
					r.Header.Set("Authorization", c.authorization)
				}
				w := httptest.NewRecorder()
				a.ServeHTTP(w, r)
				status, challenges := c.status, c.challenges
				if path == "/open" {
					status, challenges = 200, ""
				}
				if w.Code != status || strings.Join(w.Header()["Www-Authenticate"], ";") != challenges {
					t.Errorf("%s: got %d %q with %v", path, w.Code, w.Body, w.Header())
				}
				if status == 401 && (w.Body.String() != `{"message":"UNAUTHORIZED"}` || w.Header().Get("X-Nsq-Content-Type") != nsq) {
					t.Errorf("%s: got %q with %v", path, w.Body, w.Header())
				}
			}
			// Refusals are logged on all routes, the secrets never.
			if got := strings.Count(logged.String(), "INFO: 401 GET /"); (got == 2) != (c.status == 401) {
				t.Errorf("logged %q", logged.String())
			}
			if strings.Contains(logged.String(), "secret") {
				t.Errorf("logged %q", logged.String())
			}
		})
	}
}

// Certificates let in, whatever TLS itself asks of them.
func TestGuardWithCertificates(t *testing.T) {
	ca, stranger := nsqtest.NewCA(t), nsqtest.NewCA(t)
	for _, c := range []struct {
		name   string
		names  []string
		cert   *tls.Certificate
		status int
	}{
		{"right", []string{"x", "admin"}, issue(ca, "admin"), 200},
		{"any", []string{"*"}, issue(ca, "whoever"), 200},
		{"wrong name", []string{"admin"}, issue(ca, "user"), 403},
		{"of another CA", []string{"admin"}, issue(stranger, "admin"), 403},
		{"of another CA, any name", []string{"*"}, issue(stranger, "admin"), 403},
		{"none", []string{"*"}, nil, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := guarded(t, slog.New(slog.DiscardHandler), httpapi.GuardOptions{}, httpapi.ClientCerts{CommonNames: c.names, Roots: ca.Client().RootCAs})
			r := httptest.NewRequest("GET", "/guarded", nil)
			r.TLS = &tls.ConnectionState{}
			if c.cert != nil {
				r.TLS.PeerCertificates = []*x509.Certificate{c.cert.Leaf}
			}
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code != c.status || c.status == 403 && (w.Body.String() != `{"message":"FORBIDDEN"}` || w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("got %d %q with %v", w.Code, w.Body, w.Header())
			}
		})
	}
}

func issue(ca *nsqtest.CA, name string) *tls.Certificate {
	cert := ca.Issue(name)
	return &cert
}

// Rules can be replaced while requests come.
func TestGuardChanges(t *testing.T) {
	a, guard := guarded(t, slog.New(slog.DiscardHandler), httpapi.GuardOptions{}, httpapi.ClientCerts{})
	status := func() int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/guarded", nil)
		r.Header.Set("Authorization", "Bearer two")
		a.ServeHTTP(w, r)
		return w.Code
	}
	for _, c := range []struct {
		tokens string
		status int
	}{{"one", http.StatusUnauthorized}, {"one\ntwo", http.StatusOK}} {
		rules, err := httpapi.LoadRules(httpapi.GuardOptions{AdminTokenFile: secretsFile(t, c.tokens)}, httpapi.ClientCerts{})
		if err != nil {
			t.Fatal(err)
		}
		guard.Use(rules)
		if got := status(); got != c.status {
			t.Errorf("with %q: got %d", c.tokens, got)
		}
	}
}

func TestBadSecretsFiles(t *testing.T) {
	for _, c := range []struct {
		tokens, passwords string // content; "-" for no such file, "" for no option
		want              string
	}{
		{"-", "", "--http-admin-token-file: open "},
		{"# nothing\n\n", "", ": no secret in it"},
		{"a\nb c\n", "", " has something else in line 2"},
		{"", "-", "--http-admin-password-file: open "},
		{"", "no-colon\n", " has something else in line 1"},
		{"", ":no-user\n", " has something else in line 1"},
	} {
		path := func(content string) string {
			switch content {
			case "":
				return ""
			case "-":
				return filepath.Join(t.TempDir(), "none")
			}
			return secretsFile(t, content)
		}
		_, err := httpapi.LoadRules(httpapi.GuardOptions{AdminTokenFile: path(c.tokens), AdminPasswordFile: path(c.passwords)}, httpapi.ClientCerts{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "no-") && !strings.Contains(err.Error(), "no such") {
			t.Errorf("got %v, want in it %q", err, c.want)
		}
	}
}
