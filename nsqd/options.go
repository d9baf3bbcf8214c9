package nsqd

import (
	"crypto/md5"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/httpapi"
	"github.com/nsq-suite/nsq/internal/logging"
)

// Options configure a daemon. The tags name the command-line flag, the key in the
// TOML file where that is not the flag with '_' for '-', and the line in --help.
// A field without a flag is for programs and tests that embed the daemon.
type Options struct {
	// ID goes into message IDs, [0,1024). Default: a hash of the host name.
	ID int64 `flag:"node-id" cfg:"id" group:"Basics" usage:"unique part of message IDs, [0,1024), by default a hash of the host name"`

	DataPath string `flag:"data-path" group:"Basics" usage:"existing directory for queues and metadata (default: working directory)"`

	// ShutdownTimeout is how long a stop may take, 0 for ever. Requests in progress
	// get half of it. [NSQD.Run] itself waits as long as it takes to store messages;
	// the program ends the process.
	ShutdownTimeout time.Duration `flag:"shutdown-timeout" group:"Basics" usage:"longest time a stop may take; after it the process ends, and what is not on disk is lost; 0 for no limit"`

	// SIGTERM is what that signal does: "stop", or "drain", which a second one
	// turns into a stop. DrainGrace is how long publishes are still accepted in a
	// drain, DrainTimeout how long it may take with that included, 0 for no limit.
	SIGTERM      string        `flag:"sigterm" live:"yes" group:"Basics" usage:"what SIGTERM does: stop, or drain, as POST /drain does: not ready any more, publishes refused after --drain-grace, stop once consumers have emptied all; a second one stops at once"`
	DrainGrace   time.Duration `flag:"drain-grace" group:"Basics" usage:"time for producers and load balancers to notice a drain before publishes are refused"`
	DrainTimeout time.Duration `flag:"drain-timeout" group:"Basics" usage:"longest time a drain may take before the daemon stops with what is left kept on disk; 0 for no limit"`

	logging.Options

	// Logger gets the daemon's log lines; nil for none.
	Logger *slog.Logger

	// Level is the level of Logger, which follows LogLevel; nil where it cannot be
	// changed.
	Level *slog.LevelVar

	TCPAddress        string `flag:"tcp-address" group:"Network" usage:"<addr>:<port> or path of a Unix socket for TCP clients"`
	HTTPAddress       string `flag:"http-address" group:"Network" usage:"<addr>:<port> or path of a Unix socket for HTTP; empty for none"`
	HTTPSAddress      string `flag:"https-address" group:"Network" usage:"<addr>:<port> for HTTPS, which needs --tls-cert and --tls-key; empty for none"`
	BroadcastAddress  string `flag:"broadcast-address" group:"Network" usage:"address announced to nsqlookupd, by default the host name"`
	BroadcastTCPPort  int    `flag:"broadcast-tcp-port" group:"Network" usage:"TCP port announced to nsqlookupd; 0 for the one bound"`
	BroadcastHTTPPort int    `flag:"broadcast-http-port" group:"Network" usage:"HTTP port announced to nsqlookupd; 0 for the one bound"`

	NSQLookupdTCPAddresses []string `flag:"lookupd-tcp-address" cfg:"nsqlookupd_tcp_addresses" live:"yes" group:"Network" usage:"TCP address of an nsqlookupd (may be given several times)"`
	// LookupdTLS connects to nsqlookupds by TLS: they must show a certificate for
	// their address that leads to TLSRootCAFile, and are shown TLSCert if they ask.
	LookupdTLS bool `flag:"lookupd-tls" group:"Network" usage:"connect to nsqlookupds by TLS, and show them --tls-cert where they ask for a certificate"`
	// LookupdSecretFile holds what nsqlookupds with --registration-secret-file want
	// to be told; its first line counts.
	LookupdSecretFile string `flag:"lookupd-secret-file" group:"Network" usage:"path to the secret that nsqlookupds are told when this nsqd registers"`

	HTTPClientConnectTimeout time.Duration `flag:"http-client-connect-timeout" group:"Network" usage:"time limit for connecting to nsqlookupd or an auth server over HTTP"`
	HTTPClientRequestTimeout time.Duration `flag:"http-client-request-timeout" group:"Network" usage:"time limit for a whole HTTP request to nsqlookupd or an auth server"`

	// AuthHTTPAddresses are the auth servers, each host:port or a complete URL.
	// With any of them, clients must send AUTH before they publish or subscribe.
	AuthHTTPAddresses     []string `flag:"auth-http-address" cfg:"auth_http_addresses" group:"Network" usage:"<addr>:<port> or URL of an auth server; clients must AUTH then (may be given several times)"`
	AuthHTTPRequestMethod string   `flag:"auth-http-request-method" group:"Network" usage:"method of HTTP requests to auth servers: get or post"`

	// TopologyRegion and TopologyZone are where this daemon runs. They are told
	// to nsqlookupd and to clients; see also TopologyAwareConsumption.
	TopologyRegion string `flag:"topology-region" group:"Network" usage:"region of this nsqd, e.g. of the data center"`
	TopologyZone   string `flag:"topology-zone" group:"Network" usage:"zone within the region"`

	// Experiments are switched on by name; unknown ones have no effect, so that a
	// configuration serves several versions.
	Experiments []string `flag:"enable-experiment" group:"Clients" usage:"feature to switch on: topology-aware-consumption (may be given several times)"`

	// MemQueueSize is how many messages each topic and each channel keeps in
	// memory before they go to disk; 0 sends all to disk.
	MemQueueSize    int64         `flag:"mem-queue-size" group:"Queues" usage:"messages kept in memory per topic and per channel; 0 for all on disk"`
	MaxBytesPerFile int64         `flag:"max-bytes-per-file" group:"Queues" usage:"size of a disk queue file in bytes"`
	SyncEvery       int64         `flag:"sync-every" group:"Queues" usage:"messages per fsync of a disk queue"`
	SyncTimeout     time.Duration `flag:"sync-timeout" group:"Queues" usage:"longest time between fsyncs of a disk queue"`

	// MsgTimeout is how long a consumer may hold a message before it is requeued.
	// A client may ask for another value in IDENTIFY, up to MaxMsgTimeout.
	MsgTimeout    time.Duration `flag:"msg-timeout" live:"yes" group:"Messages" usage:"time a consumer has to answer a message before it is requeued"`
	MaxMsgTimeout time.Duration `flag:"max-msg-timeout" live:"yes" group:"Messages" usage:"longest such time a client may choose or reach with TOUCH"`
	MaxMsgSize    int64         `flag:"max-msg-size" group:"Messages" usage:"largest message body in bytes"`
	MaxReqTimeout time.Duration `flag:"max-req-timeout" live:"yes" group:"Messages" usage:"longest delay of a requeue or of a deferred publish"`
	MaxBodySize   int64         `flag:"max-body-size" live:"yes" group:"Messages" usage:"largest body of one command in bytes"`

	// ClientTimeout is twice the default heartbeat interval.
	ClientTimeout          time.Duration
	MaxConnections         int           `flag:"max-connections" live:"yes" group:"Clients" usage:"TCP connections at a time; 0 for no limit"`
	MaxHTTPConnections     int           `flag:"max-http-connections" group:"Clients" usage:"connections to each of HTTP and HTTPS at a time; 0 for no limit"`
	MagicTimeout           time.Duration `flag:"magic-timeout" live:"yes" group:"Clients" usage:"time a TCP client has to send the four bytes that choose the protocol"`
	MaxHeartbeatInterval   time.Duration `flag:"max-heartbeat-interval" live:"yes" group:"Clients" usage:"longest heartbeat interval a client may choose"`
	MaxRdyCount            int64         `flag:"max-rdy-count" live:"yes" group:"Clients" usage:"largest RDY count of a client"`
	MaxOutputBufferSize    int64         `flag:"max-output-buffer-size" live:"yes" group:"Clients" usage:"largest output buffer a client may choose, in bytes"`
	MaxOutputBufferTimeout time.Duration `flag:"max-output-buffer-timeout" live:"yes" group:"Clients" usage:"longest time a client may let messages wait in its output buffer"`
	MinOutputBufferTimeout time.Duration `flag:"min-output-buffer-timeout" live:"yes" group:"Clients" usage:"shortest such time a client may choose"`
	OutputBufferTimeout    time.Duration `flag:"output-buffer-timeout" live:"yes" group:"Clients" usage:"longest time messages wait in the output buffer of a client that does not choose"`
	MaxChannelConsumers    int           `flag:"max-channel-consumers" live:"yes" group:"Clients" usage:"consumers per channel on this nsqd; 0 for no limit"`

	// E2EProcessingLatencyPercentiles are those of the time from publish to FIN that
	// /stats and statsd tell; without any, nothing is measured.
	E2EProcessingLatencyPercentiles []float64     `flag:"e2e-processing-latency-percentile" cfg:"e2e_processing_latency_percentiles" group:"Statistics" usage:"percentile of the time from publish to FIN to keep, (0,1] (may be given several times, or with commas)"`
	E2EProcessingLatencyWindowTime  time.Duration `flag:"e2e-processing-latency-window-time" group:"Statistics" usage:"how far back those percentiles look"`

	// StatsdAddress is where statistics go over UDP every StatsdInterval, "" for
	// nowhere. In StatsdPrefix, %s stands for the broadcast address and HTTP port.
	StatsdAddress          string        `flag:"statsd-address" group:"Statistics" usage:"<addr>:<port> of a statsd to push statistics to over UDP"`
	StatsdPrefix           string        `flag:"statsd-prefix" group:"Statistics" usage:"text before each name there; %s for host and port"`
	StatsdInterval         time.Duration `flag:"statsd-interval" group:"Statistics" usage:"time between pushes"`
	StatsdMemStats         bool          `flag:"statsd-mem-stats" group:"Statistics" usage:"push memory statistics too"`
	StatsdUDPPacketSize    int           `flag:"statsd-udp-packet-size" group:"Statistics" usage:"largest packet in bytes; 0 or less for 4096"`
	StatsdExcludeEphemeral bool          `flag:"statsd-exclude-ephemeral" group:"Statistics" usage:"push nothing of ephemeral topics and channels"`

	// MetricsMaxTopics is how many topics, with their channels, /metrics tells about,
	// 0 for all. nsqd_metrics_omitted_topics says how many it leaves out.
	MetricsMaxTopics int `flag:"metrics-max-topics" live:"yes" group:"Statistics" usage:"topics with metrics of their own in /metrics; 0 for all"`

	// TLSCert and TLSKey are read when the daemon starts. Either switches TLS on;
	// both are needed.
	TLSCert string `flag:"tls-cert" group:"TLS and compression" usage:"path to a certificate file (PEM)"`
	TLSKey  string `flag:"tls-key" group:"TLS and compression" usage:"path to its key file (PEM)"`
	// TLSClientAuthPolicy is "require" (any certificate) or "require-verify" (one
	// that leads to TLSRootCAFile, or else to a root of the system). Any other text
	// but "" asks for no certificate. All of them make TLS required.
	TLSClientAuthPolicy string `flag:"tls-client-auth-policy" group:"TLS and compression" usage:"client certificates: require (any) or require-verify; makes TLS required"`
	TLSRootCAFile       string `flag:"tls-root-ca-file" group:"TLS and compression" usage:"path to the certificates (PEM) that client certificates must lead to (default: those of the system)"`

	TLSRequired   TLSRequirement `flag:"tls-required" group:"TLS and compression" usage:"require TLS of clients: true, false or =tcp-https, which leaves plain HTTP open"`
	TLSMinVersion TLSVersion     `flag:"tls-min-version" group:"TLS and compression" usage:"lowest TLS version accepted: tls1.0, tls1.1, tls1.2 or tls1.3"`

	Deflate         bool `flag:"deflate" live:"yes" group:"TLS and compression" usage:"offer deflate compression to clients"`
	MaxDeflateLevel int  `flag:"max-deflate-level" live:"yes" group:"TLS and compression" usage:"highest deflate level a client may choose, [1,9]"`
	Snappy          bool `flag:"snappy" live:"yes" group:"TLS and compression" usage:"offer snappy compression to clients"`

	httpapi.GuardOptions

	// AdminClientCerts are the common names of the certificates with which HTTPS
	// clients may do what GuardOptions guard, "*" for any. They must lead to
	// TLSRootCAFile, which is needed then: the roots of the system would let in
	// whoever can buy a certificate.
	AdminClientCerts []string `flag:"http-admin-client-cert" cfg:"http_admin_client_certs" value:"name" usage:"common name of a client certificate, * for any, that leads to --tls-root-ca-file: guarded HTTP requests need a token, a password or such a certificate then, over HTTPS (may be given several times)"`

	// HTTPAccessLog says which HTTP requests are logged; publishes never are.
	HTTPAccessLog httpapi.AccessLog `flag:"http-access-log" live:"yes" value:"which" usage:"which requests over HTTP to log: all, changes (all but those that read and succeed), errors or none"`

	Verbose                 bool `flag:"verbose" cfg:"-" group:"Deprecated" usage:"no effect; use --log-level"`
	WorkerID                bool `flag:"worker-id" cfg:"-" group:"Deprecated" usage:"no effect; use --node-id"`
	QueueScanWorkerPoolMax  int  `flag:"queue-scan-worker-pool-max" group:"Deprecated" usage:"no effect: deadlines are kept exactly"`
	QueueScanSelectionCount int  `flag:"queue-scan-selection-count" group:"Deprecated" usage:"no effect: deadlines are kept exactly"`
}

