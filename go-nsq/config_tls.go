package nsq

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// tlsOptions are the options of Set that are not fields but fill TlsConfig.
var tlsOptions = map[string]func(*Config, interface{}) error{
	"tls_cert":                 (*Config).setTLSCert,
	"tls_key":                  (*Config).setTLSKey,
	"tls_root_ca_file":         (*Config).setTLSRootCAFile,
	"tls_insecure_skip_verify": (*Config).setTLSInsecureSkipVerify,
	"tls_min_version":          (*Config).setTLSMinVersion,
}

// tlsVersions are the names that tls_min_version knows. TLS 1.3 is not one of
// them: programs rely on its being refused.
var tlsVersions = map[string]uint16{
	"ssl3.0": 0x0300, // still a valid name, though crypto/tls knows no such version any more
	"tls1.0": tls.VersionTLS10,
	"tls1.1": tls.VersionTLS11,
	"tls1.2": tls.VersionTLS12,
}

// tlsSettings returns TlsConfig, made if need be.
func (c *Config) tlsSettings() *tls.Config {
	if c.TlsConfig == nil {
		c.TlsConfig = &tls.Config{MinVersion: tls.VersionTLS10}
	}
	return c.TlsConfig
}

func (c *Config) setTLSCert(value interface{}) error {
	return c.setTLSFile(&c.tlsCertFile, value)
}

func (c *Config) setTLSKey(value interface{}) error {
	return c.setTLSFile(&c.tlsKeyFile, value)
}

// setTLSFile notes one path of the certificate and key pair and loads the pair
// as soon as both are known.
func (c *Config) setTLSFile(to *string, value interface{}) error {
	settings := c.tlsSettings()
	path, ok := value.(string)
	if !ok {
		return fmt.Errorf("ERROR: %v is not a string", value)
	}
	*to = path
	if c.tlsCertFile == "" || c.tlsKeyFile == "" || len(settings.Certificates) > 0 {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.tlsCertFile, c.tlsKeyFile)
	if err != nil {
		return err
	}
	settings.Certificates = []tls.Certificate{pair}
	return nil
}

func (c *Config) setTLSRootCAFile(value interface{}) error {
	settings := c.tlsSettings()
	path, ok := value.(string)
	if !ok {
		return fmt.Errorf("ERROR: %v is not a string", value)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("ERROR: failed to read custom Certificate Authority file %s", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("ERROR: failed to append certificates from Certificate Authority file")
	}
	settings.RootCAs = pool
	return nil
}

func (c *Config) setTLSInsecureSkipVerify(value interface{}) error {
	settings := c.tlsSettings()
	skip, err := coerceBool(value)
	if err != nil {
		return fmt.Errorf("failed to coerce option tls_insecure_skip_verify (%v) - %w", value, err)
	}
	settings.InsecureSkipVerify = skip
	return nil
}

func (c *Config) setTLSMinVersion(value interface{}) error {
	settings := c.tlsSettings()
	name, ok := value.(string)
	if !ok {
		return fmt.Errorf("ERROR: %v is not a string", value)
	}
	version, ok := tlsVersions[name]
	if !ok {
		return fmt.Errorf("ERROR: %v is not a tls version", value)
	}
	settings.MinVersion = version
	return nil
}
