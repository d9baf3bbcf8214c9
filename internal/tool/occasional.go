package tool

import (
	"log"
	"sync"
	"time"
)

// An Occasional log prints at most a line per second, so that what is wrong with
// every message does not slow all of them down.
type Occasional struct {
	Log *log.Logger

	mu      sync.Mutex // guards what follows
	last    time.Time
	dropped int // lines since
}

// Printf prints a line or counts it.
func (o *Occasional) Printf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Sub(o.last) < time.Second {
		o.dropped++
		return
	}
	if o.dropped > 0 {
		o.Log.Printf("(%d more such lines)", o.dropped)
	}
	o.Log.Printf(format, args...)
	o.last, o.dropped = now, 0
}
