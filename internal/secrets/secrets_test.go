package secrets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	anything := func(string) bool { return true }
	word := func(line string) bool { return !strings.Contains(line, " ") }
	for _, c := range []struct {
		content string
		valid   func(string) bool
		has     []string // "" for an error
		hasNot  []string
	}{
		{"one\ntwo", anything, []string{"one", "two"}, []string{"", "onetwo", "one\n"}},
		{"\n# comment\r\n  two words \r\n", anything, []string{"two words"}, []string{"# comment", "two", ""}},
		{"two words\n", word, nil, nil},
		{"", anything, nil, nil},
		{"# nothing\n\n", anything, nil, nil},
	} {
		path := filepath.Join(t.TempDir(), "secrets")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Read(path, c.valid)
		if (err == nil) != (c.has != nil) {
			t.Errorf("%q: %v", c.content, err)
		}
		if err != nil && (!strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "words")) {
			t.Errorf("%q: the error is %q", c.content, err)
		}
		for _, secret := range c.has {
			if !s.Has(secret) {
				t.Errorf("%q has no %q", c.content, secret)
			}
		}
		for _, other := range c.hasNot {
			if s.Has(other) {
				t.Errorf("%q has %q", c.content, other)
			}
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "missing"), anything); err == nil {
		t.Error("a missing file was read")
	}
}
