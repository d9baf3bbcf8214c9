package nsq

import (
	"crypto/tls"
	"fmt"
	"math/rand"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestConfigSet(t *testing.T) {
	c := NewConfig()
	if err := c.Set("not a real config value", struct{}{}); err == nil {
		t.Error("no error when setting an invalid value")
	}
	if err := c.Set("tls_v1", "lol"); err == nil {
		t.Error("no error when setting `tls_v1` to an invalid value")
	}
	if err := c.Set("tls_v1", true); err != nil {
		t.Errorf("setting `tls_v1`: %s", err)
	}
	if err := c.Set("tls-insecure-skip-verify", true); err != nil {
		t.Errorf("setting `tls-insecure-skip-verify`: %s", err)
	}
	if c.TlsConfig.InsecureSkipVerify != true {
		t.Error("setting `tls-insecure-skip-verify` has no effect")
	}
	if err := c.Set("tls-min-version", "tls1.2"); err != nil {
		t.Errorf("setting `tls-min-version`: %s", err)
	}
	if err := c.Set("tls-min-version", "tls1.3"); err == nil {
		t.Error("no error when setting `tls-min-version` to an invalid value")
	}
	want := &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 27015}
	for _, value := range []interface{}{want, "1.2.3.4:27015"} {
		if err := c.Set("local_addr", value); err != nil {
			t.Errorf("setting `local_addr`: %s", err)
		}
		if c.LocalAddr.String() != want.String() {
			t.Errorf("`local_addr` is %s", c.LocalAddr)
		}
	}
	if err := c.Set("dial_timeout", "5s"); err != nil || c.DialTimeout != 5*time.Second {
		t.Errorf("`dial_timeout` is %s, %v", c.DialTimeout, err)
	}
}

// TestConfigOptions compares every option with the list in the specification:
// name, default, minimum, maximum.
func TestConfigOptions(t *testing.T) {
	want := []string{
		"DialTimeout dial_timeout 1s - -",
		"ReadTimeout read_timeout 1m0s 100ms 5m0s",
		"WriteTimeout write_timeout 1s 100ms 5m0s",
		"LocalAddr local_addr <nil> - -",
		"LookupdPollInterval lookupd_poll_interval 1m0s 10ms 5m0s",
		"LookupdPollJitter lookupd_poll_jitter 0.3 0 1",
		"LookupdPollTimeout lookupd_poll_timeout 1m0s - -",
		"MaxRequeueDelay max_requeue_delay 15m0s 0s 1h0m0s",
		"DefaultRequeueDelay default_requeue_delay 1m30s 0s 1h0m0s",
		"BackoffStrategy backoff_strategy *nsq.ExponentialStrategy - -",
		"MaxBackoffDuration max_backoff_duration 2m0s 0s 1h0m0s",
		"BackoffMultiplier backoff_multiplier 1s 0s 1h0m0s",
		"MaxAttempts max_attempts 5 0 65535",
		"LowRdyIdleTimeout low_rdy_idle_timeout 10s 1s 5m0s",
		"LowRdyTimeout low_rdy_timeout 30s 1s 5m0s",
		"RDYRedistributeInterval rdy_redistribute_interval 5s 1ms 5s",
		"ClientID client_id host - -",
		"Hostname hostname host - -",
		"UserAgent user_agent go-nsq/1.1.0 - -",
		"TopologyRegion topology_region  - -",
		"TopologyZone topology_zone  - -",
		"HeartbeatInterval heartbeat_interval 30s - -",
		"SampleRate sample_rate 0 0 99",
		"TlsV1 tls_v1 false - -",
		"TlsConfig tls_config <nil> - -",
		"Deflate deflate false - -",
		"DeflateLevel deflate_level 6 1 9",
		"Snappy snappy false - -",
		"OutputBufferSize output_buffer_size 16384 - -",
		"OutputBufferTimeout output_buffer_timeout 250ms - -",
		"MaxInFlight max_in_flight 1 0 -",
		"MsgTimeout msg_timeout 0s 0s -",
		"MaxMsgSize max_msg_size 0 0 -",
		"AuthSecret auth_secret  - -",
		"LookupdAuthorization skip_lookupd_authorization true - -",
		// From here on our own.
		"TlsRequired tls_required false - -",
		"AutoTouch auto_touch false - -",
		"RecoverPanics recover_panics false - -",
		"BackoffOnFailedFinish backoff_on_failed_finish false - -",
		"DisconnectUnlisted disconnect_unlisted false - -",
	}
	c := NewConfig()
	c.ClientID, c.Hostname = "host", "host"
	var got []string
	for field := range options() {
		value := fmt.Sprint(reflect.ValueOf(c).Elem().FieldByIndex(field.Index).Interface())
		switch field.Name {
		case "BackoffStrategy":
			value = fmt.Sprintf("%T", c.BackoffStrategy)
		case "TlsConfig":
			value = "<nil>"
		}
		limits := [2]string{"-", "-"}
		for i, tag := range []string{"min", "max"} {
			if limit, ok := limitOf(field, tag); ok {
				limits[i] = fmt.Sprint(limit.Interface())
			}
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %s", field.Name, field.Tag.Get("opt"), value, limits[0], limits[1]))
	}
	for i := range max(len(want), len(got)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("option %d: got  %q\nwant %q", i, got[i:], want[i:])
		}
	}
}

