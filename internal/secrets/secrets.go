// Package secrets is tokens and passwords that stand in files, one a line. They are
// kept as hashes: comparing takes the same time for all, whatever their length.
package secrets

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
)

// A Set is some secrets by their SHA-256. The zero Set has none.
type Set [][sha256.Size]byte

// Of returns the set of the given secrets.
func Of(list ...string) Set {
	s := make(Set, len(list))
	for i, secret := range list {
		s[i] = sha256.Sum256([]byte(secret))
	}
	return s
}

// errNone is for a file without any secret: it would let in nobody, or everybody.
var errNone = errors.New("no secret in it")

// Read reads the file. Space around a line, empty lines, and those that begin with
// '#' do not count. A line that is not valid is an error, which does not show it; so
// is a file without any secret. The errors name the file.
func Read(path string, valid func(line string) bool) (Set, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []string
	n := 0
	for line := range bytes.Lines(content) {
		n++
		text := string(bytes.TrimSpace(line))
		if text == "" || text[0] == '#' {
			continue
		}
		if !valid(text) {
			return nil, fmt.Errorf("%s has something else in line %d", path, n)
		}
		list = append(list, text)
	}
	if list == nil {
		return nil, fmt.Errorf("read %s: %w", path, errNone)
	}
	return Of(list...), nil
}

// Has reports whether text is one of the secrets. It takes the same time whichever
// it is, if any.
func (s Set) Has(text string) bool {
	given := sha256.Sum256([]byte(text))
	found := 0
	for _, secret := range s {
		found |= subtle.ConstantTimeCompare(secret[:], given[:])
	}
	return found == 1
}
