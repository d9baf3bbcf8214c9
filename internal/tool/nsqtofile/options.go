package nsqtofile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Options are the options of nsq_to_file.
type Options struct {
	Topics       []string      `flag:"topic" cfg:"topics" group:"Messages" usage:"topic (may be given several times)"`
	TopicPattern string        `flag:"topic-pattern" group:"Messages" usage:"only topics that match the regular expression; without --topic those that nsqlookupd knows"`
	TopicRefresh time.Duration `flag:"topic-refresh" group:"Messages" usage:"time between questions to nsqlookupd for topics"`
	Channel      string        `flag:"channel" group:"Messages" usage:"channel"`
	MaxInFlight  int           `flag:"max-in-flight" group:"Messages" usage:"messages to receive, per topic, before the file is synced and they are finished"`
	tool.Source
	tool.HTTPLimits
	tool.TLSOptions // for nsqlookupds over HTTPS

	OutputDir      string `flag:"output-dir" group:"Files" usage:"directory of finished files"`
	WorkDir        string `flag:"work-dir" group:"Files" usage:"directory of files being written (default: that of finished ones)"`
	FilenameFormat string `flag:"filename-format" group:"Files" usage:"path of a file: <TOPIC>, <HOST>, <PID>, <DATETIME> and <REV> (for a revision number) are replaced"`
	DatetimeFormat string `flag:"datetime-format" group:"Files" usage:"<DATETIME>, in the words of strftime: %a %A %b %B %d %H %I %m %M %p %S %y %Y %z %Z %%"`
	HostIdentifier string `flag:"host-identifier" group:"Files" usage:"<HOST>; <SHORT_HOST> and <HOSTNAME> are replaced (default: <SHORT_HOST>)"`
	SkipEmptyFiles bool   `flag:"skip-empty-files" group:"Files" usage:"create no file before there is a message for it"`

	Compression Compression `flag:"compression" group:"Files" usage:"none, gzip or zstd"`
	Gzip        bool        `flag:"gzip" group:"Files" usage:"the same as --compression=gzip"`
	GzipLevel   int         `flag:"gzip-level" group:"Files" usage:"1 (fastest) to 9 (smallest)"`
	ZstdLevel   int         `flag:"zstd-level" group:"Files" usage:"1 (fastest) to 22 (smallest)"`

	RotateSize     int64         `flag:"rotate-size" group:"Files" usage:"size, before compression, of which a file is finished; 0 for none"`
	RotateInterval time.Duration `flag:"rotate-interval" group:"Files" usage:"time after which a file is finished; 0 for none"`
	SyncInterval   time.Duration `flag:"sync-interval" group:"Files" usage:"longest time until a message is synced to disk and finished; must be below the message timeout"`

	LogLevel  string `flag:"log-level" group:"Messages to the operator" usage:"least level to log, of the client library's lines too: debug, info, warn, error or fatal"`
	LogPrefix string `flag:"log-prefix" group:"Messages to the operator" usage:"text before each log line"`
	tool.ProgressOptions

	level logging.Level // that LogLevel says; set by CheckFirst
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		TopicRefresh:    time.Minute,
		Channel:         "nsq_to_file",
		MaxInFlight:     200,
		HTTPLimits:      tool.HTTPLimits{ConnectTimeout: 2 * time.Second, RequestTimeout: 5 * time.Second},
		OutputDir:       "/tmp",
		FilenameFormat:  "<TOPIC>.<HOST><REV>.<DATETIME>.log",
		DatetimeFormat:  "%Y-%m-%d_%H",
		GzipLevel:       6,
		ZstdLevel:       3,
		SyncInterval:    30 * time.Second,
		LogLevel:        "info",
		LogPrefix:       "[nsq_to_file] ",
		ProgressOptions: tool.ProgressOptions{Progress: tool.Auto},
		level:           logging.LevelInfo,
	}
}

// A Compression is a way to compress files. It is a [flag.Value]. The zero value is
// None.
type Compression string

// The compressions.
const (
	None Compression = ""
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Set accepts none, gzip and zstd.
func (c *Compression) Set(text string) error {
	switch text {
	case "none":
		*c = None
	case string(Gzip), string(Zstd):
		*c = Compression(text)
	default:
		return errors.New("must be none, gzip or zstd")
	}
	return nil
}

func (c *Compression) String() string { return string(*c) }

// suffix is how the names of such files end.
func (c Compression) suffix() string {
	return map[Compression]string{Gzip: ".gz", Zstd: ".zst"}[c]
}

// compression returns the compression that the two options for it say.
func (o *Options) compression() Compression {
	if o.Gzip && o.Compression == None {
		return Gzip
	}
	return o.Compression
}

// CheckFirst checks the arguments behind the flags, and the log level.
func (o *Options) CheckFirst(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown arguments: %v", args)
	}
	level, err := logging.ParseLevel(o.LogLevel)
	if err != nil {
		return errors.New("--log-level is invalid")
	}
	o.level = level
	return nil
}

