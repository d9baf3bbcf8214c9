package nsqd

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
)

// The flags that operators know, with their keys in the TOML file where those are
// others, and their defaults. Source: HTTP and operations spec, section 9.2.
func TestFlags(t *testing.T) {
	opts := NewOptions()
	fs := config.NewFlagSet("nsqd", opts)
	for _, c := range []struct{ flag, key, def string }{
		{"log-level", "", "INFO"},
		{"log-prefix", "", "[nsqd] "},
		{"verbose", "-", "false"},
		{"node-id", "id", fmt.Sprint(opts.ID)},
		{"worker-id", "-", "false"},
		{"tcp-address", "", "0.0.0.0:4150"},
		{"http-address", "", "0.0.0.0:4151"},
		{"https-address", "", "0.0.0.0:4152"},
		{"broadcast-address", "", opts.BroadcastAddress},
		{"broadcast-tcp-port", "", "0"},
		{"broadcast-http-port", "", "0"},
		{"lookupd-tcp-address", "nsqlookupd_tcp_addresses", ""},
		{"auth-http-address", "auth_http_addresses", ""},
		{"auth-http-request-method", "", "get"},
		{"http-client-connect-timeout", "", "2s"},
		{"http-client-request-timeout", "", "5s"},
		{"topology-region", "", ""},
		{"topology-zone", "", ""},
		{"data-path", "", ""},
		{"mem-queue-size", "", "10000"},
		{"max-bytes-per-file", "", "104857600"},
		{"sync-every", "", "2500"},
		{"sync-timeout", "", "2s"},
		{"queue-scan-worker-pool-max", "", "4"},
		{"queue-scan-selection-count", "", "20"},
		{"msg-timeout", "", "1m0s"},
		{"max-msg-timeout", "", "15m0s"},
		{"max-msg-size", "", "1048576"},
		{"max-req-timeout", "", "1h0m0s"},
		{"max-body-size", "", "5242880"},
		{"max-heartbeat-interval", "", "1m0s"},
		{"max-rdy-count", "", "2500"},
		{"max-output-buffer-size", "", "65536"},
		{"max-output-buffer-timeout", "", "30s"},
		{"min-output-buffer-timeout", "", "25ms"},
		{"output-buffer-timeout", "", "250ms"},
		{"max-channel-consumers", "", "0"},
		{"statsd-address", "", ""},
		{"statsd-prefix", "", "nsq.%s"},
		{"statsd-interval", "", "1m0s"},
		{"statsd-mem-stats", "", "true"},
		{"statsd-udp-packet-size", "", "508"},
		{"statsd-exclude-ephemeral", "", "false"},
		{"e2e-processing-latency-percentile", "e2e_processing_latency_percentiles", ""},
		{"e2e-processing-latency-window-time", "", "10m0s"},
		{"tls-cert", "", ""},
		{"tls-key", "", ""},
		{"tls-client-auth-policy", "", ""},
		{"tls-root-ca-file", "", ""},
		{"tls-required", "", "false"},
		{"tls-min-version", "", "tls1.0"},
		{"deflate", "", "true"},
		{"max-deflate-level", "", "6"},
		{"snappy", "", "true"},
		{"enable-experiment", "", ""},
	} {
		f := fs.Lookup(c.flag)
		if f == nil {
			t.Errorf("no flag --%s", c.flag)
			continue
		}
		if f.DefValue != c.def {
			t.Errorf("--%s has the default %q, want %q", c.flag, f.DefValue, c.def)
		}
		key := c.key
		if key == "" {
			key = strings.ReplaceAll(c.flag, "-", "_")
		}
		if _, ok := config.Lookup(opts, key); ok != (key != "-") {
			t.Errorf("--%s has the key %q: %t", c.flag, key, ok)
		}
	}
}

// The ID of a node is made from its name as everywhere else.
func TestDefaultID(t *testing.T) {
	if got := defaultID("vm"); got != 617 {
		t.Errorf("got %d, want 617", got)
	}
}

