// Package config resolves command line, TOML file and defaults into the
// Options struct of a program, by the tags on its fields.
//
//	type Options struct {
//		// MsgTimeout is ...
//		MsgTimeout time.Duration `flag:"msg-timeout" usage:"..." group:"Messages"`
//	}
//
// Tags:
//
//	flag   name of the flag; a field without it takes no part
//	cfg    key in the TOML file and in /config/:opt; the default is the flag
//	       name with _ for each -; "-" means that only the flag exists
//	usage  text for --help
//	value  name of the value there, by default its type
//	group  heading for --help; fields without it take that of the field before
//	live   "yes" if the option can be changed while the program runs
//
// Field types: string, bool, every int, uint and float type, time.Duration,
// []string, []float64, and any type whose pointer is a [flag.Value]; one whose
// Repeatable method says so may be a list in the file. Tagged fields of embedded
// exported structs count as fields of the struct. The defaults are the values that
// the struct holds when [NewFlagSet] is called.
//
// A program does
//
//	opts := NewOptions()
//	fs := config.NewFlagSet("nsqd", opts)
//	path := fs.String("config", "", "path to a TOML file")
//	if err := fs.Parse(os.Args[1:]); err != nil { ... }
//	warnings, err := config.Load(opts, fs, *path)
//
// Parsing touches only the FlagSet; Load fills the struct.
// Source of the rules: HTTP and operations spec, sections 9 and 10.
package config

import (
	"fmt"
	"reflect"
	"strings"
)

// A field is one tagged field of an Options struct.
type field struct {
	flag  string
	key   string // "-": not in the TOML file
	usage string
	kind  string // name of the value in --help
	group string
	live  bool
	value reflect.Value // addressable, of the struct itself
}

// fields lists the tagged fields of the struct that opts points to, in order.
// It panics if opts is something else or has a tagged field that cannot be
// set: that is a mistake in the program, not in its input.
func fields(opts any) []field {
	v := reflect.ValueOf(opts)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: options must be a pointer to a struct, not %T", opts))
	}
	v = v.Elem()
	var list []field
	group := ""
	for _, sf := range reflect.VisibleFields(v.Type()) {
		name, ok := sf.Tag.Lookup("flag")
		if !ok {
			continue
		}
		if g, ok := sf.Tag.Lookup("group"); ok {
			group = g
		}
		key := sf.Tag.Get("cfg")
		if key == "" {
			key = strings.ReplaceAll(name, "-", "_")
		}
		f := field{flag: name, key: key, usage: sf.Tag.Get("usage"), kind: sf.Tag.Get("value"), group: group, live: sf.Tag.Get("live") == "yes", value: v.FieldByIndex(sf.Index)}
		if !f.value.CanSet() {
			panic(fmt.Sprintf("config: field %s of %T has a flag tag and is not exported", sf.Name, opts))
		}
		list = append(list, f)
	}
	return list
}

// byKey returns the field with the given key in the TOML file, and false if there
// is none. Options that cannot be set in the file have no key.
func byKey(opts any, key string) (f field, ok bool) {
	for _, f := range fields(opts) {
		if f.key == key && key != "-" {
			return f, true
		}
	}
	return field{}, false
}

// Keys returns the keys of the options that can be set in the TOML file, in the
// order of the fields.
func Keys(opts any) []string {
	var keys []string
	for _, f := range fields(opts) {
		if f.key != "-" {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Lookup returns the present value of the option that has the given key in the
// TOML file, and false if there is none.
func Lookup(opts any, key string) (value any, ok bool) {
	f, ok := byKey(opts, key)
	if !ok {
		return nil, false
	}
	return f.value.Interface(), true
}