// Check returns the first thing that is wrong.
func (o *Options) Check() error {
	if o.Channel == "" {
		return errors.New("--channel is required")
	}
	if err := o.HTTPLimits.Check(); err != nil {
		return err
	}
	switch {
	case len(o.NSQDTCPAddresses) == 0 && len(o.LookupdHTTPAddresses) == 0:
		//lint:ignore ST1005 the text is contract, full stop included
		return errors.New("--nsqd-tcp-address or --lookupd-http-address required.")
	case len(o.NSQDTCPAddresses) > 0 && len(o.LookupdHTTPAddresses) > 0:
		return errors.New("use --nsqd-tcp-address or --lookupd-http-address not both")
	case o.GzipLevel < 1 || o.GzipLevel > 9:
		return fmt.Errorf("invalid --gzip-level value (%d), should be 1-9", o.GzipLevel)
	case o.ZstdLevel < 1 || o.ZstdLevel > 22:
		return fmt.Errorf("invalid --zstd-level value (%d), should be 1-22", o.ZstdLevel)
	case o.Gzip && o.Compression == Zstd:
		return errors.New("use --gzip or --compression=zstd not both")
	case len(o.Topics) == 0 && o.TopicPattern == "":
		return errors.New("--topic or --topic-pattern required")
	case len(o.Topics) == 0 && len(o.LookupdHTTPAddresses) == 0:
		return errors.New("--lookupd-http-address must be specified when no --topic specified")
	case o.SyncInterval <= 0:
		return errors.New("--sync-interval should be positive")
	case len(o.Topics) == 0 && o.TopicRefresh <= 0:
		return errors.New("--topic-refresh should be positive")
	}
	if _, err := regexp.Compile(o.TopicPattern); err != nil {
		return fmt.Errorf("--topic-pattern is invalid: %w", err)
	}
	return nil
}

// separate says whether files are written in another directory than they end in.
func (o *Options) separate() bool { return o.workDir() != filepath.Clean(o.OutputDir) }

func (o *Options) workDir() string {
	if o.WorkDir == "" {
		return filepath.Clean(o.OutputDir)
	}
	return filepath.Clean(o.WorkDir)
}

// exclusive says whether a file must be new when it is opened, because it cannot
// be appended to.
func (o *Options) exclusive() bool { return o.compression() != None || o.RotateInterval > 0 }

// A name is the path of files below their directory, with what differs from file
// to file still to be filled in.
type name struct {
	format   string // with <DATETIME> and <REV>
	datetime string
	suffix   string // of compressed files
	revised  bool   // <REV> is a number; else it is left out
}

var errNoRevision = errors.New("missing <REV> in --filename-format when gzip, rotation, or work dir enabled")

// newName returns the name of a topic's files.
func (o *Options) newName(topic string) (name, error) {
	n := name{
		datetime: o.DatetimeFormat,
		revised:  o.exclusive() || o.RotateSize > 0 || o.separate(),
		suffix:   o.compression().suffix(),
	}
	if n.revised && !strings.Contains(o.FilenameFormat, "<REV>") {
		return n, errNoRevision
	}
	hostname, err := os.Hostname()
	if err != nil {
		return n, fmt.Errorf("read host name: %w", err)
	}
	short, _, _ := strings.Cut(hostname, ".")
	host := short
	if o.HostIdentifier != "" {
		host = strings.NewReplacer("<SHORT_HOST>", short, "<HOSTNAME>", hostname).Replace(o.HostIdentifier)
	}
	n.format = strings.NewReplacer("<TOPIC>", topic, "<HOST>", host).Replace(o.FilenameFormat)
	if strings.HasSuffix(n.format, n.suffix) {
		n.suffix = ""
	}
	return n, nil
}

// at returns the name at a time, with <REV> left in.
func (n name) at(now time.Time) string {
	text := strings.ReplaceAll(n.format, "<PID>", fmt.Sprint(os.Getpid()))
	if !n.revised {
		text = strings.ReplaceAll(text, "<REV>", "")
	}
	return strings.ReplaceAll(text, "<DATETIME>", strftime(n.datetime, now)) + n.suffix
}

// revision fills in <REV>.
func revision(named string, rev int) string {
	return strings.ReplaceAll(named, "<REV>", fmt.Sprintf("-%06d", rev))
}

// pattern matches the names of all files of the topic and host, and captures their
// revisions.
func (n name) pattern() *regexp.Regexp {
	rev := `(-\d{6,})`
	if !n.revised {
		rev = ""
	}
	text := strings.NewReplacer(`<PID>`, `\d+`, `<REV>`, rev, `<DATETIME>`, `.*`).Replace(regexp.QuoteMeta(n.format + n.suffix))
	return regexp.MustCompile(`^` + text + `$`)
}

// unrevise turns the name of a file back into that with <REV>, and its revision. It
// is false for a name that pattern does not match.
func unrevise(pattern *regexp.Regexp, path string) (named string, rev int, ok bool) {
	at := pattern.FindStringSubmatchIndex(path)
	if at == nil {
		return "", 0, false
	}
	for i := len(at) - 2; i > 0; i -= 2 {
		// A number that does not fit is not a revision of ours; 0 is as good as any.
		rev, _ = strconv.Atoi(path[at[i]+1 : at[i+1]])
		path = path[:at[i]] + "<REV>" + path[at[i+1]:]
	}
	return path, rev, true
}
