package tool

import (
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"

	"github.com/nsq-suite/nsq/go-nsq"
	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/version"
)

// A Source says where a tool's messages come from, and with which settings of the
// client library.
type Source struct {
	NSQDTCPAddresses     []string `flag:"nsqd-tcp-address" cfg:"nsqd_tcp_addresses" group:"Source" usage:"<addr>:<port> of an nsqd (may be given several times)"`
	LookupdHTTPAddresses []string `flag:"lookupd-http-address" cfg:"lookupd_http_addresses" group:"Source" usage:"<addr>:<port> or URL of an nsqlookupd (may be given several times)"`
	ConsumerOptions      Settings `flag:"consumer-opt" cfg:"consumer_opts" group:"Source" usage:"setting of the client library, as max_attempts,10 or tls_v1 (may be given several times)"`
}

// The texts for a source that is missing or given twice.
var (
	errNoSource   = errors.New("--nsqd-tcp-address or --lookupd-http-address required")
	errTwoSources = errors.New("use --nsqd-tcp-address or --lookupd-http-address not both")
)

// Check returns an error unless there are addresses of exactly one kind.
func (s *Source) Check() error {
	switch {
	case len(s.NSQDTCPAddresses) == 0 && len(s.LookupdHTTPAddresses) == 0:
		return errNoSource
	case len(s.NSQDTCPAddresses) > 0 && len(s.LookupdHTTPAddresses) > 0:
		return errTwoSources
	}
	return nil
}

// Settings are options of the client library as given on the command line, each
// "name" or "name,value". It is a [flag.Value].
type Settings []string

// Set adds an option if the library knows it and accepts the value.
func (s *Settings) Set(option string) error {
	if err := (&nsq.ConfigFlag{Config: nsq.NewConfig()}).Set(option); err != nil {
		return err
	}
	*s = append(slices.Clone(*s), option)
	return nil
}

func (s *Settings) String() string { return strings.Join(*s, " ") }

// Repeatable makes the option a list in the config file.
func (s *Settings) Repeatable() bool { return true }

// Has says whether the option was given, whatever its value.
func (s Settings) Has(name string) bool {
	return slices.ContainsFunc(s, func(option string) bool {
		given, _, _ := strings.Cut(option, ",")
		return strings.ReplaceAll(given, "-", "_") == name
	})
}

// Config returns the library's configuration for the program with this name.
func (s Settings) Config(program string) (*nsq.Config, error) {
	config := nsq.NewConfig()
	for _, option := range s {
		if err := (&nsq.ConfigFlag{Config: config}).Set(option); err != nil {
			return nil, err // a file that has gone meanwhile
		}
	}
	config.UserAgent = fmt.Sprintf("%s/%s go-nsq/%s", program, version.Number, nsq.VERSION)
	return config, nil
}

// ConfigForever is Config for tools that must not lose what they cannot pass on
// yet: a message is tried for ever, unless max_attempts was given.
func (s Settings) ConfigForever(program string, maxInFlight int) (*nsq.Config, error) {
	config, err := s.Config(program)
	if err != nil {
		return nil, err
	}
	config.MaxInFlight = maxInFlight
	if !s.Has("max_attempts") {
		config.MaxAttempts = 0
	}
	return config, nil
}

// LogOptions are the options of tools whose log is that of the client library.
type LogOptions struct {
	LogLevel logging.Level `flag:"log-level" group:"Messages to the operator" usage:"least level of the client library's lines: debug, info, warn, error or fatal (none)"`
}

// A LibraryLog gets the lines of the client library from a level up. The zero value
// drops all.
type LibraryLog struct {
	logger *log.Logger
	level  nsq.LogLevel
}

// NewLibraryLog returns the log that prints in the classic form to stderr.
func NewLibraryLog(env *Env, level logging.Level) LibraryLog {
	l := LibraryLog{logger: log.New(env.Screen, "", log.LstdFlags)}
	switch level {
	case logging.LevelDebug:
		l.level = nsq.LogLevelDebug
	case logging.LevelWarn:
		l.level = nsq.LogLevelWarning
	case logging.LevelError:
		l.level = nsq.LogLevelError
	case logging.LevelFatal:
		return LibraryLog{} // the library knows no such line
	default:
		l.level = nsq.LogLevelInfo
	}
	return l
}

// Consumer sends the lines of a Consumer here.
func (l LibraryLog) Consumer(c *nsq.Consumer) {
	if l.logger == nil {
		c.SetLogger(nil, nsq.LogLevelMax)
		return
	}
	c.SetLogger(l.logger, l.level)
}

// Producer sends the lines of a Producer here.
func (l LibraryLog) Producer(p *nsq.Producer) {
	if l.logger == nil {
		p.SetLogger(nil, nsq.LogLevelMax)
		return
	}
	p.SetLogger(l.logger, l.level)
}
