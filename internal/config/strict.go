package config

import (
	"flag"
	"fmt"
	"strings"
)

// StrictUsage is the text of --help for the flag --strict-config; see Strict.
const StrictUsage = "do not start if something in the options is doubtful, as an unknown key in the file"

// Strict is what --strict-config makes of warnings: an error if there are any.
func Strict(warnings []string) error {
	if len(warnings) == 0 {
		return nil
	}
	return fmt.Errorf("--strict-config: %s", strings.Join(warnings, "; "))
}

// StrayArguments returns a warning of arguments behind the flags, for programs that
// take none; they may be flags that a stray word has hidden.
func StrayArguments(fs *flag.FlagSet) []string {
	if fs.NArg() == 0 {
		return nil
	}
	return []string{"arguments from here on are ignored: " + strings.Join(fs.Args(), " ")}
}
