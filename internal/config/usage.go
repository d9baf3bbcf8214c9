package config

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// printUsage writes the flags to the output of fs under their headings, in the
// order of the fields; flags that the program added itself come first.
func printUsage(fs *flag.FlagSet, list []field) {
	w := fs.Output()
	fmt.Fprintf(w, "Usage of %s:\n", fs.Name())
	own := map[string]bool{}
	var order []string
	anyLive := false
	for _, f := range list {
		own[f.flag] = true
		anyLive = anyLive || f.live
		if !slices.Contains(order, f.group) {
			order = append(order, f.group)
		}
	}
	fs.VisitAll(func(f *flag.Flag) {
		if !own[f.Name] {
			printFlag(w, f, field{})
		}
	})
	for _, group := range order {
		if group != "" {
			fmt.Fprintf(w, "\n%s:\n", group)
		}
		for _, f := range list {
			if f.group == group {
				printFlag(w, fs.Lookup(f.flag), f)
			}
		}
	}
	if anyLive {
		fmt.Fprint(w, "\nOptions with a * can be changed without a restart: in the config file, followed by\nSIGHUP, or through PUT /config/<key> where the program has that.\n")
	}
}

// printFlag writes one flag; its field is zero for one of the program's own.
func printFlag(w io.Writer, f *flag.Flag, of field) {
	kind, usage := flag.UnquoteUsage(f)
	if of.kind != "" {
		kind = of.kind
	} else if fv, ok := f.Value.(*fieldValue); ok && kind == "value" {
		kind = kindOf(fv)
	}
	line := "  --" + f.Name
	if kind != "" && !isBoolFlag(f.Value) {
		line += " " + kind
	}
	if of.live {
		line += " *"
	}
	fmt.Fprintln(w, line)
	for _, line := range wrap(append(strings.Fields(usage), defaultText(f)...)) {
		fmt.Fprintf(w, "    \t%s\n", line)
	}
}

// usageWidth is the length of the longest line of a usage text. It stands behind a
// tab, on a terminal of 80 columns as a rule.
const usageWidth = 72

// wrap puts words into lines.
func wrap(words []string) []string {
	var lines []string
	line := ""
	for _, word := range words {
		if line != "" && len(line)+1+len(word) > usageWidth {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
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

// defaultText returns the remark on the default, which stays on one line, or nothing
// where it is empty.
func defaultText(f *flag.Flag) []string {
	switch f.DefValue {
	case "", "false", "0", "0s":
		return nil
	}
	text := f.DefValue
	if fv, ok := f.Value.(*fieldValue); ok && fv.own == nil {
		if _, ok := fv.Get().(string); ok {
			text = strconv.Quote(text)
		}
	}
	return []string{"(default " + text + ")"}
}