// TestConfigLimits tries the limits of every option and one step beyond.
func TestConfigLimits(t *testing.T) {
	for field := range options() {
		option := field.Tag.Get("opt")
		for _, tag := range []string{"min", "max"} {
			limit, ok := limitOf(field, tag)
			if !ok {
				continue
			}
			c := NewConfig()
			if err := c.Set(option, limit.Interface()); err != nil && field.Type.Kind() != reflect.Uint16 {
				t.Errorf("%s at its %s: %s", option, tag, err)
			}
			beyond, step := reflect.New(field.Type).Elem(), int64(1)
			if tag == "min" {
				step = -1
			}
			switch {
			case limit.CanInt():
				beyond.SetInt(limit.Int() + step)
			case limit.CanFloat():
				beyond.SetFloat(limit.Float() + float64(step))
			default:
				continue // the limits of a uint16 are those of its type
			}
			before := reflect.ValueOf(*c).FieldByIndex(field.Index).Interface()
			sign := map[string]string{"min": "<", "max": ">"}[tag]
			want := fmt.Sprintf("invalid %s ! %v %s %v", option, beyond, sign, limit)
			if err := c.Set(option, beyond.Interface()); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if after := reflect.ValueOf(*c).FieldByIndex(field.Index).Interface(); after != before {
				t.Errorf("%s changed to %v", option, after)
			}
			reflect.ValueOf(c).Elem().FieldByIndex(field.Index).Set(beyond)
			want = fmt.Sprintf("invalid %s ! %v %s %v", field.Name, beyond, sign, limit)
			if err := c.Validate(); err == nil || err.Error() != want {
				t.Errorf("Validate: got %v, want %s", err, want)
			}
		}
	}
}

