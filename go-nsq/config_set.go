package nsq

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"math"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// errInvalidValueType says that a value is of no type an option can be made
// from; Set wraps it.
var errInvalidValueType = errors.New("invalid value type")

// Types of Config fields that are not told apart by their kind.
var (
	typeDuration        = reflect.TypeFor[time.Duration]()
	typeNetAddr         = reflect.TypeFor[net.Addr]()
	typeBackoffStrategy = reflect.TypeFor[BackoffStrategy]()
	typeTLSConfig       = reflect.TypeFor[*tls.Config]()
)

// options walks the fields of Config that are options, in their order.
func options() iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for field := range reflect.TypeFor[Config]().Fields() {
			if field.Tag.Get("opt") != "" && !yield(field) {
				return
			}
		}
	}
}

// Set sets an option by name, dashes and underscores being the same. The value
// is of the field's type or anything that can be made into it:
//
//   - string: a string, an integer, a float
//   - integers: an integer, or a string in base 10
//   - float64: a float, an integer, a string
//   - bool: a bool, an integer (0 is false), a string for strconv.ParseBool
//   - time.Duration: a Duration, an integer in milliseconds, a string with unit
//   - net.Addr: a net.Addr, a string "host:port"
//   - BackoffStrategy: a BackoffStrategy, "exponential" or "full_jitter"
//   - *tls.Config: a *tls.Config
//
// Besides the fields there are options that fill TlsConfig, of which none
// turns TLS on: tls_cert, tls_key and tls_root_ca_file (paths of PEM files),
// tls_insecure_skip_verify, and tls_min_version (ssl3.0, tls1.0, tls1.1 or
// tls1.2).
//
// Set fails for an unknown option, a value that cannot be converted, and one
// out of range; the option then keeps its value. It panics for a Config that
// is not from NewConfig.
func (c *Config) Set(option string, value interface{}) error {
	c.mustBeInitialized()
	option = strings.ReplaceAll(option, "-", "_")
	for field := range options() {
		if field.Tag.Get("opt") == option {
			return c.setField(field, option, value)
		}
	}
	if set, ok := tlsOptions[option]; ok {
		return set(c, value)
	}
	return fmt.Errorf("invalid option %s", option)
}

func (c *Config) setField(field reflect.StructField, option string, value interface{}) error {
	coerced, err := c.coerce(field.Type, value)
	if err != nil {
		return fmt.Errorf("failed to coerce option %s (%v) - %w", option, value, err)
	}
	if err := checkLimits(field, option, coerced); err != nil {
		return err
	}
	reflect.ValueOf(c).Elem().FieldByIndex(field.Index).Set(coerced)
	return nil
}

// checkLimits compares v with the min and max tags of field; name is what the
// error calls the field.
func checkLimits(field reflect.StructField, name string, v reflect.Value) error {
	if limit, ok := limitOf(field, "min"); ok && compare(v, limit) < 0 {
		return fmt.Errorf("invalid %s ! %v < %v", name, v.Interface(), limit.Interface())
	}
	if limit, ok := limitOf(field, "max"); ok && compare(v, limit) > 0 {
		return fmt.Errorf("invalid %s ! %v > %v", name, v.Interface(), limit.Interface())
	}
	return nil
}

func limitOf(field reflect.StructField, tag string) (reflect.Value, bool) {
	text := field.Tag.Get(tag)
	if text == "" {
		return reflect.Value{}, false
	}
	limit, err := (*Config)(nil).coerce(field.Type, text)
	if err != nil {
		panic(fmt.Sprintf("tag %s of Config.%s: %s", tag, field.Name, err))
	}
	return limit, true
}

// compare orders two values of the same numeric type.
func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	default:
		return cmp.Compare(a.Float(), b.Float())
	}
}

