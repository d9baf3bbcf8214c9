package programtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/program"
)

// commentedOut is an option in an example file.
var commentedOut = regexp.MustCompile(`(?m)^#(([a-z0-9_]+) = .*)$`)

// CheckExample checks an example of a config file: it loads without a warning as it
// is; it has each option once, commented out; and with all of them it still says
// what the defaults are, but for those that depend on the host.
func CheckExample[O any](t *testing.T, p program.Program[O], path string, dependOnHost ...string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range commentedOut.FindAllStringSubmatch(string(content), -1) {
		keys = append(keys, m[2])
	}
	want := config.Keys(p.Defaults())
	slices.Sort(keys)
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		t.Errorf("%s has the options\n%s\nwant\n%s", path, strings.Join(keys, " "), strings.Join(want, " "))
	}
	for _, text := range []string{string(content), commentedOut.ReplaceAllString(string(content), "$1")} {
		opts := p.Defaults()
		warnings, err := config.Load(opts, config.NewFlagSet(p.Name, opts), ConfigFile(t, text))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, warnings %q", path, err, warnings)
		}
		live, fixed := config.Changed(p.Defaults(), opts)
		for _, key := range append(live, fixed...) {
			if !slices.Contains(dependOnHost, key) {
				value, _ := config.Lookup(opts, key)
				t.Errorf("%s has %s = %v, which is not the default", path, key, value)
			}
		}
		if p.Doubts != nil && len(p.Doubts(opts)) > 0 {
			t.Errorf("%s is doubtful: %q", path, p.Doubts(opts))
		}
	}
}
