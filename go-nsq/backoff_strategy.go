package nsq

import (
	"math/rand"
	"sync"
	"time"
)

// BackoffStrategy says how long a Consumer pauses after failures.
type BackoffStrategy interface {
	// Calculate returns the pause at a backoff level, 1 or more.
	Calculate(attempt int) time.Duration
}

// maxBackoffPause keeps BackoffMultiplier * 2^attempt from overflowing; it is
// far beyond any MaxBackoffDuration.
const maxBackoffPause = 1 << 62 * time.Nanosecond

// ExponentialStrategy pauses for BackoffMultiplier * 2^attempt.
type ExponentialStrategy struct {
	cfg *Config
}

// Calculate returns BackoffMultiplier * 2^attempt. It panics if the strategy
// was neither set in a Config nor used by a Consumer.
func (s *ExponentialStrategy) Calculate(attempt int) time.Duration {
	return exponentialPause(s.cfg, attempt)
}

// exponentialPause is BackoffMultiplier * 2^attempt, at most maxBackoffPause.
func exponentialPause(cfg *Config, attempt int) time.Duration {
	pause := cfg.BackoffMultiplier
	for range attempt {
		if pause > maxBackoffPause/2 {
			return maxBackoffPause
		}
		pause *= 2
	}
	return pause
}

// FullJitterStrategy pauses for a random time of less than
// BackoffMultiplier * 2^attempt.
// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
type FullJitterStrategy struct {
	cfg *Config

	mu  sync.Mutex // guards rng
	rng *rand.Rand // made on first use
}

// Calculate returns a random pause, drawn anew at every call. It panics if the
// strategy was neither set in a Config nor used by a Consumer.
func (s *FullJitterStrategy) Calculate(attempt int) time.Duration {
	limit := exponentialPause(s.cfg, attempt)
	if limit <= 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rng == nil {
		s.rng = rand.New(rand.NewSource(time.Now().UnixNano()))
	}
	return time.Duration(s.rng.Int63n(int64(limit)))
}

// boundTo returns s reading its multiplier from cfg if it is a built-in
// strategy, and any other strategy itself.
func boundTo(s BackoffStrategy, cfg *Config) BackoffStrategy {
	switch s.(type) {
	case *ExponentialStrategy:
		return &ExponentialStrategy{cfg: cfg}
	case *FullJitterStrategy:
		return &FullJitterStrategy{cfg: cfg}
	}
	return s
}
