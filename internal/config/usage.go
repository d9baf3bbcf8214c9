package config

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// printUsage writes the flags to the output of fs under their headings, in the
// order of the fields; flags that the program added itself come first.
func printUsage(fs *flag.FlagSet, list []field) {
	w := fs.Output()
	fmt.Fprintf(w, "Usage of %s:\n", fs.Name())
	byFlag := map[string]field{}
	order := []string{""}
	anyLive := false
	for _, f := range list {
		byFlag[f.flag] = f
		anyLive = anyLive || f.live
		if !slices.Contains(order, f.group) {
			order = append(order, f.group)
		}
	}
	for i, group := range order {
		if group != "" {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s:\n", group)
		}
		fs.VisitAll(func(f *flag.Flag) {
			if byFlag[f.Name].group == group {
				printFlag(w, f, byFlag[f.Name].live)
			}
		})
	}
	if anyLive {
		fmt.Fprint(w, "\nOptions with a * can be changed without a restart: in the config file, followed by\nSIGHUP, or through PUT /config/<key> where the program has that.\n")
	}
}

func printFlag(w io.Writer, f *flag.Flag, live bool) {
	kind, usage := flag.UnquoteUsage(f)
	if fv, ok := f.Value.(*fieldValue); ok && kind == "value" {
		kind = kindOf(fv)
	}
	line := "  --" + f.Name
	if kind != "" && !isBoolFlag(f.Value) {
		line += " " + kind
	}
	if live {
		line += " *"
	}
	usage = strings.ReplaceAll(usage, "\n", "\n    \t")
	fmt.Fprintf(w, "%s\n    \t%s%s\n", line, usage, defaultText(f))
}

// kindOf names the value of a flag whose usage text has no name for it.
func kindOf(fv *fieldValue) string {
	switch {
	case fv.own != nil:
		return "value"
	case fv.v.Type() == durationType:
		return "duration"
	case isList[string](fv.v):
		return "string"
	case isList[float64](fv.v):
		return "float"
	}
	kind := fv.v.Kind().String()
	return strings.TrimRight(kind, "0123456789") // int64 is int to an operator
}

// defaultText returns the remark on the default, nothing where it is empty.
func defaultText(f *flag.Flag) string {
	switch f.DefValue {
	case "", "false", "0", "0s":
		return ""
	}
	if fv, ok := f.Value.(*fieldValue); ok && fv.own == nil {
		if _, text := fv.Get().(string); text {
			return fmt.Sprintf(" (default %q)", f.DefValue)
		}
	}
	return fmt.Sprintf(" (default %s)", f.DefValue)
}
