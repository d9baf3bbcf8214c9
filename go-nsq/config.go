package nsq

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"os"
	"reflect"
	"strings"
	"time"
)

// Config holds the settings of a Consumer, Producer or Conn. It is made with
// NewConfig, changed through its fields or Set, and copied by NewConsumer and
// NewProducer: later changes do not reach them.
//
// The tags are the name that Set knows the option by, its default and its
// limits. Durations of options are written as time.ParseDuration reads them.
type Config struct {
	initialized             bool
	tlsCertFile, tlsKeyFile string // paths given to Set, until both are known

	// DialTimeout is how long a TCP connect may take. Across regions the
	// default is short, as is that of WriteTimeout.
	DialTimeout time.Duration `opt:"dial_timeout" default:"1s"`

	// ReadTimeout is how long a connection may stay silent, and WriteTimeout
	// how long one write may take.
	ReadTimeout  time.Duration `opt:"read_timeout" min:"100ms" max:"5m" default:"60s"`
	WriteTimeout time.Duration `opt:"write_timeout" min:"100ms" max:"5m" default:"1s"`

	// LocalAddr is the local address to dial from; nil for any.
	LocalAddr net.Addr `opt:"local_addr"`

	// LookupdPollInterval is the time between two questions to nsqlookupd, and
	// the longest wait before a directly given nsqd is connected to again.
	// The first poll is delayed by up to LookupdPollJitter of it.
	LookupdPollInterval time.Duration `opt:"lookupd_poll_interval" min:"10ms" max:"5m" default:"60s"`
	LookupdPollJitter   float64       `opt:"lookupd_poll_jitter" min:"0" max:"1" default:"0.3"`

	// LookupdPollTimeout limits connect, wait for the header and whole request
	// when asking nsqlookupd.
	LookupdPollTimeout time.Duration `opt:"lookupd_poll_timeout" default:"1m"`

	// MaxRequeueDelay is the longest automatic requeue delay, and
	// DefaultRequeueDelay, times attempts, the automatic one.
	MaxRequeueDelay     time.Duration `opt:"max_requeue_delay" min:"0" max:"60m" default:"15m"`
	DefaultRequeueDelay time.Duration `opt:"default_requeue_delay" min:"0" max:"60m" default:"90s"`

	// BackoffStrategy says how long to pause at each backoff level. Set knows
	// "exponential" and "full_jitter".
	BackoffStrategy BackoffStrategy `opt:"backoff_strategy" default:"exponential"`

	// MaxBackoffDuration is the longest pause; 0 turns backoff off.
	MaxBackoffDuration time.Duration `opt:"max_backoff_duration" min:"0" max:"60m" default:"2m"`

	// BackoffMultiplier is the unit of the built-in strategies.
	BackoffMultiplier time.Duration `opt:"backoff_multiplier" min:"0" max:"60m" default:"1s"`

	// MaxAttempts is how often a message is handled before the Consumer gives
	// it up; 0 for ever.
	MaxAttempts uint16 `opt:"max_attempts" min:"0" max:"65535" default:"5"`

	// LowRdyIdleTimeout: a connection without a message for this long may lose
	// its RDY to another one, when there are more connections than
	// MaxInFlight. LowRdyTimeout: so may one that has had RDY for this long.
	LowRdyIdleTimeout time.Duration `opt:"low_rdy_idle_timeout" min:"1s" max:"5m" default:"10s"`
	LowRdyTimeout     time.Duration `opt:"low_rdy_timeout" min:"1s" max:"5m" default:"30s"`

	// RDYRedistributeInterval is the time between two such redistributions.
	RDYRedistributeInterval time.Duration `opt:"rdy_redistribute_interval" min:"1ms" max:"5s" default:"5s"`

	// ClientID, Hostname and UserAgent identify us to nsqd. Defaults: the host
	// name up to its first dot, the host name, "go-nsq/" + VERSION.
	ClientID  string `opt:"client_id"`
	Hostname  string `opt:"hostname"`
	UserAgent string `opt:"user_agent"`

	// TopologyRegion and TopologyZone tell a topology-aware nsqd where we are.
	TopologyRegion string `opt:"topology_region"`
	TopologyZone   string `opt:"topology_zone"`

	// HeartbeatInterval is the time between two heartbeats from nsqd; -1 turns
	// them off, and the idle limit with them. At most ReadTimeout.
	HeartbeatInterval time.Duration `opt:"heartbeat_interval" default:"30s"`

	// SampleRate is the percentage of a channel's messages to receive; 0 for
	// all of them.
	SampleRate int32 `opt:"sample_rate" min:"0" max:"99"`

	// TlsV1 asks nsqd for TLS, with the client settings of TlsConfig.
	TlsV1     bool        `opt:"tls_v1"`
	TlsConfig *tls.Config `opt:"tls_config"`

	// Deflate and Snappy ask for compression; nsqd refuses both together.
	// DeflateLevel is the level for both directions.
	Deflate      bool `opt:"deflate"`
	DeflateLevel int  `opt:"deflate_level" min:"1" max:"9" default:"6"`
	Snappy       bool `opt:"snappy"`

	// OutputBufferSize is the size in bytes of nsqd's write buffer for us; -1
	// for none.
	OutputBufferSize int64 `opt:"output_buffer_size" default:"16384"`

	// OutputBufferTimeout is how long nsqd may keep messages in that buffer;
	// -1 for no limit.
	OutputBufferTimeout time.Duration `opt:"output_buffer_timeout" default:"250ms"`

	// MaxInFlight is how many messages a Consumer takes at a time, over all
	// its connections.
	MaxInFlight int `opt:"max_in_flight" min:"0" default:"1"`

	// MsgTimeout is how long nsqd waits for the answer to a message; 0 for
	// nsqd's default.
	MsgTimeout time.Duration `opt:"msg_timeout" min:"0"`

	// MaxMsgSize is the largest frame in bytes accepted from nsqd; 0 for no
	// limit.
	MaxMsgSize int32 `opt:"max_msg_size" min:"0" default:"0"`

	// AuthSecret is sent to an nsqd that asks for authorization.
	AuthSecret string `opt:"auth_secret"`

	// LookupdAuthorization sends AuthSecret to nsqlookupd as well, as a bearer
	// token. The name of the option says the opposite: setting
	// skip_lookupd_authorization to true sends it.
	LookupdAuthorization bool `opt:"skip_lookupd_authorization" default:"true"`

	// The fields from here on are not in the published client.

	// Dialer makes the connections to nsqd, for example through a proxy; nil
	// for a net.Dialer with LocalAddr. DialTimeout applies in any case.
	Dialer Dialer

	// TlsRequired asks for TLS, as TlsV1 does, and refuses an nsqd that does
	// not offer it. TlsV1 alone goes on in plain text then, with a warning.
	TlsRequired bool `opt:"tls_required"`

	// AutoTouch sends TOUCH for every message that is not answered when half of
	// its timeout is over, so that long handlers keep it. nsqd sets an end to
	// that with its --max-msg-timeout.
	AutoTouch bool `opt:"auto_touch"`

	// RecoverPanics takes a handler's panic for an error, which is logged with
	// its stack. Without it a panic ends the program.
	RecoverPanics bool `opt:"recover_panics"`

	// BackoffOnFailedFinish takes it for a failure in backoff when nsqd refuses
	// a FIN: the message had timed out, so we are too slow.
	BackoffOnFailedFinish bool `opt:"backoff_on_failed_finish"`

	// DisconnectUnlisted closes the connection to an nsqd that was found through
	// nsqlookupd and that two polls in a row, answered by every nsqlookupd, no
	// longer name. What it has sent is handled first.
	DisconnectUnlisted bool `opt:"disconnect_unlisted"`
}

