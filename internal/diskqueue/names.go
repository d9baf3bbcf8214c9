package diskqueue

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// leftFiles is what a directory holds of one queue.
type leftFiles struct {
	metadata  bool
	kept      bool     // the file of the kept records
	numbers   []int64  // of data files, ascending
	temporary []string // files that were never renamed
}

// Names is a listing of the queues in a directory, made once at start and
// given to every [Open]: thousands of queues then cost one listing. It speaks
// for a queue until that queue is opened for the first time; a later Open of
// the same name lists the directory itself. Calls may overlap.
type Names struct {
	mu     sync.Mutex // guards found and opened
	found  map[string]*leftFiles
	opened map[string]bool
}

// List reads the directory.
func List(dir string) (*Names, error) { return list(osFS{}, dir) }

func list(fs FS, dir string) (*Names, error) {
	entries, err := fs.Names(dir)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	n := &Names{found: make(map[string]*leftFiles), opened: make(map[string]bool)}
	for _, entry := range entries {
		n.add(entry)
	}
	for _, files := range n.found {
		slices.Sort(files.numbers)
	}
	return n, nil
}

// add sorts one directory entry in. Set-aside files (.bad) and everything that
// is not a queue's is passed over.
func (n *Names) add(entry string) {
	// Topic and channel names may hold ".diskqueue." themselves: the last counts.
	i := strings.LastIndex(entry, ".diskqueue.")
	if i <= 0 {
		return
	}
	name, rest := entry[:i], entry[i+len(".diskqueue."):]
	switch rest {
	case "meta.dat":
		n.of(name).metadata = true
		return
	case keptName:
		n.of(name).kept = true
		return
	case keptName + ".tmp":
		n.of(name).temporary = append(n.of(name).temporary, entry)
		return
	}
	if middle, ok := between(rest, "meta.dat.", ".tmp"); ok {
		if isDigits(middle) {
			n.of(name).temporary = append(n.of(name).temporary, entry)
		}
		return
	}
	digits, ok := strings.CutSuffix(rest, ".dat")
	if !ok || len(digits) < 6 || !isDigits(digits) {
		return
	}
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || fmt.Sprintf("%06d", number) != digits {
		return
	}
	n.of(name).numbers = append(n.of(name).numbers, number)
}

func (n *Names) of(name string) *leftFiles {
	if n.found[name] == nil {
		n.found[name] = new(leftFiles)
	}
	return n.found[name]
}

// Has reports whether the directory held anything of the queue called
// name ("topic" or "topic:channel") when it was listed.
func (n *Names) Has(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	files := n.found[FileName(name)]
	return files != nil && (files.metadata || files.kept || len(files.numbers) > 0)
}

// All walks the names of all queues found, sorted, in the form files have
// ("topic;channel" on Windows).
func (n *Names) All() iter.Seq[string] {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Values(slices.Sorted(maps.Keys(n.found)))
}

// take returns what there is of a queue; known is false when the listing
// speaks no longer for it.
func (n *Names) take(name string) (files leftFiles, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.opened[name] {
		return leftFiles{}, false
	}
	n.opened[name] = true
	if found := n.found[name]; found != nil {
		return *found, true
	}
	return leftFiles{}, true
}

func between(s, prefix, suffix string) (string, bool) {
	s, hasPrefix := strings.CutPrefix(s, prefix)
	s, hasSuffix := strings.CutSuffix(s, suffix)
	return s, hasPrefix && hasSuffix
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
