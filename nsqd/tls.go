package nsqd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/nsq-suite/nsq/internal/httpapi"
)

// A TLSRequirement says which clients must use TLS. It is a [flag.Value]; its
// numbers are the ones GET /config/tls_required answers.
type TLSRequirement int

// TLSOptional and so on are the values of --tls-required.
const (
	TLSOptional           TLSRequirement = iota // "false"
	TLSRequiredExceptHTTP                       // "tcp-https": TCP clients must, plain HTTP is served
	TLSRequired                                 // "true": plain HTTP is refused too
)

// Set reads true or false in any form of [strconv.ParseBool], or tcp-https. On
// error r is unchanged.
func (r *TLSRequirement) Set(text string) error {
	if strings.EqualFold(text, "tcp-https") {
		*r = TLSRequiredExceptHTTP
		return nil
	}
	required, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("must be true, false or tcp-https")
	}
	*r = TLSOptional
	if required {
		*r = TLSRequired
	}
	return nil
}

// String returns the word that Set reads.
func (r TLSRequirement) String() string {
	switch r {
	case TLSRequired:
		return "true"
	case TLSRequiredExceptHTTP:
		return "tcp-https"
	}
	return "false"
}

// IsBoolFlag lets the flag stand without a value, which means true.
func (r *TLSRequirement) IsBoolFlag() bool { return true }

// A TLSVersion is a version by its number on the wire, as [tls.VersionTLS12]. It
// is a [flag.Value].
type TLSVersion uint16

// defaultTLSVersion is weak by today's standards: clients that know nothing better
// are served unless an operator forbids it. Source: nsqd options,
// --tls-min-version.
const defaultTLSVersion = TLSVersion(tls.VersionTLS10)

// Set reads tls1.0 to tls1.3 in any letter case; the empty text is the default. On
// error v is unchanged.
func (v *TLSVersion) Set(text string) error {
	switch strings.ToLower(text) {
	case "", "tls1.0":
		*v = tls.VersionTLS10
	case "tls1.1":
		*v = tls.VersionTLS11
	case "tls1.2":
		*v = tls.VersionTLS12
	case "tls1.3":
		*v = tls.VersionTLS13
	default:
		return errors.New("must be tls1.0, tls1.1, tls1.2 or tls1.3")
	}
	return nil
}

// String returns the word that Set reads, "" for the zero value.
func (v TLSVersion) String() string {
	if v == 0 {
		return ""
	}
	return strings.ToLower(versionName(uint16(v)))
}

// The values of --tls-client-auth-policy that mean something. Any other word asks
// for no certificate. Source: TCP protocol spec, "TLS and compression".
const (
	policyRequire       = "require"
	policyRequireVerify = "require-verify"
)

// serverTLS is how TLS is served.
type serverTLS struct {
	tcp   *tls.Config
	https *tls.Config // asks for certificates where they let administrators in
}

// serverTLS returns how TLS is served, or nil where neither certificate nor key is
// configured.
func (o *Options) serverTLS() (*serverTLS, error) {
	if o.TLSCert == "" && o.TLSKey == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   uint16(o.TLSMinVersion),
	}
	switch o.TLSClientAuthPolicy {
	case policyRequire:
		config.ClientAuth = tls.RequireAnyClientCert
	case policyRequireVerify:
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if config.ClientCAs, err = o.rootCAs(); err != nil {
		return nil, err
	}
	s := &serverTLS{tcp: config, https: config}
	if len(o.AdminClientCerts) > 0 && config.ClientAuth == tls.NoClientCert {
		s.https = config.Clone()
		s.https.ClientAuth = tls.RequestClientCert
	}
	return s, nil
}

// reloadableTLS is a configuration of a server that asks current for each new
// connection.
func reloadableTLS(current func() *tls.Config) *tls.Config {
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current(), nil },
	}
}

// adminRules returns who may do what is guarded.
func (o *Options) adminRules() (*httpapi.Rules, error) {
	if len(o.AdminClientCerts) > 0 && o.TLSRootCAFile == "" {
		return nil, errors.New("--http-admin-client-cert needs --tls-root-ca-file")
	}
	roots, err := o.rootCAs()
	if err != nil {
		return nil, err
	}
	return httpapi.LoadRules(o.GuardOptions, httpapi.ClientCerts{CommonNames: o.AdminClientCerts, Roots: roots})
}

// clientTLS returns how this daemon asks HTTPS servers.
func (o *Options) clientTLS() (*tls.Config, error) {
	roots, err := o.rootCAs()
	return &tls.Config{MinVersion: uint16(o.TLSMinVersion), RootCAs: roots}, err
}

// rootCAs reads --tls-root-ca-file; nil stands for those of the system.
func (o *Options) rootCAs() (*x509.CertPool, error) {
	if o.TLSRootCAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.TLSRootCAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("failed to append certificate to pool")
	}
	return pool, nil
}

// resolveTLS checks the TLS options, in the order and with the texts that scripts
// know, and returns how TLS is served (nil for not at all) and how auth servers are
// asked. A client-auth policy makes TLS required.
func (o *Options) resolveTLS() (server *serverTLS, client *tls.Config, err error) {
	if o.TLSClientAuthPolicy != "" && o.TLSRequired == TLSOptional {
		o.TLSRequired = TLSRequired
	}
	if server, err = o.serverTLS(); err != nil {
		return nil, nil, fmt.Errorf("failed to build TLS config - %w", err)
	}
	if server == nil && o.TLSRequired != TLSOptional {
		return nil, nil, errors.New("cannot require TLS client connections without TLS key and cert")
	}
	if client, err = o.clientTLS(); err != nil {
		return nil, nil, fmt.Errorf("failed to build client TLS config - %w", err)
	}
	return server, client, nil
}

// versionName is a TLS version as in /stats.
func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS10:
		return "TLS1.0"
	case tls.VersionTLS11:
		return "TLS1.1"
	case tls.VersionTLS12:
		return "TLS1.2"
	case tls.VersionTLS13:
		return "TLS1.3"
	}
	return fmt.Sprintf("Unknown %d", version)
}

// cipherName is a cipher suite as in /stats, which names only these. Source: nsqd
// HTTP API, /stats.
func cipherName(id uint16) string {
	switch id {
	case tls.TLS_RSA_WITH_RC4_128_SHA,
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return tls.CipherSuiteName(id)
	}
	return fmt.Sprintf("Unknown %d", id)
}