// Dialer makes connections. *net.Dialer is one, and so are the dialers of
// golang.org/x/net/proxy.
type Dialer interface {
	// DialContext connects to addr, "host:port", on network, which is "tcp".
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// NewConfig returns a Config with the default settings. Only this makes a
// usable one. It panics if a default cannot be applied.
func NewConfig() *Config {
	c := &Config{initialized: true}
	if err := c.setDefaults(); err != nil {
		panic(err.Error())
	}
	return c
}

func (c *Config) setDefaults() error {
	for field := range options() {
		if value := field.Tag.Get("default"); value != "" {
			if err := c.Set(field.Tag.Get("opt"), value); err != nil {
				return err
			}
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		log.Printf("nsq: read host name: %s", err)
	}
	c.Hostname = hostname
	c.ClientID, _, _ = strings.Cut(hostname, ".")
	c.UserAgent = "go-nsq/" + VERSION
	return nil
}

// mustBeInitialized panics for a Config that is not from NewConfig.
func (c *Config) mustBeInitialized() {
	if !c.initialized {
		panic("Config{} must be created with NewConfig()")
	}
}

// Validate checks the fields against their limits, in their order, and
// HeartbeatInterval against ReadTimeout.
func (c *Config) Validate() error {
	c.mustBeInitialized()
	value := reflect.ValueOf(c).Elem()
	for field := range options() {
		if err := checkLimits(field, field.Name, value.FieldByIndex(field.Index)); err != nil {
			return err
		}
	}
	if c.HeartbeatInterval > c.ReadTimeout {
		return fmt.Errorf("HeartbeatInterval %v must be less than ReadTimeout %v", c.HeartbeatInterval, c.ReadTimeout)
	}
	return nil
}
