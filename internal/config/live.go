package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// ErrNoOption is returned by Set for a key that no option has, and ErrNotLive for
// an option that cannot be changed while the program runs.
var (
	ErrNoOption = errors.New("no such option")
	ErrNotLive  = errors.New("takes effect at the next start only")
)

// Set changes a live option of the struct that opts points to: to the value that
// text has in the body of PUT /config/<key>, which may be what GET answers.
//
//	string            the text itself
//	number, boolean   as in the TOML file
//	time.Duration     a number with unit, as 90s, or a whole number of nanoseconds
//	list              a JSON array, or null
//	other             what the type reads, as the flag does
//
// On error (besides those above, what is wrong with text) the struct is unchanged.
// Lists are replaced, not written to: other copies of the struct do not change.
func Set(opts any, key, text string) error {
	f, ok := byKey(opts, key)
	if !ok {
		return fmt.Errorf("%s: %w", key, ErrNoOption)
	}
	if !f.live {
		return fmt.Errorf("%s: %w", key, ErrNotLive)
	}
	v := reflect.New(f.value.Type()).Elem()
	v.Set(f.value)
	if err := setText(v, text); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	f.value.Set(v)
	return nil
}

// setText sets v, of a type that newValue supports; see Set.
func setText(v reflect.Value, text string) error {
	if own, ok := v.Addr().Interface().(flag.Value); ok {
		return own.Set(text)
	}
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if nanos, e := strconv.ParseInt(text, 10, 64); e == nil {
			d, err = time.Duration(nanos), nil
		}
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 90s, or a whole number of nanoseconds", text)
		}
		v.SetInt(int64(d))
		return nil
	case isList[string](v):
		return setList[string](v, text, "strings")
	case isList[float64](v):
		return setList[float64](v, text, "numbers")
	}
	var allowed string
	switch v.Kind() {
	case reflect.String, reflect.Bool:
		allowed = "true or false"
	case reflect.Float32, reflect.Float64:
		allowed = "a number"
		if x, err := strconv.ParseFloat(text, 64); err == nil && math.IsNaN(x) {
			return fmt.Errorf("%q is not %s", text, allowed)
		}
	default: // the integers
		if parseDecimal(v, text) != nil {
			return fmt.Errorf("%q is not %s", text, rangeOf(v))
		}
		return nil
	}
	if parseScalar(v, text) != nil {
		return fmt.Errorf("%q is not %s", text, allowed)
	}
	return nil
}

// setList sets v to the JSON array in text; null makes it nil. An element that is
// null is none of T.
func setList[T any](v reflect.Value, text, elements string) error {
	var pointers []*T
	if err := json.Unmarshal([]byte(text), &pointers); err != nil {
		return fmt.Errorf("not a JSON array of %s, nor null: %w", elements, err)
	}
	if pointers == nil {
		v.SetZero()
		return nil
	}
	list := make([]T, len(pointers))
	for i, p := range pointers {
		if p == nil {
			return fmt.Errorf("not a JSON array of %s: element %d is null", elements, i)
		}
		list[i] = *p
	}
	v.Set(reflect.ValueOf(list))
	return nil
}

// Changed returns the keys of the options in which two structs of one type differ,
// apart by whether they are live.
func Changed(before, after any) (live, fixed []string) {
	old := fields(before)
	for i, f := range fields(after) {
		if reflect.DeepEqual(old[i].value.Interface(), f.value.Interface()) {
			continue
		}
		if f.live {
			live = append(live, f.key)
		} else {
			fixed = append(fixed, f.key)
		}
	}
	return live, fixed
}

// TakeLive copies the live options of the struct that from points to into that of
// opts. Lists are shared.
func TakeLive(opts, from any) {
	source := fields(from)
	for i, f := range fields(opts) {
		if f.live {
			f.value.Set(source[i].value)
		}
	}
}
