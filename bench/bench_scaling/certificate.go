package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certificate makes a certificate that nobody trusts, for nsqd to offer TLS with. It
// returns nsqd's flags, and removes the files when remove is called.
func certificate() (flags []string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "nsq-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) } // it is in a directory for temporary files
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := writeCertificate(certFile, keyFile); err != nil {
		remove()
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	return []string{"--tls-cert=" + certFile, "--tls-key=" + keyFile, "--https-address=127.0.0.1:0"}, remove, nil
}

func writeCertificate(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}
