package scenario

import (
	"errors"
	"fmt"
	"regexp"
)

// Selection checks the flags by which a program is told what to measure, how often and
// how much of it: --run, --n and --scale. It returns --run.
func Selection(run string, rounds int, scale float64) (*regexp.Regexp, error) {
	pattern, err := regexp.Compile(run)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--run: %w", err)
	case rounds < 1:
		return nil, errors.New("--n must be at least 1")
	case !(scale > 0):
		return nil, errors.New("--scale must be above 0")
	}
	return pattern, nil
}
