package nsqlookupd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/logging"
)

// Options are the settings of an nsqlookupd; NewOptions has the defaults. The
// tags are those of package config. Source: nsqlookupd spec, section 10.
type Options struct {
	logging.Options

	// ShutdownTimeout is how long a stop may take, 0 for ever; then the process
	// ends. Requests in progress get half of it. Flag --shutdown-timeout, default
	// 10s.
	ShutdownTimeout time.Duration `flag:"shutdown-timeout" usage:"longest time a stop may take; 0 for no limit" group:"Stop"`

	// ShutdownDelay is how long a stop waits, with /health/ready saying no and all
	// else going on, for load balancers to notice. It counts towards
	// ShutdownTimeout. Flag --shutdown-delay, default 0.
	ShutdownDelay time.Duration `flag:"shutdown-delay" usage:"serve for this long after a stop has begun, while /health/ready says no" group:"Stop"`

	// Verbose has no effect. Flag --verbose, for old scripts.
	Verbose bool `flag:"verbose" cfg:"-" usage:"deprecated, has no effect" group:"Logging"`

	// TCPAddress is where nsqds connect, host:port. Port 0 stands for a free
	// one. Flag --tcp-address.
	TCPAddress string `flag:"tcp-address" usage:"host:port to listen on for nsqd" group:"Listeners"`

	// HTTPAddress is where everybody asks, host:port. Port 0 stands for a free
	// one; empty for none, if there is an HTTPSAddress. Flag --http-address.
	HTTPAddress string `flag:"http-address" usage:"host:port to listen on for HTTP clients; empty for none, if there is an https-address"`

	// HTTPSAddress is where the same is answered over TLS, host:port, which needs
	// TLSCert and TLSKey. Empty for none. Flag --https-address.
	HTTPSAddress string `flag:"https-address" usage:"host:port to listen on for HTTPS clients, which needs tls-cert and tls-key; empty for none"`

	// TLSCert and TLSKey are files of PEM, read at the start. With them nsqds may
	// use TLS on TCPAddress too: who begins with a handshake gets TLS 1.2 or later.
	// Flags --tls-cert, --tls-key.
	TLSCert string `flag:"tls-cert" usage:"path to a certificate file (PEM), for https-address and for nsqds that use TLS"`
	TLSKey  string `flag:"tls-key" usage:"path to its key file (PEM)"`

	// BroadcastAddress is the name or address of this host that is told to
	// nsqds; they ask it for channels over HTTP. Flag --broadcast-address,
	// default the host name.
	BroadcastAddress string `flag:"broadcast-address" usage:"address of this nsqlookupd, as told to nsqd"`

	// InactiveProducerTimeout is how long after its last PING an nsqd is still
	// listed. Flag --inactive-producer-timeout, default 5m.
	InactiveProducerTimeout time.Duration `flag:"inactive-producer-timeout" usage:"how long an nsqd stays listed after its last ping" group:"Producers"`

	// TombstoneLifetime is how long a tombstone hides an nsqd from /lookup.
	// Flag --tombstone-lifetime, default 45s.
	TombstoneLifetime time.Duration `flag:"tombstone-lifetime" usage:"how long a tombstoned nsqd is not listed for the topic"`

	// TCPIdleTimeout is how long a connection may be silent before it is taken
	// for dead and closed, with all that it had registered. It is at least
	// InactiveProducerTimeout, so that nobody is dropped who is still listed;
	// nsqds ping every 15 s. 0 or less: never. Flag --tcp-idle-timeout, default
	// 10m.
	TCPIdleTimeout time.Duration `flag:"tcp-idle-timeout" usage:"close connections that are silent for this long, though not before inactive-producer-timeout; 0 for never"`

	// UnusedTopicLifetime is how long a topic without an nsqd is kept; channels of
	// topics must survive the outage of their nsqds. 0: for ever. Flag
	// --unused-topic-lifetime, default 0.
	UnusedTopicLifetime time.Duration `flag:"unused-topic-lifetime" usage:"forget topics that no nsqd has had for this long; 0 for never"`

	// RegistrationTLS refuses nsqds over plain TCP. Flag --registration-tls.
	RegistrationTLS bool `flag:"registration-tls" usage:"refuse nsqds that do not use TLS" group:"Who may register"`

	// RegistrationCAFile holds certificates (PEM), to one of which that of an nsqd
	// must lead. It implies RegistrationTLS. Empty: no certificate is needed. Flag
	// --registration-ca-file.
	RegistrationCAFile string `flag:"registration-ca-file" usage:"path to the certificates (PEM) that those of nsqds must lead to; implies registration-tls"`

	// RegistrationSecretFile holds secrets, one a line; an nsqd must know one of
	// them. Two lines let a secret be replaced without an outage. Empty: no secret
	// is needed. Flag --registration-secret-file.
	RegistrationSecretFile string `flag:"registration-secret-file" usage:"path to the secrets, one a line, of which an nsqd must know one"`

	// MaxConnections is how many nsqds may be connected at a time. 0: no limit.
	// Flag --max-connections, default 65,536.
	MaxConnections int `flag:"max-connections" usage:"TCP connections at a time; 0 for no limit" group:"Limits"`

	// MaxHTTPConnections is how many connections each of HTTP and HTTPS may have at
	// a time. 0: no limit. Flag --max-http-connections, default 65,536.
	MaxHTTPConnections int `flag:"max-http-connections" usage:"connections to each of HTTP and HTTPS at a time; 0 for no limit"`

	// MaxTopicsAndChannels is how many of both together may be known at a time,
	// which take some 250 bytes each. 0: no limit. Flag
	// --max-topics-and-channels, default 1,000,000.
	MaxTopicsAndChannels int `flag:"max-topics-and-channels" usage:"topics and channels known at a time; 0 for no limit"`

	// MaxRegistrationsPerConnection is how many topics and channels one nsqd may
	// register, which take some 20 bytes each. 0: no limit. Flag
	// --max-registrations-per-connection, default 100,000.
	MaxRegistrationsPerConnection int `flag:"max-registrations-per-connection" usage:"topics and channels of one nsqd; 0 for no limit"`

	// Warmup is how long after the start /health/ready says no: until nsqds have
	// registered again, /lookup does not know their topics. Flag --warmup, default 0.
	Warmup time.Duration `flag:"warmup" usage:"say at /health/ready for this long after the start that nsqds are still registering" group:"Health"`

	httpapi.GuardOptions

	// HTTPAccessLog says which HTTP requests are logged. Flag --http-access-log,
	// default all.
	HTTPAccessLog httpapi.AccessLog `flag:"http-access-log" value:"which" usage:"which requests over HTTP to log: all, changes (all but those that read and succeed), errors or none"`

	// Logger takes the log lines; nil drops them. The program makes it from
	// the options of logging.
	Logger *slog.Logger

	// Level is the level of Logger; nil where it cannot be changed.
	Level *slog.LevelVar
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost" // --broadcast-address says better
	}
	return &Options{
		Options:                 logging.Options{LogLevel: logging.LevelInfo, LogPrefix: "[nsqlookupd] "},
		ShutdownTimeout:         10 * time.Second,
		TCPAddress:              "0.0.0.0:4160",
		HTTPAddress:             "0.0.0.0:4161",
		BroadcastAddress:        hostname,
		InactiveProducerTimeout: 5 * time.Minute,
		TombstoneLifetime:       45 * time.Second,
		TCPIdleTimeout:          10 * time.Minute,

		MaxConnections:                1 << 16,
		MaxHTTPConnections:            1 << 16,
		MaxTopicsAndChannels:          1_000_000,
		MaxRegistrationsPerConnection: 100_000,
	}
}

