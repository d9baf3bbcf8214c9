package nsqd

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
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

func (s *diskStorage) open(name string, ready func()) (backend, error) {
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
		Notify:          ready,
		Logger:          s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open disk queue %q: %w", name, err)
	}
	return q, nil
}

func (s *diskStorage) delayPath(name string) string {
	return filepath.Join(s.dir, diskqueue.FileName(name)+".deferred.dat")
}

func (s *diskStorage) loadDelays(name string) (delayFile, error) {
	b, err := os.ReadFile(s.delayPath(name))
	if err != nil {
		return delayFile{}, err
	}
	return parseDelays(b)
}

func (s *diskStorage) saveDelays(name string, f delayFile) error {
	if err := replaceFile(s.delayPath(name), f.append(nil)); err != nil {
		return fmt.Errorf("store delays of queue %q: %w", name, err)
	}
	return nil
}

func (s *diskStorage) removeDelays(name string) error {
	return ignoreMissing(os.Remove(s.delayPath(name)))
}