// The values of Options.SIGTERM.
const (
	SIGTERMStop  = "stop"
	SIGTERMDrain = "drain"
)

// NewOptions returns the defaults.
func NewOptions() *Options {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost" // announced only; --broadcast-address says better
	}
	return &Options{
		ID:              defaultID(hostname),
		ShutdownTimeout: time.Minute,
		Options:         logging.Options{LogLevel: logging.LevelInfo, LogPrefix: "[nsqd] "},

		SIGTERM:      SIGTERMStop,
		DrainGrace:   5 * time.Second,
		DrainTimeout: time.Minute,

		TCPAddress:       "0.0.0.0:4150",
		HTTPAddress:      "0.0.0.0:4151",
		HTTPSAddress:     "0.0.0.0:4152",
		BroadcastAddress: hostname,

		NSQLookupdTCPAddresses:   []string{},
		AuthHTTPAddresses:        []string{},
		Experiments:              []string{},
		AdminClientCerts:         []string{},
		HTTPClientConnectTimeout: 2 * time.Second,
		HTTPClientRequestTimeout: 5 * time.Second,
		AuthHTTPRequestMethod:    "get",

		MemQueueSize:    10000,
		MaxBytesPerFile: 100 << 20,
		SyncEvery:       2500,
		SyncTimeout:     2 * time.Second,

		QueueScanWorkerPoolMax:  4,
		QueueScanSelectionCount: 20,

		MsgTimeout:    time.Minute,
		MaxMsgTimeout: 15 * time.Minute,
		MaxMsgSize:    1 << 20,
		MaxReqTimeout: time.Hour,
		MaxBodySize:   5 << 20,

		ClientTimeout:          time.Minute,
		MagicTimeout:           10 * time.Second,
		MaxHeartbeatInterval:   time.Minute,
		MaxRdyCount:            2500,
		MaxOutputBufferSize:    64 << 10,
		MaxOutputBufferTimeout: 30 * time.Second,
		MinOutputBufferTimeout: 25 * time.Millisecond,
		OutputBufferTimeout:    250 * time.Millisecond,

		E2EProcessingLatencyPercentiles: []float64{}, // as in a file that says [], so that a reload sees no change
		E2EProcessingLatencyWindowTime:  10 * time.Minute,

		StatsdPrefix:        "nsq.%s",
		StatsdInterval:      time.Minute,
		StatsdMemStats:      true,
		StatsdUDPPacketSize: 508,

		MetricsMaxTopics: 10000,

		TLSMinVersion:   defaultTLSVersion,
		Deflate:         true,
		MaxDeflateLevel: 6,
		Snappy:          true,
	}
}

