package tonsq

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

// A piece is one message of the input.
type piece struct {
	body []byte
	end  int64 // bytes of the input up to the end of its delimiter
}

// read splits the input and sends the pieces that are not empty, until the input
// or ctx ends. limiter may be nil.
func read(ctx context.Context, input io.Reader, delimiter byte, limiter *limiter, pieces chan<- piece) error {
	reader := bufio.NewReaderSize(input, 64<<10)
	var offset int64
	for {
		if limiter != nil && !limiter.wait(ctx) {
			return nil
		}
		body, err := reader.ReadBytes(delimiter)
		offset += int64(len(body))
		switch {
		case err == nil:
			body = body[:len(body)-1]
		case delimiter != '\n':
			// `echo one,two | to_nsq --delimiter=,` sends "two", without what echo
			// has added.
			body = bytes.TrimSuffix(body, []byte{'\n'})
		}
		if len(body) > 0 {
			select {
			case pieces <- piece{body, offset}:
			case <-ctx.Done():
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A limiter lets rate reads per second pass. It starts with credit for one, and
// saves up what is not used, for a second's worth at most.
type limiter struct {
	rate   float64
	credit float64
	last   time.Time
}

func newLimiter(rate int64) *limiter {
	return &limiter{rate: float64(rate), credit: 1, last: time.Now()}
}

// wait waits until there is credit; it is false if ctx ends before.
func (l *limiter) wait(ctx context.Context) bool {
	for {
		now := time.Now()
		l.credit = min(l.credit+now.Sub(l.last).Seconds()*l.rate, l.rate)
		l.last = now
		if l.credit > 1-1e-6 { // rounding may leave a little less than 1
			l.credit--
			return ctx.Err() == nil
		}
		timer := time.NewTimer(time.Duration((1 - l.credit) / l.rate * float64(time.Second)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}
