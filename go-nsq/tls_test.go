package nsq

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// testCerts are a certificate authority and a certificate for 127.0.0.1, as
// files and loaded.
type testCerts struct {
	caFile, certFile, keyFile string
	pair                      tls.Certificate
	pool                      *x509.CertPool
}

func newTestCerts(t testing.TB) testCerts {
	t.Helper()
	ca := nsqtest.NewCA(t)
	c := testCerts{caFile: ca.File(), pool: ca.Client().RootCAs}
	c.certFile, c.keyFile = ca.IssueFiles("test")
	var err error
	if c.pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err != nil {
		t.Fatal(err)
	}
	return c
}

// startTLSServer starts an nsqd with TLS that asks for client certificates and
// verifies those it gets.
func startTLSServer(t testing.TB, certs testCerts) *fakeNSQD {
	return startServer(t, func(s *fakeNSQD) {
		s.tlsConfig = &tls.Config{
			Certificates: []tls.Certificate{certs.pair},
			ClientCAs:    certs.pool,
			ClientAuth:   tls.VerifyClientCertIfGiven,
		}
	})
}