// defaultID is the CRC-32 of the MD5 sum of the host name, modulo 1024. Source:
// nsqd options, --node-id.
func defaultID(hostname string) int64 {
	sum := md5.Sum([]byte(hostname))
	return int64(crc32.ChecksumIEEE(sum[:]) % 1024)
}

// validate returns the first of two options that is out of range. Their texts
// and their order are those that scripts know.
func (o *Options) validate() error {
	if o.MaxDeflateLevel < 1 || o.MaxDeflateLevel > 9 {
		return errors.New("--max-deflate-level must be [1,9]")
	}
	if o.ID < 0 || o.ID >= 1024 {
		return errors.New("--node-id must be [0,1024)")
	}
	return nil
}

// validateRest returns the first of the other options that is out of range; those of
// TLS are checked in between, see resolveTLS.
func (o *Options) validateRest() error {
	if m := o.AuthHTTPRequestMethod; !strings.EqualFold(m, "get") && !strings.EqualFold(m, "post") {
		return errors.New("--auth-http-request-method must be post or get")
	}
	if err := o.validateStatistics(); err != nil {
		return err
	}
	if o.SIGTERM != SIGTERMStop && o.SIGTERM != SIGTERMDrain {
		return fmt.Errorf("--sigterm is %q, must be %s or %s", o.SIGTERM, SIGTERMStop, SIGTERMDrain)
	}
	for _, c := range []struct {
		flag             string
		value, low, high int64
	}{
		{"mem-queue-size", o.MemQueueSize, 0, math.MaxInt32},
		{"max-bytes-per-file", o.MaxBytesPerFile, 1, math.MaxInt64},
		{"sync-every", o.SyncEvery, 1, math.MaxInt64},
		{"max-msg-size", o.MaxMsgSize, 1, math.MaxInt32 - 64},
		{"max-body-size", o.MaxBodySize, 1, math.MaxInt32},
		{"max-rdy-count", o.MaxRdyCount, 0, math.MaxInt32},
		{"max-output-buffer-size", o.MaxOutputBufferSize, 64, math.MaxInt32},
		{"max-connections", int64(o.MaxConnections), 0, math.MaxInt32},
		{"metrics-max-topics", int64(o.MetricsMaxTopics), 0, math.MaxInt32},
		{"statsd-udp-packet-size", int64(o.StatsdUDPPacketSize), math.MinInt32, 65507},
		{"max-http-connections", int64(o.MaxHTTPConnections), 0, math.MaxInt32},
		{"max-channel-consumers", int64(o.MaxChannelConsumers), 0, math.MaxInt32},
		{"broadcast-tcp-port", int64(o.BroadcastTCPPort), 0, math.MaxUint16},
		{"broadcast-http-port", int64(o.BroadcastHTTPPort), 0, math.MaxUint16},
	} {
		if c.value < c.low || c.value > c.high {
			return fmt.Errorf("--%s is %d, must be from %d to %d", c.flag, c.value, c.low, c.high)
		}
	}
	for _, c := range []struct {
		flag  string
		value time.Duration
	}{
		{"sync-timeout", o.SyncTimeout},
		{"magic-timeout", o.MagicTimeout},
		{"msg-timeout", o.MsgTimeout},
		{"max-msg-timeout", o.MaxMsgTimeout},
		{"max-req-timeout", o.MaxReqTimeout},
		{"max-heartbeat-interval", o.MaxHeartbeatInterval},
		{"max-output-buffer-timeout", o.MaxOutputBufferTimeout},
		{"min-output-buffer-timeout", o.MinOutputBufferTimeout},
		{"output-buffer-timeout", o.OutputBufferTimeout},
		{"http-client-connect-timeout", o.HTTPClientConnectTimeout},
		{"http-client-request-timeout", o.HTTPClientRequestTimeout},
	} {
		if c.value <= 0 {
			return fmt.Errorf("--%s is %v, must be above 0", c.flag, c.value)
		}
	}
	for _, addr := range o.NSQLookupdTCPAddresses {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return fmt.Errorf("--lookupd-tcp-address is %q, must be <addr>:<port>", addr)
		}
	}
	if o.TCPAddress == "" {
		return errors.New("--tcp-address is empty, must be <addr>:<port> or a path")
	}
	for _, c := range []struct {
		flag  string
		value time.Duration
	}{
		{"shutdown-timeout", o.ShutdownTimeout},
		{"drain-grace", o.DrainGrace},
		{"drain-timeout", o.DrainTimeout},
	} {
		if c.value < 0 {
			return fmt.Errorf("--%s is %v, must not be negative", c.flag, c.value)
		}
	}
	if o.MaxReqTimeout > maxDelay {
		return fmt.Errorf("--max-req-timeout is %v, must be at most %v", o.MaxReqTimeout, maxDelay)
	}
	return nil
}

