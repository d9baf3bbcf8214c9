package config_test

import (
	"bytes"
	"errors"
	"flag"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/config"
	"github.com/nsq-suite/nsq/internal/logging"
)

type liveOptions struct {
	LogLevel logging.Level `flag:"log-level" live:"yes"`
	Name     string        `flag:"name" live:"yes"`
	Timeout  time.Duration `flag:"timeout" live:"yes"`
	Lookupd  []string      `flag:"lookupd" cfg:"lookupds" live:"yes"`
	Ratios   []float64     `flag:"ratio" cfg:"ratios" live:"yes"`
	Ratio    float64       `flag:"one-ratio" live:"yes"`
	Size     int64         `flag:"size" live:"yes"`
	Small    uint8         `flag:"small" live:"yes"`
	Snappy   bool          `flag:"snappy" live:"yes"`
	Fixed    int           `flag:"fixed"`
	Verbose  bool          `flag:"verbose" cfg:"-" live:"yes"`
}

func liveDefaults() *liveOptions {
	return &liveOptions{LogLevel: logging.LevelInfo, Name: "n", Timeout: time.Second, Lookupd: []string{"a:1"}, Ratios: []float64{1},
		Ratio: 0.5, Size: 5, Small: 3, Snappy: true, Fixed: 1}
}

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		key, text string
		want      any
	}{
		{"log_level", "ERROR", logging.LevelError},
		{"name", " any text\n", " any text\n"},
		{"name", "", ""},
		{"timeout", "90s", 90 * time.Second},
		{"timeout", "60000000000", time.Minute},
		{"timeout", "-5", time.Duration(-5)},
		{"lookupds", `["b:1","c:2"]`, []string{"b:1", "c:2"}},
		{"lookupds", ` [ ] `, []string{}},
		{"lookupds", `null`, []string(nil)},
		{"ratios", `[0.5,1]`, []float64{0.5, 1}},
		{"one_ratio", "0.25", 0.25},
		{"size", "-7", int64(-7)},
		{"small", "255", uint8(255)},
		{"snappy", "false", false},
	} {
		t.Run(tt.key+" "+tt.text, func(t *testing.T) {
			opts := liveDefaults()
			if err := config.Set(opts, tt.key, tt.text); err != nil {
				t.Fatal(err)
			}
			if got, _ := config.Lookup(opts, tt.key); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %#v, want %#v", got, tt.want)
			}
		})
	}
}

func TestSetRefuses(t *testing.T) {
	for _, tt := range []struct{ key, text, want string }{
		{"nope", "1", "nope: no such option"},
		{"-", "true", "-: no such option"},
		{"fixed", "1", "fixed: takes effect at the next start only"},
		{"log_level", `"debug"`, "is not one of"},
		{"timeout", "x", `timeout: "x" is not a duration such as 90s`},
		{"timeout", "1.5", "is not a duration"},
		{"timeout", "9223372036854775808", "is not a duration"},
		{"lookupds", `["x",5]`, "not a JSON array of strings, nor null: "},
		{"lookupds", `["x",null]`, "element 1 is null"},
		{"lookupds", `["x"] y`, "not a JSON array of strings"},
		{"lookupds", `x`, "not a JSON array of strings"},
		{"ratios", `["1"]`, "not a JSON array of numbers"},
		{"one_ratio", "nan", `"nan" is not a number`},
		{"size", "5.0", `"5.0" is not a whole number from -9`},
		{"size", "", `"" is not a whole number`},
		{"small", "256", `"256" is not a whole number from 0 to 255`},
		{"snappy", "yes", `"yes" is not true or false`},
	} {
		t.Run(tt.key+" "+tt.text, func(t *testing.T) {
			opts := liveDefaults()
			err := config.Set(opts, tt.key, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v lacks %q", err, tt.want)
			}
			if !reflect.DeepEqual(opts, liveDefaults()) {
				t.Errorf("the struct has changed: %+v", opts)
			}
		})
	}
	if err := config.Set(liveDefaults(), "fixed", "1"); !errors.Is(err, config.ErrNotLive) {
		t.Errorf("got %v", err)
	}
	if err := config.Set(liveDefaults(), "nope", "1"); !errors.Is(err, config.ErrNoOption) {
		t.Errorf("got %v", err)
	}
}

// A copy of the struct keeps its lists.
func TestSetLeavesCopies(t *testing.T) {
	opts := liveDefaults()
	before := *opts
	if err := config.Set(opts, "lookupds", `["z:9"]`); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&before, liveDefaults()) {
		t.Errorf("the copy has changed: %+v", before)
	}
}

func TestChangedAndTakeLive(t *testing.T) {
	before, after := liveDefaults(), liveDefaults()
	after.Size, after.Lookupd, after.Fixed = 6, []string{"a:1", "b:2"}, 2
	live, fixed := config.Changed(before, after)
	if !reflect.DeepEqual(live, []string{"lookupds", "size"}) || !reflect.DeepEqual(fixed, []string{"fixed"}) {
		t.Errorf("got %q and %q", live, fixed)
	}
	config.TakeLive(before, after)
	after.Fixed = 1
	if !reflect.DeepEqual(before, after) {
		t.Errorf("got %+v", before)
	}
}

func TestUsageMarksLiveOptions(t *testing.T) {
	fs := config.NewFlagSet("x", liveDefaults())
	var out bytes.Buffer
	fs.SetOutput(&out)
	if err := fs.Parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  --size int *\n", "\n  --snappy *\n", "\n  --fixed int\n", "\nOptions with a * can be changed without a restart"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("usage lacks %q:\n%s", want, &out)
		}
	}
}

func FuzzSet(f *testing.F) {
	for _, key := range []string{"log_level", "name", "timeout", "lookupds", "ratios", "one_ratio", "size", "small", "snappy"} {
		f.Add(key, "5")
		f.Add(key, `["x",5]`)
		f.Add(key, "null")
		f.Add(key, "1h5ms")
	}
	f.Fuzz(func(t *testing.T, key, text string) {
		opts := liveDefaults()
		if err := config.Set(opts, key, text); err != nil && !reflect.DeepEqual(opts, liveDefaults()) {
			t.Errorf("a failed Set changed the struct: %v", err)
		}
	})
}

func TestUsageIsWrapped(t *testing.T) {
	fs := config.NewFlagSet("x", &struct {
		Long string `flag:"long" usage:"words words words words words words words words words words words words words words words words\tand a_word_that_is_longer_than_a_line_may_be_and_is_not_broken_for_all_that_though_it_looks_bad end"`
	}{})
	var out bytes.Buffer
	fs.SetOutput(&out)
	if err := fs.Parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	const want = `Usage of x:
  --long string
    	words words words words words words words words words words words words
    	words words words words and
    	a_word_that_is_longer_than_a_line_may_be_and_is_not_broken_for_all_that_though_it_looks_bad
    	end
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}
