package config

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NewFlagSet returns a FlagSet for the program with one flag per tagged field
// of the struct that opts points to, and nothing else; the values the fields
// hold now are the defaults. It does not exit on errors: Parse prints the
// reason and the usage and returns the error, [flag.ErrHelp] for --help.
//
// A []string flag is repeated, once per element. A []float64 flag is repeated,
// comma separated, or both, and is sorted in descending order.
//
// It panics if a field has a type that is not supported.
func NewFlagSet(program string, opts any) *flag.FlagSet {
	fs := flag.NewFlagSet(program, flag.ContinueOnError)
	list := fields(opts)
	for _, f := range list {
		fs.Var(newValue(f.value), f.flag, f.usage)
	}
	fs.Usage = func() { printUsage(fs, list) }
	return fs
}

// fieldValue is the flag.Value of one field. It holds the value apart from the
// struct, in the type of the field.
type fieldValue struct {
	v   reflect.Value      // addressable
	set func(string) error // nil: v's pointer is a flag.Value of its own
	own flag.Value         // that flag.Value
}

var durationType = reflect.TypeFor[time.Duration]()

func newValue(def reflect.Value) *fieldValue {
	v := reflect.New(def.Type()).Elem()
	v.Set(def)
	fv := &fieldValue{v: v}
	if own, ok := v.Addr().Interface().(flag.Value); ok {
		fv.own = own
		return fv
	}
	switch {
	case v.Type() == durationType:
		fv.set = func(s string) error {
			d, err := time.ParseDuration(s)
			if err != nil {
				return errParse
			}
			v.SetInt(int64(d))
			return nil
		}
	case isList[string](v):
		fv.set = replaceDefault(v, func(s string) error {
			v.Set(reflect.Append(v, reflect.ValueOf(s).Convert(v.Type().Elem())))
			return nil
		})
	case isList[float64](v):
		fv.set = replaceDefault(v, func(s string) error {
			list, err := parseFloats(s)
			if err != nil {
				return err
			}
			list = append(v.Interface().([]float64), list...)
			slices.SortFunc(list, func(a, b float64) int { return cmp.Compare(b, a) })
			v.Set(reflect.ValueOf(list))
			return nil
		})
	default:
		if err := parseScalar(reflect.New(v.Type()).Elem(), "0"); errors.Is(err, errType) {
			panic(fmt.Sprintf("config: options of type %s are not supported", v.Type()))
		}
		fv.set = func(s string) error { return parseScalar(v, s) }
	}
	return fv
}

// isList reports whether v is a []T itself, not a named type.
func isList[T any](v reflect.Value) bool { return v.Type() == reflect.TypeFor[[]T]() }

// replaceDefault wraps set, which appends to the list v, so that the first
// call drops the default.
func replaceDefault(v reflect.Value, set func(string) error) func(string) error {
	given := false
	return func(s string) error {
		if !given {
			v.SetZero()
			given = true
		}
		return set(s)
	}
}

// The reasons in `invalid value "x" for flag -y: <reason>`, in the words of
// package flag.
var (
	errParse = errors.New("parse error")
	errRange = errors.New("value out of range")
	errType  = errors.New("type not supported") // from parseScalar only
)

// parseScalar sets v, a string, bool or number, to the value of s. On error
// (errParse, errRange, or errType for another kind of v) v is unchanged.
func parseScalar(v reflect.Value, s string) error {
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		var x bool
		if x, err = strconv.ParseBool(s); err == nil {
			v.SetBool(x)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var x int64
		if x, err = strconv.ParseInt(s, 0, v.Type().Bits()); err == nil {
			v.SetInt(x)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var x uint64
		if x, err = strconv.ParseUint(s, 0, v.Type().Bits()); err == nil {
			v.SetUint(x)
		}
	case reflect.Float32, reflect.Float64:
		var x float64
		if x, err = strconv.ParseFloat(s, v.Type().Bits()); err == nil {
			v.SetFloat(x)
		}
	default:
		return errType
	}
	if errors.Is(err, strconv.ErrRange) {
		return errRange
	}
	if err != nil {
		return errParse
	}
	return nil
}

// parseFloats reads numbers separated by commas. An empty text is no number.
func parseFloats(s string) ([]float64, error) {
	list := []float64{}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" && s == "" {
			break
		}
		x, err := strconv.ParseFloat(part, 64)
		if err != nil || math.IsNaN(x) {
			return nil, errParse
		}
		list = append(list, x)
	}
	return list, nil
}

// Set reads one value given on the command line.
func (fv *fieldValue) Set(s string) error {
	if fv.own != nil {
		return fv.own.Set(s)
	}
	return fv.set(s)
}

// Get returns the value in the type of the field; it makes fieldValue a
// [flag.Getter], through which go-options takes the value as it is.
func (fv *fieldValue) Get() any { return fv.v.Interface() }

// String is called by package flag on the zero fieldValue too.
func (fv *fieldValue) String() string {
	if fv == nil || !fv.v.IsValid() {
		return ""
	}
	if fv.own != nil {
		return fv.own.String()
	}
	switch v := fv.v.Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case []float64:
		return joinFloats(v)
	default:
		return fmt.Sprint(v)
	}
}

func joinFloats(list []float64) string {
	var b []byte
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, x, 'g', -1, 64)
	}
	return string(b)
}

// IsBoolFlag reports whether the flag may stand without a value: package flag
// then never takes the next word for it.
func (fv *fieldValue) IsBoolFlag() bool {
	if fv.own != nil {
		return isBoolFlag(fv.own)
	}
	return fv.v.Kind() == reflect.Bool
}

func isBoolFlag(v any) bool {
	b, ok := v.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