// Doubts returns what is allowed and probably not meant, a sentence for each.
func (o *Options) Doubts() []string {
	var doubts []string
	switch o.TLSClientAuthPolicy {
	case "", policyRequire, policyRequireVerify:
	default:
		doubts = append(doubts, fmt.Sprintf("--tls-client-auth-policy is %q, neither require nor require-verify: TLS is required, client certificates are not", o.TLSClientAuthPolicy))
	}
	if o.MsgTimeout > o.MaxMsgTimeout {
		doubts = append(doubts, fmt.Sprintf("--msg-timeout (%v) is above --max-msg-timeout (%v): TOUCH prolongs nothing", o.MsgTimeout, o.MaxMsgTimeout))
	}
	if o.MinOutputBufferTimeout > o.MaxOutputBufferTimeout {
		doubts = append(doubts, fmt.Sprintf("--min-output-buffer-timeout (%v) is above --max-output-buffer-timeout (%v): clients cannot choose", o.MinOutputBufferTimeout, o.MaxOutputBufferTimeout))
	}
	if o.MaxMsgSize > o.MaxBodySize {
		doubts = append(doubts, fmt.Sprintf("--max-msg-size (%d) is above --max-body-size (%d): such messages can be published one by one only", o.MaxMsgSize, o.MaxBodySize))
	}
	for _, name := range o.Experiments {
		if name != TopologyAwareConsumption {
			doubts = append(doubts, fmt.Sprintf("unknown experiment %q has no effect", name))
		}
	}
	if len(o.NSQLookupdTCPAddresses) > 0 {
		const remedy = "consumers and tools that ask nsqlookupd cannot reach this nsqd, which nsqlookupd may refuse"
		if o.BroadcastTCPPort == 0 && network(o.TCPAddress) == "unix" {
			doubts = append(doubts, "--tcp-address is a Unix socket and --broadcast-tcp-port is not given: "+remedy)
		}
		if o.BroadcastHTTPPort == 0 && (o.HTTPAddress == "" || network(o.HTTPAddress) == "unix") {
			doubts = append(doubts, "HTTP has no port and --broadcast-http-port is not given: "+remedy)
		}
	}
	return doubts
}

// validateStatistics looks only at what is switched on: values that have no effect
// have always been accepted.
func (o *Options) validateStatistics() error {
	for _, p := range o.E2EProcessingLatencyPercentiles {
		if !(p > 0 && p <= 1) { // nor a number that is none
			return fmt.Errorf("invalid E2E processing latency percentile: %v", p)
		}
	}
	if len(o.E2EProcessingLatencyPercentiles) > 0 && o.E2EProcessingLatencyWindowTime <= 0 {
		return fmt.Errorf("--e2e-processing-latency-window-time is %v, must be above 0", o.E2EProcessingLatencyWindowTime)
	}
	if o.StatsdAddress != "" && o.StatsdInterval <= 0 {
		return fmt.Errorf("--statsd-interval is %v, must be above 0", o.StatsdInterval)
	}
	return nil
}

func (o *Options) logger() *slog.Logger {
	if o.Logger != nil {
		return o.Logger
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}
