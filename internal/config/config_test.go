package config_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
)

// required is a boolean-like value with a third word, such as --tls-required.
type required int

func (r *required) Set(s string) error {
	switch s {
	case "false":
		*r = 0
	case "tcp-https":
		*r = 1
	case "true":
		*r = 2
	default:
		return errors.New("must be true, false or tcp-https")
	}
	return nil
}
func (r *required) String() string   { return [...]string{"false", "tcp-https", "true"}[*r] }
func (r *required) IsBoolFlag() bool { return true }

// words is a value that is given several times.
type words string

func (w *words) Set(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	*w += words(s + ";")
	return nil
}
func (w *words) String() string   { return string(*w) }
func (w *words) Repeatable() bool { return true }

type Location struct {
	Region string `flag:"topology-region" group:"Location"`
}

type options struct {
	LogLevel    logging.Level `flag:"log-level" usage:"what to print" group:"Logging"`
	LogPrefix   string        `flag:"log-prefix" usage:"start of each line"`
	Verbose     bool          `flag:"verbose" cfg:"-" usage:"deprecated, no effect"`
	ID          int64         `flag:"node-id" cfg:"id" usage:"part of message ids" group:"Node"`
	Lookupd     []string      `flag:"lookupd-tcp-address" cfg:"nsqlookupd_tcp_addresses" usage:"address of an nsqlookupd, repeatable"`
	Timeout     time.Duration `flag:"msg-timeout" usage:"time to hold a message"`
	Workers     int           `flag:"workers"`
	Small       int32         `flag:"small"`
	Port        uint16        `flag:"port"`
	Ratio       float64       `flag:"ratio"`
	Percentiles []float64     `flag:"percentile" cfg:"percentiles"`
	Snappy      bool          `flag:"snappy"`
	TLSRequired required      `flag:"tls-required"`
	Words       words         `flag:"words"`
	Internal    string
	Location
}

func defaults() *options {
	return &options{LogLevel: logging.LevelInfo, LogPrefix: "[x] ", ID: 7, Lookupd: []string{"d:1"}, Timeout: time.Minute,
		Workers: 4, Small: 1, Port: 80, Ratio: 0.5, Percentiles: []float64{0.9}, Snappy: true, Internal: "kept"}
}