// idleTimeout returns the effective TCPIdleTimeout, 0 for never.
func (o *Options) idleTimeout() time.Duration {
	if o.TCPIdleTimeout <= 0 {
		return 0
	}
	return max(o.TCPIdleTimeout, o.InactiveProducerTimeout)
}

// validate returns the first mistake in the options.
func (o *Options) validate() error {
	switch {
	case o.TCPAddress == "":
		return errors.New("--tcp-address is empty, must be host:port")
	case o.HTTPAddress == "" && o.HTTPSAddress == "":
		return errors.New("--http-address is empty, must be host:port where there is no --https-address")
	case o.HTTPSAddress != "" && (o.TLSCert == "" || o.TLSKey == ""):
		return errors.New("--https-address needs --tls-cert and --tls-key")
	}
	for _, c := range []struct {
		flag  string
		value int
	}{
		{"max-connections", o.MaxConnections},
		{"max-http-connections", o.MaxHTTPConnections},
		{"max-topics-and-channels", o.MaxTopicsAndChannels},
		{"max-registrations-per-connection", o.MaxRegistrationsPerConnection},
	} {
		if c.value < 0 {
			return fmt.Errorf("--%s is %d, must be at least 0", c.flag, c.value)
		}
	}
	for _, c := range []struct {
		flag  string
		value time.Duration
	}{
		{"unused-topic-lifetime", o.UnusedTopicLifetime},
		{"warmup", o.Warmup},
		{"shutdown-timeout", o.ShutdownTimeout},
		{"shutdown-delay", o.ShutdownDelay},
	} {
		if c.value < 0 {
			return fmt.Errorf("--%s is %v, must be at least 0", c.flag, c.value)
		}
	}
	if o.ShutdownTimeout > 0 && o.ShutdownDelay >= o.ShutdownTimeout {
		return fmt.Errorf("--shutdown-delay is %v, must be below --shutdown-timeout (%v)", o.ShutdownDelay, o.ShutdownTimeout)
	}
	return nil
}

// serverTLS returns how TLS is served, or nil where neither certificate nor key is
// configured.
func (o *Options) serverTLS() (*tls.Config, error) {
	if o.TLSCert == "" && o.TLSKey == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("load --tls-cert and --tls-key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