// Values out of range stop the start with an error that names the option, the value
// and what is allowed.
func TestOptionRanges(t *testing.T) {
	inRange := map[string][2]int64{ // the ends, both allowed
		"MemQueueSize":        {0, math.MaxInt32},
		"MaxBytesPerFile":     {1, math.MaxInt64},
		"SyncEvery":           {1, math.MaxInt64},
		"MaxMsgSize":          {1, math.MaxInt32 - 64},
		"MaxBodySize":         {1, math.MaxInt32},
		"MaxRdyCount":         {0, math.MaxInt32},
		"MaxOutputBufferSize": {64, math.MaxInt32},
		"MaxConnections":      {0, math.MaxInt32},
		"MaxHTTPConnections":  {0, math.MaxInt32},
		"MaxChannelConsumers": {0, math.MaxInt32},
		"BroadcastTCPPort":    {0, math.MaxUint16},
		"BroadcastHTTPPort":   {0, math.MaxUint16},
		"ID":                  {0, 1023},
		"MaxDeflateLevel":     {1, 9},
		"ShutdownTimeout":     {0, math.MaxInt64},
		"DrainGrace":          {0, math.MaxInt64},
		"DrainTimeout":        {0, math.MaxInt64},
		"MetricsMaxTopics":    {0, math.MaxInt32},
		"StatsdUDPPacketSize": {math.MinInt32, 65507},
		"MaxReqTimeout":       {1, int64(maxDelay)},
	}
	for _, duration := range []string{"SyncTimeout", "MagicTimeout", "MsgTimeout", "MaxMsgTimeout", "MaxHeartbeatInterval", "MaxOutputBufferTimeout",
		"MinOutputBufferTimeout", "OutputBufferTimeout", "HTTPClientConnectTimeout", "HTTPClientRequestTimeout"} {
		inRange[duration] = [2]int64{1, math.MaxInt64}
	}
	check := func(field string, value int64) error {
		opts := NewOptions()
		v := reflect.ValueOf(opts).Elem().FieldByName(field)
		v.SetInt(value)
		return opts.check()
	}
	for field, ends := range inRange {
		for _, value := range ends {
			if err := check(field, value); err != nil {
				t.Errorf("%s = %d: %v", field, value, err)
			}
		}
		f, _ := reflect.TypeFor[Options]().FieldByName(field)
		for _, value := range []int64{math.MinInt64, ends[0] - 1, ends[1] + 1} { // the last may have wrapped around
			err := check(field, value)
			if err == nil || !strings.Contains(err.Error(), "--"+f.Tag.Get("flag")+" ") || !strings.Contains(err.Error(), "must ") {
				t.Errorf("%s = %d: got %v", field, value, err)
			}
		}
	}
	// No number is without its range, but those without effect, and those that
	// TestStatisticsOptions looks at.
	free := []string{"LogLevel", "LogFormat", "HTTPAccessLog", "QueueScanWorkerPoolMax", "QueueScanSelectionCount", "TLSRequired",
		"E2EProcessingLatencyWindowTime", "StatsdInterval"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Options]()) {
		_, hasFlag := f.Tag.Lookup("flag")
		if _, known := inRange[f.Name]; hasFlag && f.Type.Kind() >= reflect.Int && f.Type.Kind() <= reflect.Int64 && !known && !slices.Contains(free, f.Name) {
			t.Errorf("%s may be anything", f.Name)
		}
	}
}

func TestOtherBadOptions(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.TCPAddress = "" }, `^--tcp-address is empty, must be <addr>:<port> or a path$`},
		{func(o *Options) { o.NSQLookupdTCPAddresses = []string{"a:1", "b"} }, `^--lookupd-tcp-address is "b", must be <addr>:<port>$`},
		{func(o *Options) { o.SIGTERM = "die" }, `^--sigterm is "die", must be stop or drain$`},
		{func(o *Options) { o.AuthHTTPRequestMethod = "put" }, `^--auth-http-request-method must be post or get$`},
		{func(o *Options) { o.AdminClientCerts = []string{"*"} }, `^--http-admin-client-cert needs --tls-root-ca-file$`},
		{func(o *Options) { o.AdminTokenFile = "/none" }, `^--http-admin-token-file: open /none: no such file`},
		{func(o *Options) { o.TLSRequired = TLSRequired }, `^cannot require TLS client connections without TLS key and cert$`},
	} {
		opts := NewOptions()
		opts.DataPath = t.TempDir()
		c.change(opts)
		if _, err := New(opts); err == nil || !regexp.MustCompile(c.want).MatchString(err.Error()) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// What is allowed and probably a mistake.
func TestDoubts(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string // "" for nothing
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { o.TLSClientAuthPolicy = "require-verify" }, ""},
		{func(o *Options) { o.TLSClientAuthPolicy = "require_verify" }, `--tls-client-auth-policy is "require_verify", neither require nor require-verify`},
		{func(o *Options) { o.Experiments = []string{TopologyAwareConsumption} }, ""},
		{func(o *Options) { o.Experiments = []string{TopologyAwareConsumption, "perpetual-motion"} }, `unknown experiment "perpetual-motion" has no effect`},
		{func(o *Options) { o.MsgTimeout = o.MaxMsgTimeout + 1 }, `--msg-timeout (15m0.000000001s) is above --max-msg-timeout (15m0s)`},
		{func(o *Options) { o.MinOutputBufferTimeout = o.MaxOutputBufferTimeout + 1 }, `--min-output-buffer-timeout (30.000000001s) is above`},
		{func(o *Options) { o.MaxMsgSize = o.MaxBodySize + 1 }, `--max-msg-size (5242881) is above --max-body-size (5242880)`},
		{func(o *Options) { o.HTTPAddress = "" }, ""},
		{func(o *Options) { o.HTTPAddress, o.NSQLookupdTCPAddresses = "", []string{"a:1"} }, `HTTP has no port and --broadcast-http-port is not given`},
		{func(o *Options) {
			o.HTTPAddress, o.NSQLookupdTCPAddresses, o.BroadcastHTTPPort = "", []string{"a:1"}, 80
		}, ""},
		{func(o *Options) { o.TCPAddress, o.NSQLookupdTCPAddresses = "/run/nsqd", []string{"a:1"} }, `--tcp-address is a Unix socket and --broadcast-tcp-port is not given`},
	} {
		opts := NewOptions()
		c.change(opts)
		doubts := opts.Doubts()
		if c.want == "" && len(doubts) > 0 || c.want != "" && (len(doubts) != 1 || !strings.Contains(doubts[0], c.want)) {
			t.Errorf("got %q, want %q", doubts, c.want)
		}
	}
}
