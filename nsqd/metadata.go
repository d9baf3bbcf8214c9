package nsqd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nsq-suite/nsq/internal/durable"
	"github.com/nsq-suite/nsq/internal/protocol"
	"github.com/nsq-suite/nsq/internal/version"
)

// metadataFile is the name of the file that lists topics and channels.
const metadataFile = "nsqd.dat"

// metadata keeps the list of topics and channels on disk. One goroutine writes
// it, some time after a change, so that many changes cost one write. Those who
// must know that a change is on disk do not wait for that goroutine: they write,
// or share the write of another who waits as they do.
type metadata struct {
	path   string
	log    *slog.Logger
	topics func() []*Topic
	dirty  chan struct{} // one token: something has changed

	writing sync.Mutex // held while the file is written: writes are in order

	mu   sync.Mutex
	next *metaWrite // waits for writing; nil for none
}

// A metaWrite is one write of the file, shared by all who asked for one before
// it began.
type metaWrite struct {
	done chan struct{}
	err  error // valid once done is closed
}

// The content of the file. Source: nsqd semantics, "Metadata file".
type (
	metaFile struct {
		Topics  []metaTopic `json:"topics"`
		Version string      `json:"version"`
	}
	metaTopic struct {
		Name     string        `json:"name"`
		Paused   bool          `json:"paused"`
		Channels []metaChannel `json:"channels"`
	}
	metaChannel struct {
		Name   string `json:"name"`
		Paused bool   `json:"paused"`
	}
)

func newMetadata(dir string, log *slog.Logger, topics func() []*Topic) *metadata {
	return &metadata{path: filepath.Join(dir, metadataFile), log: log, topics: topics, dirty: make(chan struct{}, 1)}
}

// changed notes that the file must be written. It does not wait.
func (m *metadata) changed() {
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

// The pause after a write, in which changes gather for the next, is a multiple of
// what the write took: so that a long list, of which a burst changes one name at a
// time, does not keep the disk busy.
const (
	metadataShare    = 50 // writing takes at most one part in so many of the time
	metadataMinPause = 20 * time.Millisecond
	metadataMaxPause = time.Second
	metadataRetry    = time.Second // after a failed write
)

// run writes the file after changes until ctx ends.
func (m *metadata) run(ctx context.Context) error {
	for {
		select {
		case <-m.dirty:
		case <-ctx.Done():
			return nil
		}
		began := time.Now()
		err := m.persist()
		pause := min(max(metadataShare*time.Since(began), metadataMinPause), metadataMaxPause)
		if err != nil {
			m.log.Error("persist metadata", "err", err, "retry_in", metadataRetry)
			pause = metadataRetry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// load reads the file. A missing one is an empty one. Names that are not valid
// are left out with a warning.
func (m *metadata) load() ([]metaTopic, error) {
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("failed to read metadata from %s - %w", m.path, err)
	}
	var f metaFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("failed to parse metadata in %s - %w", m.path, err)
	}
	return m.valid(f.Topics), nil
}

func (m *metadata) valid(topics []metaTopic) []metaTopic {
	seen := make(map[string]int) // position of each topic in the result
	var list []metaTopic
	for _, t := range topics {
		if !protocol.IsValidTopicName(t.Name) {
			m.log.Warn(fmt.Sprintf("skipping creation of invalid topic %s", t.Name))
			continue
		}
		var channels []metaChannel
		for _, c := range t.Channels {
			if !protocol.IsValidChannelName(c.Name) {
				m.log.Warn(fmt.Sprintf("skipping creation of invalid channel %s", c.Name))
				continue
			}
			channels = append(channels, c)
		}
		if i, twice := seen[t.Name]; twice {
			list[i].Channels = append(list[i].Channels, channels...)
			continue
		}
		seen[t.Name] = len(list)
		t.Channels = channels
		list = append(list, t)
	}
	return list
}

// persist returns when a write of the file that began after the call has ended:
// what was true at the call is on disk then. Calls may overlap; those that come
// while the file is being written share the next write. One that fails will be
// tried again by run.
func (m *metadata) persist() error {
	m.mu.Lock()
	w := m.next
	if w != nil {
		m.mu.Unlock()
		<-w.done
		return w.err
	}
	w = &metaWrite{done: make(chan struct{})}
	m.next = w
	m.mu.Unlock()

	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	m.next = nil // whoever comes from here on may have changed what write has read already
	m.mu.Unlock()
	if w.err = m.write(); w.err != nil {
		m.changed()
	}
	close(w.done)
	return w.err
}

func (m *metadata) write() error {
	m.log.Info(fmt.Sprintf("NSQ: persisting topic/channel metadata to %s", m.path))
	data, err := json.Marshal(m.snapshot())
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	return replaceFile(m.path, data)
}

// snapshot lists what is to be found again after a restart; nil lists stand for
// empty ones, as null in the file.
func (m *metadata) snapshot() metaFile {
	f := metaFile{Version: version.Number}
	for _, t := range m.topics() {
		if t.ephemeral || t.closing.Load() {
			continue
		}
		mt := metaTopic{Name: t.name, Paused: t.isPaused()}
		for _, c := range t.channelList() {
			if !c.ephemeral {
				mt.Channels = append(mt.Channels, metaChannel{Name: c.name, Paused: c.paused.Load()})
			}
		}
		f.Topics = append(f.Topics, mt)
	}
	return f
}

// replaceFile writes data to path so that after a crash, of the machine too, the
// file holds either what it held before or data.
func replaceFile(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(tmp.Name())))
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tmp.Name(), err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
