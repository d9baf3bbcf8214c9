package nsqlookupd

import (
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

	// Verbose has no effect. Flag --verbose, for old scripts.
	Verbose bool `flag:"verbose" cfg:"-" usage:"deprecated, has no effect" group:"Logging"`

	// TCPAddress is where nsqds connect, host:port. Port 0 stands for a free
	// one. Flag --tcp-address.
	TCPAddress string `flag:"tcp-address" usage:"host:port to listen on for nsqd" group:"Listeners"`

	// HTTPAddress is where everybody asks, host:port. Port 0 stands for a free
	// one. Flag --http-address.
	HTTPAddress string `flag:"http-address" usage:"host:port to listen on for HTTP clients"`

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
	}
}

// idleTimeout returns the effective TCPIdleTimeout, 0 for never.
func (o *Options) idleTimeout() time.Duration {
	if o.TCPIdleTimeout <= 0 {
		return 0
	}
	return max(o.TCPIdleTimeout, o.InactiveProducerTimeout)
}
