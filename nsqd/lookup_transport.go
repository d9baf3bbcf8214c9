package nsqd

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
)

// A lookupTransport is how nsqlookupds are connected to, and what they are shown so
// that they let this nsqd register. The files that the options name are read anew for
// each connection: they can be replaced while the daemon runs. The zero value is
// plain TCP without a secret.
type lookupTransport struct {
	tls        func() (*tls.Config, error) // nil for plain TCP
	secretFile string                      // empty for no secret
}

// lookupTransport returns what the options say, after a look at the files.
func (o *Options) lookupTransport() (lookupTransport, error) {
	t := lookupTransport{secretFile: o.LookupdSecretFile}
	if o.LookupdTLS {
		t.tls = o.lookupTLS
		if _, err := t.tls(); err != nil {
			return t, fmt.Errorf("--lookupd-tls: %w", err)
		}
	}
	_, err := t.secret()
	return t, err
}

// lookupTLS returns how this daemon is a TLS client of nsqlookupds: with its own
// certificate, if it has one and is asked for it.
func (o *Options) lookupTLS() (*tls.Config, error) {
	config, err := o.clientTLS()
	if err != nil {
		return nil, err
	}
	config.MinVersion = tls.VersionTLS12 // unlike clients of nsqd, nsqlookupd is never older than this option
	if o.TLSCert != "" || o.TLSKey != "" {
		pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// dial connects to host:port.
func (t *lookupTransport) dial(ctx context.Context, addr string) (net.Conn, error) {
	if t.tls == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	config, err := t.tls()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
}

// secret returns the first line of the secret file that is not empty, or "" where
// there is no file.
func (t *lookupTransport) secret() (string, error) {
	if t.secretFile == "" {
		return "", nil
	}
	content, err := os.ReadFile(t.secretFile)
	if err != nil {
		return "", fmt.Errorf("read --lookupd-secret-file: %w", err)
	}
	for line := range bytes.Lines(content) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return string(line), nil
		}
	}
	return "", fmt.Errorf("--lookupd-secret-file: no secret in %s", t.secretFile)
}

// tlsOfHTTP returns how nsqlookupds are asked over HTTPS. It is that of the start: the
// connections are kept and shared.
func (t *lookupTransport) tlsOfHTTP() *tls.Config {
	if t.tls == nil {
		return nil
	}
	config, err := t.tls()
	if err != nil {
		return nil // only where a file went away since it was looked at
	}
	return config
}
