package tool

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// A Screen is stderr: lines, and below them one that is written anew from time to
// time. Its methods may overlap.
type Screen struct {
	mu     sync.Mutex // guards status and orders writes; held for one Write
	w      io.Writer
	status string // the line at the bottom, empty for none
}

// eraseLine moves to the start of the line of a terminal and makes it empty.
const eraseLine = "\r\x1b[K"

// Write writes whole lines above the one that Show has left.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == "" {
		return s.w.Write(p)
	}
	text := append(append([]byte(eraseLine), p...), s.status...)
	if _, err := s.w.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Show replaces the line at the bottom; an empty text removes it.
func (s *Screen) Show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == text {
		return
	}
	s.status = text
	_, _ = io.WriteString(s.w, eraseLine+text) // nowhere else to say that stderr is gone
}
