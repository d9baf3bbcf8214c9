package nsqd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsq-suite/nsq/internal/diskqueue"
	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// The weaknesses of disk queues that the daemon whose files these are is known for,
// by their numbers in nsqd semantics, "Known weaknesses, disk", and the tests that
// show them gone, in this package or in internal/diskqueue.
//
//	37  a rollover sets the file that was just read aside   diskqueue: TestReaderCaughtUpAtRollover, TestDamage
//	38  one write per record                                diskqueue: TestBatchIsOneWrite, TestGroupCommit
//	39  each message is written to topic and channel        TestWeakness39; once per channel: kept, channels are files
//	40  everybody waits for an fsync                        diskqueue: TestBackgroundSyncBlocksNobody
//	41  OK comes before the fsync                           diskqueue: TestGroupCommit, TestSyncFailureRefusesPut
//	42  a clean stop does not sync the data                 diskqueue: TestCloseSyncsData, TestClosing
//	43  the directory is not synced                         diskqueue: TestOrderOfSyncs; TestDeletionIsDurableWhenAnswered
//	44  errors of fsync and metadata are log lines          diskqueue: TestSyncFailureInBackground, TestMetadataFailure,
//	                                                        TestSyncedIsTold; TestHealthReturnsByItself
//	45  no checksums                                        kept, by the format: a flipped bit in a body is delivered; one
//	                                                        in a length is found by its neighbours, diskqueue: TestDamage
//	46  one bad record costs the rest of its file           diskqueue: TestDamage, TestReadFailure; TestStatsOfDamage
//	47  without metadata the data is overwritten            diskqueue: TestDamage; TestStatsOfDamage
//	48  a smaller --max-msg-size destroys the backlog       diskqueue: TestDamage; TestWeakness48
//	49  stale metadata repeats much, depths are wrong       diskqueue: TestDamage, TestDepthOfLongBacklog, TestBusyQueueSavesSeldom;
//	                                                        what was finished since the last save comes again: kept
//	50  "%" in the data path                                TestWeakness50
//	51  a loop, a ticker, fsyncs and files for each queue   diskqueue: TestIdleQueueHoldsNothing, TestBackgroundSyncsAreBounded,
//	                                                        TestDirectorySyncsAreShared, TestOpenFilesAreBounded, TestManyQueuesFewFiles
//	52  leftovers are neither removed nor reported          TestLeftoversAreRemoved, TestForgottenQueuesAreReported; diskqueue: TestDamage

// queueFiles returns the data files in dir.
func queueFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".diskqueue.000000.dat") {
			names = append(names, e.Name())
		}
	}
	return names
}

// With nothing in memory a message is written to its channel and nowhere else.
func TestWeakness39(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = 0 })
	d.dial().Sub("t", "c").Close()
	d.dial().Pub("t", "m").Mpub("t", "a", "b")
	nsqtest.Equal(t, queueFiles(t, d.dir), []string{diskqueue.FileName("t:c") + ".diskqueue.000000.dat"})
	nsqtest.Equal(t, d.existingTopic("t").existingChannel("c").queue.diskDepth(), int64(3))
}

// What was stored while larger messages were allowed is delivered, and stored again
// where it is not finished.
func TestWeakness48(t *testing.T) {
	large := strings.Repeat("x", 10_000)
	first := startDaemon(t)
	first.post("/mpub?topic=t", "a\n"+large+"\nb", "OK")
	first.shutdown()
	for range 2 {
		d := startDaemon(t, inDir(first.dir), func(o *Options) { o.MaxMsgSize = 100 })
		consumer := d.dial().Sub("t", "c").Rdy(3)
		for range 3 {
			consumer.ReadMessage() // in flight when the daemon stops
		}
		d.shutdown()
	}
	last := startDaemon(t, inDir(first.dir))
	nsqtest.Equal(t, drain(last.dial().Sub("t", "c").Rdy(3), 3), []string{"a", "b", large})
}

// A data path is a name, not a format.
func TestWeakness50(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "100%d %s%")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	first := startDaemon(t, inDir(dir), func(o *Options) { o.MemQueueSize = 0 })
	first.post("/mpub?topic=t", "a\nb", "OK")
	nsqtest.Equal(t, queueFiles(t, dir), []string{"t.diskqueue.000000.dat"})
	first.shutdown()
	d := startDaemon(t, inDir(dir))
	nsqtest.Equal(t, drain(d.dial().Sub("t", "c").Rdy(2), 2), []string{"a", "b"})
}