// coerce makes value into a value of type t. c is what a built-in strategy is
// bound to.
func (c *Config) coerce(t reflect.Type, value interface{}) (reflect.Value, error) {
	switch t {
	case typeDuration:
		return valueOf(coerceDuration(value))
	case typeNetAddr:
		addr, err := coerceAddr(value)
		return reflect.ValueOf(&addr).Elem(), err
	case typeBackoffStrategy:
		strategy, err := c.coerceBackoffStrategy(value)
		return reflect.ValueOf(&strategy).Elem(), err
	case typeTLSConfig:
		if config, ok := value.(*tls.Config); ok {
			return reflect.ValueOf(config), nil
		}
		return reflect.Value{}, errInvalidValueType
	}
	switch t.Kind() {
	case reflect.String:
		return reflect.ValueOf(coerceString(value)), nil
	case reflect.Bool:
		return valueOf(coerceBool(value))
	case reflect.Float64:
		return valueOf(coerceFloat64(value))
	case reflect.Uint16:
		u, err := coerceUint64(value)
		return narrow(t, u, err, u <= math.MaxUint16)
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := coerceInt64(value)
		return narrow(t, i, err, !reflect.Zero(t).OverflowInt(i))
	}
	return reflect.Value{}, fmt.Errorf("invalid type %s", t)
}

func valueOf[T any](v T, err error) (reflect.Value, error) {
	return reflect.ValueOf(v), err
}

// narrow converts v to t unless it does not fit or could not be made at all.
func narrow[T int64 | uint64](t reflect.Type, v T, err error, fits bool) (reflect.Value, error) {
	if err == nil && !fits {
		err = fmt.Errorf("value out of range of %s", t)
	}
	if err != nil {
		return reflect.Value{}, err
	}
	return reflect.ValueOf(v).Convert(t), nil
}

func coerceString(v interface{}) string {
	switch v := v.(type) {
	case string:
		return v
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprintf("%d", v)
	case float32, float64:
		return fmt.Sprintf("%f", v)
	}
	return fmt.Sprintf("%s", v)
}

func coerceDuration(v interface{}) (time.Duration, error) {
	switch v := v.(type) {
	case string:
		return time.ParseDuration(v)
	case time.Duration:
		return v, nil
	}
	ms, err := coerceInteger(v)
	if err != nil {
		return 0, err
	}
	if ms > math.MaxInt64/int64(time.Millisecond) || ms < math.MinInt64/int64(time.Millisecond) {
		return 0, errors.New("value out of range of time.Duration")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func coerceAddr(v interface{}) (net.Addr, error) {
	switch v := v.(type) {
	case string:
		addr, err := net.ResolveTCPAddr("tcp", v)
		if err != nil {
			return nil, err
		}
		return addr, nil
	case net.Addr:
		return v, nil
	}
	return nil, errInvalidValueType
}

func (c *Config) coerceBackoffStrategy(v interface{}) (BackoffStrategy, error) {
	switch v := v.(type) {
	case string:
		switch v {
		case "", "exponential":
			return &ExponentialStrategy{cfg: c}, nil
		case "full_jitter":
			return &FullJitterStrategy{cfg: c}, nil
		}
		return nil, fmt.Errorf("unknown backoff strategy %q", v)
	case BackoffStrategy:
		return boundTo(v, c), nil
	}
	return nil, errInvalidValueType
}

func coerceBool(v interface{}) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		return strconv.ParseBool(v)
	}
	i, err := coerceInteger(v)
	return i != 0, err
}

func coerceFloat64(v interface{}) (float64, error) {
	switch v := v.(type) {
	case string:
		return strconv.ParseFloat(v, 64)
	case float32:
		return float64(v), nil
	case float64:
		return v, nil
	case uint64:
		return float64(v), nil
	}
	i, err := coerceInteger(v)
	return float64(i), err
}

func coerceInt64(v interface{}) (int64, error) {
	if s, ok := v.(string); ok {
		return strconv.ParseInt(s, 10, 64)
	}
	return coerceInteger(v)
}

func coerceUint64(v interface{}) (uint64, error) {
	switch v := v.(type) {
	case string:
		return strconv.ParseUint(v, 10, 64)
	case uint64:
		return v, nil
	}
	i, err := coerceInteger(v)
	if err == nil && i < 0 {
		err = errors.New("value is negative")
	}
	return uint64(i), err
}

// coerceInteger takes the integer types that options accept.
func coerceInteger(v interface{}) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case int64:
		return v, nil
	case uint16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case uint:
		return coerceInteger(uint64(v))
	case uint64:
		if v > math.MaxInt64 {
			return 0, errors.New("value out of range of int64")
		}
		return int64(v), nil
	}
	return 0, errInvalidValueType
}
