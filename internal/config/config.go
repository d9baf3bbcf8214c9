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
//	usage  text for --help; a word in back quotes names the value
//	group  heading for --help; fields without it take that of the field before
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
	group string
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
		f := field{flag: name, key: key, usage: sf.Tag.Get("usage"), group: group, value: v.FieldByIndex(sf.Index)}
		if !f.value.CanSet() {
			panic(fmt.Sprintf("config: field %s of %T has a flag tag and is not exported", sf.Name, opts))
		}
		list = append(list, f)
	}
	return list
}

// Lookup returns the present value of the option that has the given key in the
// TOML file, and false if there is none. Options that cannot be set in the
// file have no key.
func Lookup(opts any, key string) (value any, ok bool) {
	if key == "-" {
		return nil, false
	}
	for _, f := range fields(opts) {
		if f.key == key {
			return f.value.Interface(), true
		}
	}
	return nil, false
}
