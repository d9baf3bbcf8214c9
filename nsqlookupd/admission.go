package nsqlookupd

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/secrets"
)

// An admission decides which nsqds may register. The zero value admits all, over
// plain TCP only. It is not changed, only replaced.
type admission struct {
	tls         *tls.Config // for clients that begin with a TLS handshake; nil refuses them
	requiresTLS bool

	secrets secrets.Set // of which an nsqd must know one; none asks for none
}

// newAdmission reads the files that the options name.
func newAdmission(opts *Options) (*admission, error) {
	a := &admission{requiresTLS: opts.RegistrationTLS || opts.RegistrationCAFile != ""}
	serverTLS, err := opts.serverTLS()
	if err != nil {
		return nil, err
	}
	if serverTLS == nil && a.requiresTLS {
		return nil, errors.New("--registration-tls and --registration-ca-file need --tls-cert and --tls-key")
	}
	if opts.RegistrationCAFile != "" {
		pem, err := os.ReadFile(opts.RegistrationCAFile)
		if err != nil {
			return nil, fmt.Errorf("read --registration-ca-file: %w", err)
		}
		serverTLS.ClientCAs = x509.NewCertPool()
		if !serverTLS.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--registration-ca-file: no certificate in %s", opts.RegistrationCAFile)
		}
		serverTLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	a.tls = serverTLS
	if opts.RegistrationSecretFile != "" {
		if a.secrets, err = secrets.Read(opts.RegistrationSecretFile, func(string) bool { return true }); err != nil {
			return nil, fmt.Errorf("--registration-secret-file: %w", err)
		}
	}
	return a, nil
}

// checkTransport refuses an IDENTIFY over plain TCP where TLS is required.
func (a *admission) checkTransport(secure bool) error {
	if a.requiresTLS && !secure {
		return unauthorized("IDENTIFY requires TLS")
	}
	return nil
}

// checkSecret refuses the body of an IDENTIFY that does not know a secret.
func (a *admission) checkSecret(body []byte) error {
	if len(a.secrets) == 0 {
		return nil
	}
	var claim struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(body, &claim); err != nil {
		return badBody("failed to decode JSON body", err)
	}
	if !a.secrets.Has(claim.Secret) {
		return unauthorized("IDENTIFY secret is missing or wrong")
	}
	return nil
}

func unauthorized(desc string) error {
	return &protocol.Error{Code: protocol.CodeUnauthorized, Desc: desc, Fatal: true}
}

// isTLS reports whether the first bytes of a connection begin a TLS handshake:
// the record type and the major version.
func isTLS(magic string) bool { return magic[0] == 0x16 && magic[1] == 3 }

// startTLS turns the connection, of which the first bytes have been read, into a
// TLS connection.
func (p *peer) startTLS(first string, config *tls.Config) error {
	rest, err := p.in.Peek(p.in.Buffered())
	if err != nil {
		return err // never: so much is there
	}
	conn := tls.Server(&replayed{Conn: p.conn, in: append([]byte(first), rest...)}, config)
	p.conn, p.secure = conn, true
	p.in = bufio.NewReaderSize(reader{p}, readBufferSize)
	if err := conn.SetDeadline(time.Now().Add(magicTimeout)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("failed TLS handshake - %w", err)
	}
	return nil
}

// A replayed connection gives again what has been read from it already.
type replayed struct {
	net.Conn
	in []byte
}

func (r *replayed) Read(b []byte) (int, error) {
	if len(r.in) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.in)
	r.in = r.in[n:]
	return n, nil
}
