package config

import (
	"flag"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	options "github.com/mreiferson/go-options"
)

// Load sets every tagged field of the struct that opts points to: to the value
// of its flag if that was given on the command line, else to the value in the
// TOML file at path, else to the default. fs is what NewFlagSet made for opts,
// parsed. An empty path means no file.
//
// Each warning is about one key of the file that no option has; its value is
// not used. The order is that of the keys.
//
// Errors, after which the struct is as before: "failed to load config file
// <path> - <reason>" if the file is missing or is not TOML; "failed parsing
// <key> <value> - <reason>" for options with a value type of their own; and
// "invalid value for <key> in config file <path>: ..." for those whose value
// has the wrong type or range. A value in the file must be right even when a
// flag overrides it.
func Load(opts any, fs *flag.FlagSet, path string) (warnings []string, err error) {
	list := fields(opts)
	values := map[string]any{}
	if path != "" {
		raw := map[string]any{}
		if _, err := toml.DecodeFile(path, &raw); err != nil {
			return nil, fmt.Errorf("failed to load config file %s - %w", path, err)
		}
		for _, f := range list {
			v, ok := raw[f.key]
			if !ok || f.key == "-" {
				continue
			}
			delete(raw, f.key)
			typed, err := fromTOML(f, v, path)
			if err != nil {
				return nil, err
			}
			values[f.key] = typed
		}
		warnings = unknownKeys(raw, list)
	}
	// Every value, from flag or file, now has exactly the type of its field:
	// go-options only has to choose. It would end the process on others.
	options.Resolve(opts, fs, values)
	return warnings, nil
}

// fromTOML converts a value of the file to the type of the field.
func fromTOML(f field, raw any, path string) (any, error) {
	v := reflect.New(f.value.Type()).Elem()
	v.Set(f.value)
	if own, ok := v.Addr().Interface().(flag.Value); ok {
		if err := setOwn(own, raw); err != nil {
			return nil, fmt.Errorf("failed parsing %s %v - %w", f.key, raw, err)
		}
		return v.Interface(), nil
	}
	if err := setTOML(v, raw); err != nil {
		return nil, fmt.Errorf("invalid value for %s in config file %s: %w", f.key, path, err)
	}
	return v.Interface(), nil
}

