package protocol

import (
	"bytes"
	"errors"
	"math"
)

// MaxLineLength is the longest command line nsqd accepts, its LF included.
// Source: TCP protocol spec, "Commands: syntax".
const MaxLineLength = 16384

// AppendCommand appends a command line: the name and the parameters, each after
// one space, and LF. A body follows by [AppendSized]. Nothing is checked or
// escaped. Source: TCP protocol spec, "Commands: syntax".
func AppendCommand(dst []byte, name string, params ...string) []byte {
	dst = append(dst, name...)
	for _, p := range params {
		dst = append(dst, ' ')
		dst = append(dst, p...)
	}
	return append(dst, '\n')
}

// TrimLine takes the LF, and one CR directly before it, off a command line.
func TrimLine(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'})
}

// SplitParams appends the words of line to into and returns it. Every single
// space separates, so two adjacent ones enclose an empty word; an empty line is
// one empty word. The words alias line.
func SplitParams(line []byte, into [][]byte) [][]byte {
	for {
		i := bytes.IndexByte(line, ' ')
		if i < 0 {
			return append(into, line)
		}
		into = append(into, line[:i:i])
		line = line[i+1:]
	}
}

// Reasons of [ParseDecimal].
var (
	ErrNotDecimal      = errors.New("not a decimal number")
	ErrDecimalTooLarge = errors.New("number exceeds 64 bits")
)

// ParseDecimal reads a number parameter: ASCII digits only, no sign; the empty
// text is 0. A value beyond 64 bits returns [math.MaxUint64] and
// [ErrDecimalTooLarge], so that callers can treat it as out of range rather than
// as unreadable. Source: TCP protocol spec, "Decimal parameters".
func ParseDecimal(b []byte) (uint64, error) {
	var n uint64
	tooLarge := false
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 {
			return 0, ErrNotDecimal
		}
		if n > (math.MaxUint64-d)/10 {
			tooLarge = true
		}
		n = n*10 + d
	}
	if tooLarge {
		return math.MaxUint64, ErrDecimalTooLarge
	}
	return n, nil
}