// load runs the whole way: defaults, flags, file.
func load(t *testing.T, toml string, args ...string) (*options, []string, error) {
	t.Helper()
	opts := defaults()
	fs := config.NewFlagSet("x", opts)
	fs.SetOutput(new(bytes.Buffer))
	if err := fs.Parse(args); err != nil {
		return opts, nil, err
	}
	path := ""
	if toml != "" {
		path = filepath.Join(t.TempDir(), "x.cfg")
		if err := os.WriteFile(path, []byte(toml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	warnings, err := config.Load(opts, fs, path)
	return opts, warnings, err
}

func TestPrecedence(t *testing.T) {
	const file = `
log_level = "debug"
log_prefix = ""
id = 9
nsqlookupd_tcp_addresses = ["a:1", "b:2"]
msg_timeout = "2s"
workers = 5
small = 6
port = 7
ratio = 1
percentiles = [0.5, 1.0, 0.9]
snappy = false
tls_required = "tcp-https"
topology_region = "eu"
`
	fromFile := &options{LogLevel: logging.LevelDebug, ID: 9, Lookupd: []string{"a:1", "b:2"}, Timeout: 2 * time.Second, Workers: 5,
		Small: 6, Port: 7, Ratio: 1, Percentiles: []float64{0.5, 1, 0.9}, TLSRequired: 1, Internal: "kept", Location: Location{"eu"}}
	flags := []string{"--log-level=WARN", "-log-prefix", "p", "--verbose", "--node-id=-1", "--lookupd-tcp-address=c:3", "--lookupd-tcp-address=e:4,f",
		"--msg-timeout=1h30m", "--workers=0x10", "--small=-2", "--port=65535", "--ratio=2.5", "--percentile=0.5,0.99", "--percentile=1",
		"--snappy=t", "--tls-required", "--topology-region=us"}
	fromFlags := &options{LogLevel: logging.LevelWarn, LogPrefix: "p", Verbose: true, ID: -1, Lookupd: []string{"c:3", "e:4,f"},
		Timeout: 90 * time.Minute, Workers: 16, Small: -2, Port: 65535, Ratio: 2.5, Percentiles: []float64{1, 0.99, 0.5},
		Snappy: true, TLSRequired: 2, Internal: "kept", Location: Location{"us"}}

	for _, tt := range []struct {
		name string
		toml string
		args []string
		want *options
	}{
		{"defaults", "", nil, defaults()},
		{"file", file, nil, fromFile},
		{"flags", "", flags, fromFlags},
		{"flags over file", file, flags, fromFlags},
		{"flag set to its default still wins", "id = 9", []string{"--node-id=7"}, defaults()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, warnings, err := load(t, tt.toml, tt.args...)
			if err != nil || len(warnings) != 0 {
				t.Fatalf("err %v, warnings %q", err, warnings)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParsingDoesNotTouchTheStruct(t *testing.T) {
	opts := defaults()
	fs := config.NewFlagSet("x", opts)
	if err := fs.Parse([]string{"--node-id=5", "--lookupd-tcp-address=z", "--log-level=debug"}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(opts, defaults()) {
		t.Errorf("parsing changed the struct: %+v", opts)
	}
}

func TestFileValues(t *testing.T) {
	for _, tt := range []struct {
		toml string
		get  func(*options) any
		want any
	}{
		{`msg_timeout = 1500`, func(o *options) any { return o.Timeout }, 1500 * time.Millisecond},
		{`msg_timeout = "0"`, func(o *options) any { return o.Timeout }, time.Duration(0)},
		{`msg_timeout = "-1s"`, func(o *options) any { return o.Timeout }, -time.Second},
		{`id = "12"`, func(o *options) any { return o.ID }, int64(12)},
		{`snappy = "0"`, func(o *options) any { return o.Snappy }, false},
		{`snappy = "true"`, func(o *options) any { return o.Snappy }, true},
		{`ratio = "0.25"`, func(o *options) any { return o.Ratio }, 0.25},
		{`nsqlookupd_tcp_addresses = "a:1,b:2"`, func(o *options) any { return o.Lookupd }, []string{"a:1", "b:2"}},
		{`nsqlookupd_tcp_addresses = "a:1, b:2"`, func(o *options) any { return o.Lookupd }, []string{"a:1", "b:2"}},
		{`nsqlookupd_tcp_addresses = ""`, func(o *options) any { return o.Lookupd }, []string{}},
		{`nsqlookupd_tcp_addresses = []`, func(o *options) any { return o.Lookupd }, []string{}},
		{`percentiles = "1.0,0.5"`, func(o *options) any { return o.Percentiles }, []float64{1, 0.5}},
		{`percentiles = [1]`, func(o *options) any { return o.Percentiles }, []float64{1}},
		{`percentiles = ""`, func(o *options) any { return o.Percentiles }, []float64{}},
		{`tls_required = true`, func(o *options) any { return o.TLSRequired }, required(2)},
		{`tls_required = false`, func(o *options) any { return o.TLSRequired }, required(0)},
		{`words = "a"`, func(o *options) any { return o.Words }, words("a;")},
		{`words = ["a", "b,c"]`, func(o *options) any { return o.Words }, words("a;b,c;")},
		{`log_level = "WARN"`, func(o *options) any { return o.LogLevel }, logging.LevelWarn},
	} {
		t.Run(tt.toml, func(t *testing.T) {
			opts, warnings, err := load(t, tt.toml)
			if err != nil || len(warnings) != 0 {
				t.Fatalf("err %v, warnings %q", err, warnings)
			}
			if got := tt.get(opts); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestIllTypedFileValues(t *testing.T) {
	for _, tt := range []struct{ toml, want string }{
		{`log_level = "warning"`, `failed parsing log_level warning - `},
		{`log_level = 3`, `failed parsing log_level 3 - must be a string, not the integer 3`},
		{`log_level = true`, `failed parsing log_level true - must be a string`},
		{`tls_required = ""`, `failed parsing tls_required  - must be true, false or tcp-https`},
		{`tls_required = 1`, `failed parsing tls_required 1 - `},
		{`tls_required = ["true"]`, `failed parsing tls_required [true] - must be a string, not the list [true]`},
		{`words = ["a", ""]`, `failed parsing words [a ] - must not be empty`},
		{`words = ["a", 1]`, `failed parsing words [a 1] - must be a string, not the integer 1`},
		{`log_prefix = 5`, `log_prefix in config file PATH: the integer 5 is not a string`},
		{`snappy = 0`, `snappy in config file PATH: the integer 0 is not true or false`},
		{`snappy = "yes"`, `the string "yes" is not true or false`},
		{`msg_timeout = "5"`, `msg_timeout in config file PATH: the string "5" is not a duration: a string with a unit`},
		{`msg_timeout = 1.5`, `the float 1.5 is not a duration`},
		{`msg_timeout = 9223372036855`, `out of range`},
		{`msg_timeout = -9223372036855`, `out of range`},
		{`id = 1.0`, `the float 1 is not a whole number from -9223372036854775808 to 9223372036854775807`},
		{`id = "0x10"`, `the string "0x10" is not a whole number`},
		{`id = ""`, `the string "" is not a whole number`},
		{`id = [1]`, `the list [1] is not a whole number`},
		{`small = 2147483648`, `the integer 2147483648 is not a whole number from -2147483648 to 2147483647`},
		{`port = -1`, `the integer -1 is not a whole number from 0 to 65535`},
		{`port = 65536`, `is not a whole number from 0 to 65535`},
		{`ratio = "x"`, `the string "x" is not a number`},
		{`ratio = nan`, `the float NaN is not a number`},
		{`nsqlookupd_tcp_addresses = ["a", 5]`, `element the integer 5 is not a string`},
		{`nsqlookupd_tcp_addresses = 5`, `the integer 5 is not a list of strings, or one string with commas`},
		{`percentiles = ["0.5"]`, `element the string "0.5" is not a number`},
		{`percentiles = "0.5,x"`, `the string "0.5,x" is not a list of numbers`},
		{`percentiles = 1979-05-27`, `is not a list of numbers`},
		{"[id]\nx = 1", `a table is not a whole number`},
		{"id = 1\nid = 2", `failed to load config file PATH - `},
		{"id", `failed to load config file PATH - `},
	} {
		t.Run(tt.toml, func(t *testing.T) {
			opts := defaults()
			fs := config.NewFlagSet("x", opts)
			path := filepath.Join(t.TempDir(), "x.cfg")
			if err := os.WriteFile(path, []byte(tt.toml), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := config.Load(opts, fs, path)
			if err == nil {
				t.Fatal("no error")
			}
			if want := strings.ReplaceAll(tt.want, "PATH", path); !strings.Contains(err.Error(), want) {
				t.Errorf("error %q\nlacks %q", err, want)
			}
			if !reflect.DeepEqual(opts, defaults()) {
				t.Errorf("a failed Load changed the struct: %+v", opts)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	opts := defaults()
	path := filepath.Join(t.TempDir(), "none.cfg")
	_, err := config.Load(opts, config.NewFlagSet("x", opts), path)
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "failed to load config file "+path+" - ") {
		t.Errorf("err = %v", err)
	}
}

func TestUnknownKeys(t *testing.T) {
	opts, warnings, err := load(t, `
msg-timeout = "5s"
lookupd_tcp_address = "a"
mgs_timeout = "5s"
verbose = true
"-" = 1
something_else_entirely = 1
[table]
id = 3
`)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(opts, defaults()) {
		t.Errorf("unknown keys changed the struct: %+v", opts)
	}
	want := []string{
		"config file: unknown option - is ignored",
		"config file: unknown option lookupd_tcp_address is ignored, did you mean nsqlookupd_tcp_addresses?",
		"config file: unknown option mgs_timeout is ignored, did you mean msg_timeout?",
		"config file: unknown option msg-timeout is ignored, did you mean msg_timeout?",
		"config file: unknown option something_else_entirely is ignored",
		"config file: unknown option table is ignored",
		"config file: unknown option verbose is ignored",
	}
	if !reflect.DeepEqual(warnings, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(warnings, "\n"), strings.Join(want, "\n"))
	}
}

func TestFlagErrors(t *testing.T) {
	for _, tt := range []struct{ arg, want string }{
		{"--nope", "flag provided but not defined: -nope"},
		{"--msg-timeout=5", `invalid value "5" for flag -msg-timeout: parse error`},
		{"--node-id=x", `invalid value "x" for flag -node-id: parse error`},
		{"--small=3000000000", `invalid value "3000000000" for flag -small: value out of range`},
		{"--port=-1", `invalid value "-1" for flag -port: parse error`},
		{"--snappy=maybe", `invalid boolean value "maybe" for -snappy: parse error`},
		{"--percentile=0.5,abc", `invalid value "0.5,abc" for flag -percentile: parse error`},
		{"--percentile=nan", `invalid value "nan" for flag -percentile: parse error`},
		{"--log-level=warning", `invalid value "warning" for flag -log-level: `},
		{"--tls-required=maybe", `invalid boolean value "maybe" for -tls-required: must be true, false or tcp-https`},
		{"--internal=x", "flag provided but not defined: -internal"},
	} {
		t.Run(tt.arg, func(t *testing.T) {
			fs := config.NewFlagSet("x", defaults())
			var out bytes.Buffer
			fs.SetOutput(&out)
			err := fs.Parse([]string{tt.arg})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("err = %v, want %s", err, tt.want)
			}
			if !strings.HasPrefix(out.String(), err.Error()+"\nUsage of x:\n") {
				t.Errorf("output %q", out.String())
			}
		})
	}
}

func TestBooleanLikeFlagsTakeNoWord(t *testing.T) {
	opts, _, err := load(t, "", "--tls-required", "tcp-https", "--node-id=5")
	if err != nil || opts.TLSRequired != 2 || opts.ID != 7 {
		t.Errorf("err %v, tls-required %v, id %d", err, opts.TLSRequired, opts.ID)
	}
}

func TestUsage(t *testing.T) {
	fs := config.NewFlagSet("x", defaults())
	fs.String("config", "", "path to a TOML file")
	var out bytes.Buffer
	fs.SetOutput(&out)
	if err := fs.Parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("err = %v", err)
	}
	text := out.String()
	var last int
	for _, want := range []string{
		"Usage of x:\n",
		"  --config string\n    \tpath to a TOML file\n",
		"\nLogging:\n",
		"  --log-level value\n    \twhat to print (default INFO)\n",
		"  --log-prefix string\n    \tstart of each line (default \"[x] \")\n",
		"  --verbose\n    \tdeprecated, no effect\n",
		"\nNode:\n",
		"  --node-id int\n    \tpart of message ids (default 7)\n",
		"  --lookupd-tcp-address string\n    \taddress of an nsqlookupd, repeatable (default d:1)\n",
		"  --msg-timeout duration\n    \ttime to hold a message (default 1m0s)\n",
		"  --percentile float\n    \t(default 0.9)\n",
		"\nLocation:\n",
		"  --topology-region string\n",
	} {
		at := strings.Index(text, want)
		if at < last {
			t.Fatalf("usage lacks %q in its place:\n%s", want, text)
		}
		last = at
	}
}

func TestLookup(t *testing.T) {
	opts := defaults()
	for key, want := range map[string]any{
		"id": int64(7), "msg_timeout": time.Minute, "log_level": logging.LevelInfo, "nsqlookupd_tcp_addresses": []string{"d:1"},
		"tls_required": required(0), "words": words(""), "topology_region": "",
	} {
		if got, ok := config.Lookup(opts, key); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("Lookup(%s) = %v, %v; want %v", key, got, ok, want)
		}
	}
	for _, key := range []string{"", "-", "node_id", "node-id", "verbose", "Internal", "internal", "lookupd_tcp_address"} {
		if got, ok := config.Lookup(opts, key); ok {
			t.Errorf("Lookup(%q) = %v, want nothing", key, got)
		}
	}
}

func TestKeys(t *testing.T) {
	want := []string{"log_level", "log_prefix", "id", "nsqlookupd_tcp_addresses", "msg_timeout", "workers", "small", "port", "ratio",
		"percentiles", "snappy", "tls_required", "words", "topology_region"}
	if got := config.Keys(defaults()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestMistakesInTheProgram(t *testing.T) {
	for name, opts := range map[string]any{
		"not a pointer": options{},
		"unsupported type": &struct {
			M map[string]int `flag:"m"`
		}{},
		"unexported": &struct {
			m int `flag:"m"`
		}{},
		"list of ints": &struct {
			L []int `flag:"l"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			config.NewFlagSet("x", opts)
		})
	}
}

func FuzzFile(f *testing.F) {
	f.Add("msg_timeout = 5\nid = \"x\"")
	f.Add("[a]\nb = [1, 'x', 1979-05-27, {c = 1}]")
	f.Add("percentiles = [inf, nan, -0.0]")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "x.cfg")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		opts := defaults()
		if _, err := config.Load(opts, config.NewFlagSet("x", opts), path); err != nil && !reflect.DeepEqual(opts, defaults()) {
			t.Errorf("failed Load changed the struct: %v", err)
		}
	})
}
