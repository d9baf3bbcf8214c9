package httpapi

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/nsq-suite/nsq/internal/secrets"
)

// GuardOptions say who may use the [Guarded] routes: everybody, unless one of them
// is set. Then each of the ways that are set is enough. The tags are those of
// package config; a daemon embeds the struct in its options.
type GuardOptions struct {
	// AdminTokenFile holds bearer tokens, one per line. Empty lines and those that
	// begin with # are left out. Flag --http-admin-token-file.
	AdminTokenFile string `flag:"http-admin-token-file" group:"HTTP access" value:"path" usage:"path to a file of bearer tokens, one per line. With it, or with another such option, guarded HTTP requests need one: all that change something, except publishing, and those to /config and /debug"`

	// AdminPasswordFile holds user:password, one per line, as AdminTokenFile. Flag
	// --http-admin-password-file.
	AdminPasswordFile string `flag:"http-admin-password-file" group:"HTTP access" value:"path" usage:"path to a file of lines user:password for basic authentication of guarded HTTP requests"`
}

// ClientCerts are the certificates that let their clients in over HTTPS.
type ClientCerts struct {
	CommonNames []string       // "*" for any; none for no such rule
	Roots       *x509.CertPool // what they must lead to
}

// Rules are who may use the [Guarded] routes, with the content of the files. Nil
// are those that let everybody in.
type Rules struct {
	tokens, passwords secrets.Set
	certs             ClientCerts
}

// LoadRules reads the files. The error names the option.
func LoadRules(o GuardOptions, certs ClientCerts) (*Rules, error) {
	if o == (GuardOptions{}) && len(certs.CommonNames) == 0 {
		return nil, nil
	}
	tokens, err := readSecrets("--http-admin-token-file", o.AdminTokenFile, func(line string) bool { return !strings.ContainsAny(line, " \t") })
	if err != nil {
		return nil, err
	}
	passwords, err := readSecrets("--http-admin-password-file", o.AdminPasswordFile, func(line string) bool { return strings.Index(line, ":") > 0 })
	if err != nil {
		return nil, err
	}
	return &Rules{tokens, passwords, certs}, nil
}

// readSecrets reads the file that an option names, if it names one.
func readSecrets(option, path string, valid func(line string) bool) (secrets.Set, error) {
	if path == "" {
		return nil, nil
	}
	s, err := secrets.Read(path, valid)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	return s, nil
}

// The answers to who may not.
var (
	errUnauthorized = Error{Status: http.StatusUnauthorized, Text: "UNAUTHORIZED"}
	errForbidden    = Error{Status: http.StatusForbidden, Text: "FORBIDDEN"}
)

// A Guard keeps those out of the [Guarded] routes of an [API] who may not use them.
// The zero Guard keeps nobody out.
type Guard struct {
	realm string // for browsers, which show it
	rules atomic.Pointer[Rules]
}

// NewGuard returns a guard that keeps nobody out. The realm is what browsers show
// when they ask for a password.
func NewGuard(realm string) *Guard { return &Guard{realm: realm} }

// Use replaces the rules; requests that have been let in go on.
func (g *Guard) Use(rules *Rules) { g.rules.Store(rules) }

// admit returns nil if the request may go on, and else the answer: 401 with a
// challenge where a token or a password helps, 403 where only a certificate does.
func (g *Guard) admit(w http.ResponseWriter, r *http.Request) error {
	rules := g.rules.Load()
	if rules == nil || rules.knows(r) || rules.certified(r) {
		return nil
	}
	if rules.tokens == nil && rules.passwords == nil {
		return errForbidden
	}
	if rules.tokens != nil {
		w.Header().Add("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", g.realm))
	}
	if rules.passwords != nil {
		w.Header().Add("WWW-Authenticate", fmt.Sprintf("Basic realm=%q, charset=\"UTF-8\"", g.realm))
	}
	return errUnauthorized
}

// knows reports whether the request has a token or password that is right.
func (rules *Rules) knows(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return rules.tokens.Has(strings.TrimSpace(token))
	}
	user, password, ok := r.BasicAuth()
	return ok && rules.passwords.Has(user+":"+password)
}

// certified reports whether the client has shown a certificate that is enough. How
// TLS treats certificates is another rule; the chain is verified here.
func (rules *Rules) certified(r *http.Request) bool {
	if len(rules.certs.CommonNames) == 0 || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	leaf := r.TLS.PeerCertificates[0]
	if !slices.Contains(rules.certs.CommonNames, "*") && !slices.Contains(rules.certs.CommonNames, leaf.Subject.CommonName) {
		return false
	}
	intermediates := x509.NewCertPool()
	for _, cert := range r.TLS.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         rules.certs.Roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}