func TestConfigCoercion(t *testing.T) {
	for _, test := range []struct {
		option string
		value  interface{}
		want   string // the value, or the error after "error: "
	}{
		{"client_id", 5, "5"},
		{"client_id", 1.5, "1.500000"},
		{"client_id", true, "%!s(bool=true)"},
		{"max-in-flight", "12", "12"},
		{"max_in_flight", uint32(12), "12"},
		{"max_in_flight", int8(1), "error: failed to coerce option max_in_flight (1) - invalid value type"},
		{"max_in_flight", 1.0, "error: failed to coerce option max_in_flight (1) - invalid value type"},
		{"max_msg_size", 5000000000, "error: failed to coerce option max_msg_size (5000000000) - value out of range of int32"},
		{"max_attempts", -1, "error: failed to coerce option max_attempts (-1) - value is negative"},
		{"max_attempts", 70000, "error: failed to coerce option max_attempts (70000) - value out of range of uint16"},
		{"max_attempts", "7", "7"},
		{"lookupd_poll_jitter", "0.5", "0.5"},
		{"lookupd_poll_jitter", 1, "1"},
		{"tls_v1", 1, "true"},
		{"tls_v1", "yes", `error: failed to coerce option tls_v1 (yes) - strconv.ParseBool: parsing "yes": invalid syntax`},
		{"tls_v1", 1.0, "error: failed to coerce option tls_v1 (1) - invalid value type"},
		{"dial_timeout", 1500, "1.5s"},
		{"dial_timeout", time.Minute, "1m0s"},
		{"dial_timeout", "500", `error: failed to coerce option dial_timeout (500) - time: missing unit in duration "500"`},
		{"read_timeout", "50ms", "error: invalid read_timeout ! 50ms < 100ms"},
		{"local_addr", 5, "error: failed to coerce option local_addr (5) - invalid value type"},
		{"backoff_strategy", "none", `error: failed to coerce option backoff_strategy (none) - unknown backoff strategy "none"`},
		{"backoff_strategy", 5, "error: failed to coerce option backoff_strategy (5) - invalid value type"},
		{"tls_config", "x", "error: failed to coerce option tls_config (x) - invalid value type"},
		{"tls_cert", 5, "error: ERROR: 5 is not a string"},
		{"tls_min_version", "tls1.3", "error: ERROR: tls1.3 is not a tls version"},
		{"a-b", 5, "error: invalid option a_b"},
		{"", 5, "error: invalid option "},
		{"initialized", false, "error: invalid option initialized"},
	} {
		c := NewConfig()
		got := ""
		if err := c.Set(test.option, test.value); err != nil {
			got = "error: " + err.Error()
		} else {
			for field := range options() {
				if field.Tag.Get("opt") == strings.ReplaceAll(test.option, "-", "_") {
					got = fmt.Sprint(reflect.ValueOf(c).Elem().FieldByIndex(field.Index).Interface())
				}
			}
		}
		if got != test.want {
			t.Errorf("%s = %v: got %q, want %q", test.option, test.value, got, test.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	c := NewConfig()
	if err := c.Validate(); err != nil {
		t.Error("initialized config is invalid")
	}
	c.DeflateLevel = 100
	if err := c.Validate(); err == nil {
		t.Error("no error set for invalid value")
	}
	c = NewConfig()
	c.HeartbeatInterval = c.ReadTimeout
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.HeartbeatInterval++
	want := "HeartbeatInterval 1m0.000000001s must be less than ReadTimeout 1m0s"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestConfigLiteral(t *testing.T) {
	const want = "Config{} must be created with NewConfig()"
	mustPanic(t, want, func() { _ = (&Config{}).Set("tls_v1", true) })
	mustPanic(t, want, func() { _ = (&Config{}).Validate() })
	mustPanic(t, want, func() { _, _ = NewConsumer("t", "c", &Config{}) })
	mustPanic(t, want, func() { _, _ = NewProducer("a:1", &Config{}) })
	mustPanic(t, "Config must be created with NewConfig()", func() { NewConn("a:1", &Config{}, nil) })
}

func TestExponentialBackoff(t *testing.T) {
	want := []time.Duration{time.Second, 2 * time.Second, 8 * time.Second, 32 * time.Second}
	testBackoff(t, func(*Config) BackoffStrategy { return nil }, want)
}

func TestFullJitterBackoff(t *testing.T) {
	want := []time.Duration{724039541, 1603903257, 5232470547, 21467499218}
	testBackoff(t, func(c *Config) BackoffStrategy {
		return &FullJitterStrategy{cfg: c, rng: rand.New(rand.NewSource(99))}
	}, want)
}

// testBackoff checks the pauses at levels 0, 1, 3 and 5.
func testBackoff(t *testing.T, strategy func(*Config) BackoffStrategy, want []time.Duration) {
	c := NewConfig()
	s := strategy(c)
	if s == nil {
		s = c.BackoffStrategy
	}
	for i, attempt := range []int{0, 1, 3, 5} {
		if got := s.Calculate(attempt); got != want[i] {
			t.Errorf("attempt %d: got %d, want %d", attempt, got, want[i])
		}
	}
	if got := s.Calculate(1000); got < 0 {
		t.Errorf("attempt 1000: %s", got)
	}
}

// TestBackoffStrategyIsCopied: a consumer has strategies of its own.
func TestBackoffStrategyIsCopied(t *testing.T) {
	for _, strategy := range []BackoffStrategy{&ExponentialStrategy{}, &FullJitterStrategy{}} {
		c := NewConfig()
		c.BackoffStrategy = strategy
		r := newTestConsumer(t, "t", c)
		c.BackoffMultiplier = time.Hour
		if got := r.config.BackoffStrategy.Calculate(1); got > 2*time.Second {
			t.Errorf("%T: %s", strategy, got)
		}
	}
}

func TestConfigStrategyNames(t *testing.T) {
	c := NewConfig()
	for name, want := range map[string]string{
		"": "*nsq.ExponentialStrategy", "exponential": "*nsq.ExponentialStrategy", "full_jitter": "*nsq.FullJitterStrategy",
	} {
		if err := c.Set("backoff_strategy", name); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprintf("%T", c.BackoffStrategy); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestConfigTLSFiles(t *testing.T) {
	certs := newTestCerts(t)
	c := NewConfig()
	for _, option := range []struct{ name, file string }{
		{"tls_cert", certs.certFile}, {"tls_key", certs.keyFile}, {"tls_root_ca_file", certs.caFile},
	} {
		if err := c.Set(option.name, option.file); err != nil {
			t.Error(err)
		}
	}
	if len(c.TlsConfig.Certificates) != 1 || !c.TlsConfig.RootCAs.Equal(certs.pool) {
		t.Errorf("got %+v", c.TlsConfig)
	}
	if c.TlsV1 || c.TlsConfig.MinVersion != tls.VersionTLS10 || c.TlsConfig.MaxVersion != 0 {
		t.Errorf("TLS %t from %x to %x", c.TlsV1, c.TlsConfig.MinVersion, c.TlsConfig.MaxVersion)
	}
	c = NewConfig()
	if err := c.Set("tls_key", "./test/client.key"); err != nil {
		t.Error(err)
	}
	if err := c.Set("tls_cert", "./test/client.pem"); err == nil {
		t.Error("files that do not exist were loaded")
	}
	if err := c.Set("tls_root_ca_file", certs.keyFile); err == nil ||
		err.Error() != "ERROR: failed to append certificates from Certificate Authority file" {
		t.Error(err)
	}
}
