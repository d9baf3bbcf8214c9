package nsqd

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/protocol"
)

// diskStorage keeps backends as disk queues in the data directory, and beside
// each, while the daemon is stopped, the delays of its deferred messages.
type diskStorage struct {
	opts  *Options
	dir   string
	names *diskqueue.Names // what was there when the daemon started
	disk  *diskqueue.Shared
	log   *slog.Logger

	turns chan struct{} // holds a token for each queue that stores its last messages
}

// storeAtOnce is how many queues do so at a time: each may hold a batch of messages,
// and a thread that waits for the disk.
const storeAtOnce = 64

func (s *diskStorage) inTurn(store func() error) error {
	s.turns <- struct{}{}
	defer func() { <-s.turns }()
	return store()
}

// syncs counts the fsyncs of queue files. It is safe for concurrent use.
type syncs struct {
	count  atomic.Int64 // all of them
	failed atomic.Int64
	nanos  atomic.Int64 // how long they took, in sum
}

func (s *syncs) observe(took time.Duration, err error) {
	s.count.Add(1)
	s.nanos.Add(int64(took))
	if err != nil {
		s.failed.Add(1)
	}
}

func (s *diskStorage) stored(name string) bool { return s.names.Has(name) }

func (s *diskStorage) open(name string, tell events) (backend, error) {
	q, err := diskqueue.Open(diskqueue.Options{
		Dir:             s.dir,
		Name:            name,
		Names:           s.names,
		Shared:          s.disk,
		MaxBytesPerFile: s.opts.MaxBytesPerFile,
		MinRecordSize:   protocol.MinMessageSize,
		MaxRecordSize:   int32(min(s.opts.MaxMsgSize+protocol.MinMessageSize, math.MaxInt32)),
		SyncEvery:       s.opts.SyncEvery,
		SyncTimeout:     s.opts.SyncTimeout,
		Notify:          tell.ready,
		Synced:          tell.synced,
		Logger:          s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open disk queue %q: %w", name, err)
	}
	return q, nil
}

// delaySuffix follows the queue's name in that of its file of delays.
const delaySuffix = ".deferred.dat"

func (s *diskStorage) delayPath(name string) string {
	return filepath.Join(s.dir, diskqueue.FileName(name)+delaySuffix)
}

func (s *diskStorage) loadDelays(name string) (delayFile, error) {
	b, err := os.ReadFile(s.delayPath(name))
	if err != nil {
		return delayFile{}, err
	}
	return parseDelays(b)
}

func (s *diskStorage) saveDelays(name string, f delayFile) error {
	err := s.inTurn(func() error { return replaceFile(s.delayPath(name), f.append(nil)) })
	if err != nil {
		return fmt.Errorf("store delays of queue %q: %w", name, err)
	}
	return nil
}

func (s *diskStorage) removeDelays(name string) error {
	return ignoreMissing(os.Remove(s.delayPath(name)))
}

// tidy removes what a daemon that was killed while it wrote nsqd.dat or a file of
// delays has left of it: names that replaceFile makes. It tells of damaged data that
// was set aside, now or years ago, as nothing else looks at that any more.
func tidy(dir string, log *slog.Logger) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	setAside := 0
	for _, name := range names {
		if diskqueue.IsSetAside(name) {
			setAside++
		}
		if !isLeftover(name) {
			continue
		}
		if err := ignoreMissing(os.Remove(filepath.Join(dir, name))); err != nil {
			log.Warn("remove leftover", "err", err)
		}
	}
	if setAside > 0 {
		log.Warn("damaged data that was set aside is in the data-path, in files with .bad in their names", "files", setAside)
	}
	return nil
}

// isLeftover reports whether name is "<file>.<number>.tmp" for one of those files.
func isLeftover(name string) bool {
	rest, isTemporary := strings.CutSuffix(name, ".tmp")
	i := strings.LastIndexByte(rest, '.')
	if !isTemporary || i < 0 || rest[i+1:] == "" || strings.Trim(rest[i+1:], "0123456789") != "" {
		return false
	}
	return rest[:i] == metadataFile || strings.HasSuffix(rest[:i], delaySuffix)
}

// forgotten returns the names, as files have them, of queues that are on disk and
// that nobody has opened: their topic or channel is not listed in nsqd.dat. They
// come back when it is created again.
func forgotten(found *diskqueue.Names, topics []*Topic) []string {
	known := make(map[string]bool)
	for _, t := range topics {
		known[diskqueue.FileName(t.queue.name)] = true
		for _, c := range t.channelList() {
			known[diskqueue.FileName(c.queue.name)] = true
		}
	}
	return slices.DeleteFunc(slices.Collect(found.All()), func(name string) bool { return known[name] })
}
