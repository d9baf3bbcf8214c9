// Package nsqtohttp makes an HTTP request of each message of a channel. Source:
// tools spec, section 6.
package nsqtohttp

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/tool"
)

// Options are the options of nsq_to_http.
type Options struct {
	Topic       string `flag:"topic" group:"Messages" usage:"topic; required"`
	Channel     string `flag:"channel" group:"Messages" usage:"channel"`
	MaxInFlight int    `flag:"max-in-flight" group:"Messages" usage:"messages to receive before the first of them is answered"`
	Handlers    int    `flag:"n" group:"Messages" usage:"number of requests at the same time; with 1 they follow the order in which messages come"`

	// Sample is the share of messages to make requests of, the others being
	// finished without. [0, 1].
	Sample float64 `flag:"sample" group:"Messages" usage:"share of messages to make requests of, 0.0 to 1.0"`

	Post        []string `flag:"post" group:"Requests" usage:"URL to POST each message to, as the body (may be given several times)"`
	Get         []string `flag:"get" group:"Requests" usage:"URL to GET for each message, with %s for the message (may be given several times)"`
	Mode        string   `flag:"mode" group:"Requests" usage:"how to choose among several URLs: hostpool (in turn, without those that fail), round-robin, epsilon-greedy (the fastest); anything else sends each message to all"`
	ContentType string   `flag:"content-type" group:"Requests" usage:"Content-Type of POST requests"`
	Headers     []string `flag:"header" cfg:"headers" group:"Requests" usage:"header, as 'Name: value' (may be given several times)"`

	tool.HTTPLimits
	tool.TLSOptions

	tool.Source
	StatusEvery int `flag:"status-every" group:"Messages to the operator" usage:"requests from one line of statistics to the next; 0 for none"`
	tool.LogOptions
	tool.ProgressOptions
}

// defaultContentType is what --content-type is unless given.
const defaultContentType = "application/octet-stream"

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Channel:         "nsq_to_http",
		MaxInFlight:     200,
		Handlers:        100,
		Sample:          1,
		Mode:            "hostpool",
		ContentType:     defaultContentType,
		HTTPLimits:      tool.HTTPLimits{ConnectTimeout: 2 * time.Second, RequestTimeout: 20 * time.Second},
		StatusEvery:     250,
		LogOptions:      tool.LogOptions{LogLevel: logging.LevelInfo},
		ProgressOptions: tool.ProgressOptions{Progress: tool.Auto},
	}
}

// Check returns the first thing that is wrong. The client library checks names.
func (o *Options) Check() error {
	if _, err := parseHeaders(o.Headers); err != nil {
		return err
	}
	if o.Topic == "" || o.Channel == "" {
		return errors.New("--topic and --channel are required")
	}
	if o.ContentType != defaultContentType {
		if len(o.Post) == 0 {
			return errors.New("--content-type only used with --post")
		}
		if o.ContentType == "" {
			return errors.New("--content-type requires a value when used")
		}
	}
	if err := o.Source.Check(); err != nil {
		return err
	}
	switch {
	case len(o.Get) == 0 && len(o.Post) == 0:
		return errors.New("--get or --post required")
	case len(o.Get) > 0 && len(o.Post) > 0:
		return errors.New("use --get or --post not both")
	}
	for _, text := range o.Get {
		if _, ok := parseTemplate(text); !ok {
			return errors.New("invalid GET address - must be a printf string")
		}
	}
	if !(o.Sample >= 0 && o.Sample <= 1) {
		return errors.New("ERROR: --sample must be between 0.0 and 1.0")
	}
	// 0 is no limit here, though not for the other tools: programs have come to
	// expect both.
	switch {
	case o.ConnectTimeout < 0:
		return errors.New("--http-client-connect-timeout should not be negative")
	case o.RequestTimeout < 0:
		return errors.New("--http-client-request-timeout should not be negative")
	}
	return nil
}

var errHeader = errors.New("--header value format should be 'key: value'")

// parseHeaders reads headers, each "Name: value" with both parts not empty. Of those
// with the same name the last one counts.
func parseHeaders(list []string) (http.Header, error) {
	headers := http.Header{}
	for _, text := range list {
		name, value, _ := strings.Cut(text, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if name == "" || value == "" {
			return nil, errHeader
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// A template is a URL with a place for the message.
type template struct{ before, after string }

// parseTemplate reads a GET URL: one %s is where the message goes, %% is a percent
// sign, and so is any other %, as in %20. It is false unless there is exactly one %s.
func parseTemplate(text string) (t template, ok bool) {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "%%"):
			b.WriteByte('%')
			i++
		case strings.HasPrefix(text[i:], "%s"):
			parts = append(parts, b.String())
			b.Reset()
			i++
		default:
			b.WriteByte(text[i])
		}
	}
	if len(parts) != 1 {
		return template{}, false
	}
	return template{parts[0], b.String()}, true
}

// with returns the URL for a message that has been escaped.
func (t template) with(message string) string { return t.before + message + t.after }