// setOwn gives a text, or a boolean to a boolean-like flag, to the flag.Value, and
// each element of a list to one whose Repeatable method says that it takes several.
func setOwn(own flag.Value, raw any) error {
	switch raw := raw.(type) {
	case string:
		return own.Set(raw)
	case bool:
		if isBoolFlag(own) {
			return own.Set(strconv.FormatBool(raw))
		}
		return fmt.Errorf("must be a string, not %s", describe(raw))
	case []any:
		if r, ok := own.(interface{ Repeatable() bool }); !ok || !r.Repeatable() {
			break
		}
		for _, element := range raw {
			if err := setOwn(own, element); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("must be a string, not %s", describe(raw))
}

// setTOML sets v, of a type that newValue supports, to a value of the file.
func setTOML(v reflect.Value, raw any) error {
	switch {
	case v.Type() == durationType:
		return setDuration(v, raw)
	case isList[string](v):
		return setStrings(v, raw)
	case isList[float64](v):
		return setFloats(v, raw)
	}
	var allowed string
	switch v.Kind() {
	case reflect.String:
		allowed = "a string"
		if s, ok := raw.(string); ok {
			v.SetString(s)
			return nil
		}
	case reflect.Bool:
		allowed = "true or false"
		switch raw := raw.(type) {
		case bool:
			v.SetBool(raw)
			return nil
		case string:
			if parseScalar(v, raw) == nil {
				return nil
			}
		}
	case reflect.Float32, reflect.Float64:
		allowed = "a number"
		if x, ok := floatOf(raw); ok {
			v.SetFloat(x)
			return nil
		}
		if s, ok := raw.(string); ok && parseScalar(v, s) == nil {
			return nil
		}
	default: // the integers
		allowed = rangeOf(v)
		text, ok := raw.(string)
		if n, isInt := raw.(int64); isInt {
			text, ok = strconv.FormatInt(n, 10), true
		}
		if ok && parseDecimal(v, text) == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is not %s", describe(raw), allowed)
}

// parseDecimal sets the integer v to the value of s, decimal digits only: in a
// file, 0x10 in quotes is more likely a mistake.
func parseDecimal(v reflect.Value, s string) error {
	if v.CanUint() {
		x, err := strconv.ParseUint(s, 10, v.Type().Bits())
		if err == nil {
			v.SetUint(x)
		}
		return err
	}
	x, err := strconv.ParseInt(s, 10, v.Type().Bits())
	if err == nil {
		v.SetInt(x)
	}
	return err
}

func setDuration(v reflect.Value, raw any) error {
	const allowed = `a duration: a string with a unit such as "250ms" or "1h30m", or a whole number of milliseconds`
	switch raw := raw.(type) {
	case string:
		d, err := time.ParseDuration(raw)
		if err != nil {
			return fmt.Errorf("%s is not %s", describe(raw), allowed)
		}
		v.SetInt(int64(d))
		return nil
	case int64:
		const limit = math.MaxInt64 / int64(time.Millisecond)
		if raw > limit || raw < -limit {
			return fmt.Errorf("%s milliseconds is out of range", describe(raw))
		}
		v.SetInt(raw * int64(time.Millisecond))
		return nil
	}
	return fmt.Errorf("%s is not %s", describe(raw), allowed)
}

func setStrings(v reflect.Value, raw any) error {
	const allowed = "a list of strings, or one string with commas between the elements"
	list := []string{}
	switch raw := raw.(type) {
	case string:
		if raw != "" {
			for part := range strings.SplitSeq(raw, ",") {
				list = append(list, strings.TrimSpace(part))
			}
		}
	case []any:
		for _, element := range raw {
			s, ok := element.(string)
			if !ok {
				return fmt.Errorf("element %s is not a string; the option is %s", describe(element), allowed)
			}
			list = append(list, s)
		}
	default:
		return fmt.Errorf("%s is not %s", describe(raw), allowed)
	}
	v.Set(reflect.ValueOf(list))
	return nil
}

// setFloats keeps the order of the file.
func setFloats(v reflect.Value, raw any) error {
	const allowed = "a list of numbers, or one string with commas between the numbers"
	list := []float64{}
	switch raw := raw.(type) {
	case string:
		parsed, err := parseFloats(raw)
		if err != nil {
			return fmt.Errorf("%s is not %s", describe(raw), allowed)
		}
		list = parsed
	case []any:
		for _, element := range raw {
			x, ok := floatOf(element)
			if !ok {
				return fmt.Errorf("element %s is not a number; the option is %s", describe(element), allowed)
			}
			list = append(list, x)
		}
	default:
		return fmt.Errorf("%s is not %s", describe(raw), allowed)
	}
	v.Set(reflect.ValueOf(list))
	return nil
}

func floatOf(raw any) (float64, bool) {
	switch raw := raw.(type) {
	case float64:
		return raw, !math.IsNaN(raw)
	case int64:
		return float64(raw), true
	}
	return 0, false
}

// rangeOf says which whole numbers fit into v.
func rangeOf(v reflect.Value) string {
	bits := v.Type().Bits()
	if v.CanUint() {
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-bits))
	}
	highest := int64(math.MaxInt64) >> (64 - bits)
	return fmt.Sprintf("a whole number from %d to %d", -highest-1, highest)
}

// describe shows a value of the file with its TOML type.
func describe(raw any) string {
	switch raw := raw.(type) {
	case string:
		return fmt.Sprintf("the string %q", raw)
	case bool:
		return fmt.Sprintf("the boolean %t", raw)
	case int64:
		return fmt.Sprintf("the integer %d", raw)
	case float64:
		return fmt.Sprintf("the float %v", raw)
	case []any:
		return fmt.Sprintf("the list %v", raw)
	case map[string]any, []map[string]any:
		return "a table"
	}
	return fmt.Sprintf("the value %v", raw)
}

// unknownKeys returns a warning for each key in raw, with the key that was
// probably meant if there is one.
func unknownKeys(raw map[string]any, list []field) []string {
	var keys []string
	for key := range raw {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var warnings []string
	for _, key := range keys {
		text := fmt.Sprintf("config file: unknown option %s is ignored", key)
		if meant := likelyKey(key, list); meant != "" {
			text += ", did you mean " + meant + "?"
		}
		warnings = append(warnings, text)
	}
	return warnings
}

// likelyKey returns the key that key is most like: that of the flag with this
// name, or else one within a third of its letters; "" if there is none.
func likelyKey(key string, list []field) string {
	plain := normalise(key)
	best, bestDistance := "", len(plain)/3+1
	for _, f := range list {
		if f.key == "-" {
			continue
		}
		if plain == normalise(f.flag) {
			return f.key
		}
		if d := distance(plain, normalise(f.key)); d < bestDistance {
			best, bestDistance = f.key, d
		}
	}
	return best
}

func normalise(key string) string {
	return strings.ReplaceAll(strings.ToLower(key), "-", "_")
}

// distance is the number of bytes to insert, delete or replace to get from a
// to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
