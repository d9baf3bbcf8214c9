package tonsq

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func pieces(t *testing.T, input io.Reader, delimiter byte) (bodies []string, ends []int64, err error) {
	t.Helper()
	out := make(chan piece, 100)
	err = read(t.Context(), input, delimiter, nil, out)
	close(out)
	for p := range out {
		bodies, ends = append(bodies, string(p.body)), append(ends, p.end)
	}
	return bodies, ends, err
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		input     string
		delimiter byte
		bodies    []string
		ends      []int64
	}{
		{"a\nbb\n", '\n', []string{"a", "bb"}, []int64{2, 5}},
		{"a\nbb", '\n', []string{"a", "bb"}, []int64{2, 4}},
		{"\n\na\n\n", '\n', []string{"a"}, []int64{4}},
		{"", '\n', nil, nil},
		{"a,b\n", ',', []string{"a", "b"}, []int64{2, 4}},
		{"a,b\n\n", ',', []string{"a", "b\n"}, []int64{2, 5}},
		{"a,\n", ',', []string{"a"}, []int64{2}},
		{"a\x00b\n", 0, []string{"a", "b"}, []int64{2, 4}},
		{strings.Repeat("x", 200_000) + "\ny", '\n', []string{strings.Repeat("x", 200_000), "y"}, []int64{200_001, 200_002}},
	} {
		bodies, ends, err := pieces(t, iotest.HalfReader(strings.NewReader(tt.input)), tt.delimiter)
		if err != nil || !slices.Equal(bodies, tt.bodies) || !slices.Equal(ends, tt.ends) {
			t.Errorf("%.20q: %.50q %v, %v", tt.input, bodies, ends, err)
		}
	}
	broken := errors.New("broken")
	bodies, _, err := pieces(t, io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), '\n')
	if !errors.Is(err, broken) || !slices.Equal(bodies, []string{"a", "b"}) {
		t.Errorf("%q, %v", bodies, err)
	}
}

// Credit for one at the start, one more each 1/n s, n at most; each read costs one,
// that of the end and of empty pieces too.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		out := make(chan piece, 100)
		if err := read(t.Context(), strings.NewReader("1\n2\n\n4\n5\n6\n7\n8\n"), '\n', newLimiter(4), out); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 2*time.Second || len(out) != 7 {
			t.Errorf("%d messages in %v", len(out), took)
		}
		l := newLimiter(3)
		time.Sleep(time.Hour)
		start = time.Now()
		for range 5 {
			l.wait(t.Context())
		}
		if took := time.Since(start); took < 600*time.Millisecond || took > 700*time.Millisecond {
			t.Errorf("a burst of 3 and two more took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if l.wait(ctx) {
			t.Error("waits without a context")
		}
	})
}
