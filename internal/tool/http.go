package tool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// HTTPLimits are the time limits of a tool's HTTP requests.
type HTTPLimits struct {
	ConnectTimeout time.Duration `flag:"http-client-connect-timeout" group:"HTTP" usage:"time limit for a TCP connect"`
	RequestTimeout time.Duration `flag:"http-client-request-timeout" group:"HTTP" usage:"time limit for a whole request"`
}

// Check returns an error for a limit that is not above 0.
func (l *HTTPLimits) Check() error {
	switch {
	case l.ConnectTimeout <= 0:
		return errors.New("--http-client-connect-timeout should be positive")
	case l.RequestTimeout <= 0:
		return errors.New("--http-client-request-timeout should be positive")
	}
	return nil
}

// TLSOptions are the certificates for HTTPS.
type TLSOptions struct {
	RootCAFile         string `flag:"tls-root-ca-file" group:"HTTP" usage:"file of PEM with the certificates to trust for HTTPS (default: those of the system)"`
	CertFile           string `flag:"tls-cert" group:"HTTP" usage:"file of PEM with the certificate to show to HTTPS servers; needs --tls-key"`
	KeyFile            string `flag:"tls-key" group:"HTTP" usage:"file of PEM with the key of --tls-cert"`
	InsecureSkipVerify bool   `flag:"tls-insecure-skip-verify" group:"HTTP" usage:"trust any HTTPS server"`
}

// Config returns the settings for HTTPS.
func (o *TLSOptions) Config() (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: o.InsecureSkipVerify}
	if o.RootCAFile != "" {
		pem, err := os.ReadFile(o.RootCAFile)
		if err != nil {
			return nil, fmt.Errorf("--tls-root-ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-root-ca-file: no certificate in %s", o.RootCAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("--tls-cert and --tls-key are used together")
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
