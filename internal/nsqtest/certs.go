package nsqtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A CA issues certificates for the tests of one test. They are valid at any time,
// also that of a synctest bubble.
type CA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64 // serial number of the last certificate
}

// NewCA returns a new CA.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{t: t}
	template := ca.template("test CA")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	ca.key = ca.newKey()
	ca.cert = ca.sign(template, template, ca.key, ca.key)
	return ca
}

func (ca *CA) template(commonName string) *x509.Certificate {
	ca.n++
	return &x509.Certificate{
		SerialNumber: big.NewInt(ca.n),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{"localhost"},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (ca *CA) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	return key
}

func (ca *CA) sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return cert
}

// Issue returns a new certificate for 127.0.0.1 and localhost, fit for servers and
// clients, with its key.
func (ca *CA) Issue(commonName string) tls.Certificate {
	ca.t.Helper()
	key := ca.newKey()
	cert := ca.sign(ca.template(commonName), ca.cert, key, ca.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// IssueFiles is Issue into files of PEM, in a directory of their own.
func (ca *CA) IssueFiles(commonName string) (certFile, keyFile string) {
	ca.t.Helper()
	cert := ca.Issue(commonName)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		ca.t.Fatal(err)
	}
	dir := ca.t.TempDir()
	return ca.write(dir, "cert.pem", "CERTIFICATE", cert.Leaf.Raw), ca.write(dir, "key.pem", "PRIVATE KEY", key)
}

// File writes the CA's own certificate to a file of PEM.
func (ca *CA) File() string {
	ca.t.Helper()
	return ca.write(ca.t.TempDir(), "ca.pem", "CERTIFICATE", ca.cert.Raw)
}

func (ca *CA) write(dir, name, kind string, der []byte) string {
	ca.t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	return file
}

// Client returns a client's configuration that trusts the CA and shows certs.
func (ca *CA) Client(certs ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certs}
}
