package nsqd

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/logging"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// What a killed daemon has left of files it was writing is removed at the next
// start, and nothing else is.
func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	leftovers := []string{"nsqd.dat.5577006791947779410.tmp", "t.deferred.dat.12.tmp", "t:c.deferred.dat.0.tmp", "t.deferred.dat.x.deferred.dat.3.tmp"}
	others := []string{
		"nsqd.dat.tmp", "nsqd.dat..tmp", "nsqd.dat.x.tmp", "other.dat.1.tmp", "t.deferred.dat", "t.deferred.dat.1", ".tmp", "tmp",
		"t.diskqueue.000000.dat.bad", "t.diskqueue.000000.dat.bad.1", "t.diskqueue.000000.dat.badly", "t.deferred.dat.5.diskqueue.meta.dat", "nsqd.dat.1.tmp.diskqueue.meta.dat",
	}
	if filepath.Separator == '\\' {
		leftovers[2] = "t;c.deferred.dat.0.tmp"
	}
	for _, name := range slices.Concat(leftovers, others) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var logged logLines
	d := startDaemon(t, inDir(dir), func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	if want := "in files with .bad in their names files=2"; !strings.Contains(logged.String(), want) {
		t.Errorf("got log %s\nwant in it %s", logged.String(), want)
	}
	for _, name := range leftovers {
		if _, err := os.Stat(filepath.Join(d.dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range others {
		if _, err := os.Stat(filepath.Join(d.dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// Files of queues that nsqd.dat does not list are told of, and left alone: they are
// found again when the topic is created.
func TestForgottenQueuesAreReported(t *testing.T) {
	first := startDaemon(t)
	first.post("/topic/create?topic=known", "", "")
	first.post("/channel/create?topic=known&channel=c", "", "")
	first.post("/mpub?topic=forgotten", "a\nb", "OK")
	first.shutdown()
	if err := os.WriteFile(filepath.Join(first.dir, metadataFile), []byte(`{"topics":[{"name":"known","channels":[{"name":"c"}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var logged logLines
	d := startDaemon(t, inDir(first.dir), func(o *Options) { o.Logger = logging.New(&logged, "", slog.LevelInfo) })
	nsqtest.Equal(t, drain(d.dial().Sub("forgotten", "c").Rdy(2), 2), []string{"a", "b"})
	if want := "WARNING: queue files of topics or channels that are not in nsqd.dat queues=1 first=[forgotten]"; !strings.Contains(logged.String(), want) {
		t.Errorf("got log %s\nwant in it %s", logged.String(), want)
	}
}
