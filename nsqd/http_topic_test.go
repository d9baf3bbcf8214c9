package nsqd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// crash returns a data directory as a daemon killed at this instant leaves it.
func (d *daemon) crash() string {
	d.t.Helper()
	for {
		dir := d.t.TempDir()
		err := os.CopyFS(dir, os.DirFS(d.dir))
		if err == nil {
			return dir
		}
		if !errors.Is(err, fs.ErrNotExist) { // which a file is that was renamed meanwhile
			d.t.Fatal(err)
		}
	}
}

// A pause is on disk when it is answered, and so is its end.
func TestPauseSurvivesCrash(t *testing.T) {
	d := startDaemon(t)
	for _, path := range []string{
		"/topic/create?topic=t", "/topic/create?topic=u",
		"/channel/create?topic=u&channel=c", "/channel/create?topic=u&channel=d",
		"/topic/pause?topic=t", "/channel/pause?topic=u&channel=c",
	} {
		d.post(path, "", "")
	}
	nsqtest.Equal(t, d.metadataFile(), `{"topics":[{"name":"t","paused":true,"channels":null},`+
		`{"name":"u","paused":false,"channels":[{"name":"c","paused":true},{"name":"d","paused":false}]}],"version":"1.3.0"}`)
	paused := func(d *daemon) [4]bool {
		s, _ := d.gather("")
		t, u := s.Topics[0], s.Topics[1]
		return [4]bool{t.Paused, u.Paused, u.Channels[0].Paused, u.Channels[1].Paused}
	}
	again := startDaemon(t, inDir(d.crash()))
	nsqtest.Equal(t, paused(again), [4]bool{true, false, true, false})

	again.post("/topic/unpause?topic=t", "", "")
	again.post("/channel/unpause?topic=u&channel=c", "", "")
	third := startDaemon(t, inDir(again.crash()))
	nsqtest.Equal(t, paused(third), [4]bool{})
}

func TestPauseStopsMessagesAndUnpauseLetsThemGo(t *testing.T) {
	d := startDaemon(t)
	consumer := d.dial().Sub("t", "c").Rdy(5)
	d.post("/topic/pause?topic=t", "", "")
	d.post("/pub?topic=t", "1", "OK")
	s, _ := d.gather("")
	nsqtest.Equal(t, [2]int64{s.Topics[0].Depth, s.Topics[0].Channels[0].Depth}, [2]int64{1, 0})
	d.post("/topic/unpause?topic=t", "", "")
	nsqtest.Equal(t, consumer.ReadMessage().Body, "1")

	d.post("/channel/pause?topic=t&channel=c", "", "")
	d.post("/pub?topic=t", "2", "OK")
	s, _ = d.gather("")
	nsqtest.Equal(t, [2]int64{s.Topics[0].Depth, s.Topics[0].Channels[0].Depth}, [2]int64{0, 1})
	d.post("/channel/unpause?topic=t&channel=c", "", "")
	nsqtest.Equal(t, consumer.ReadMessage().Body, "2")
}

// Many deletions at once share writes of the metadata file. Each is in the file,
// and the queue's files are gone, when it is answered.
func TestDeletionIsDurableWhenAnswered(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = 0 })
	const topics = 30
	for i := range topics {
		d.post(fmt.Sprintf("/pub?topic=topic%02d", i), "on disk", "OK")
		d.post(fmt.Sprintf("/topic/create?topic=kept%02d", i), "", "")
		d.post(fmt.Sprintf("/channel/create?topic=kept%02d&channel=channel%02d", i, i), "", "")
	}
	var all sync.WaitGroup
	for i := range topics {
		all.Go(func() {
			d.post(fmt.Sprintf("/topic/delete?topic=topic%02d", i), "", "")
			d.post(fmt.Sprintf("/channel/delete?topic=kept%02d&channel=channel%02d", i, i), "", "")
			file := d.metadataFile()
			for _, name := range []string{fmt.Sprintf("topic%02d", i), fmt.Sprintf("channel%02d", i)} {
				if strings.Contains(file, name) {
					t.Errorf("%s is still in the metadata file", name)
				}
			}
			left, err := filepath.Glob(filepath.Join(d.dir, fmt.Sprintf("topic%02d.*", i)))
			if err != nil || len(left) > 0 {
				t.Errorf("%v (%v) is still there", left, err)
			}
		})
	}
	all.Wait()
	s, _ := startDaemon(t, inDir(d.crash())).gather("")
	nsqtest.Equal(t, len(s.Topics), topics)
}

// A failed write of the metadata file is no success for a deletion, which a crash
// would undo.
func TestDeletionThatCannotBeRecorded(t *testing.T) {
	d := startDaemon(t)
	d.post("/topic/create?topic=t", "", "")
	d.post("/topic/create?topic=u", "", "")
	path := filepath.Join(d.dir, metadataFile)
	for os.MkdirAll(filepath.Join(path, "in the way"), 0o700) != nil { // or the daemon was faster
		if err := ignoreMissing(os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	}
	resp, body := d.request("POST", "/topic/delete?topic=t", "")
	nsqtest.Equal(t, resp.StatusCode, http.StatusInternalServerError)
	nsqtest.Equal(t, body, `{"message":"INTERNAL_ERROR"}`)
	d.post("/topic/pause?topic=u", "", "") // in force all the same
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Consumers of a deleted channel are disconnected; producers stay, and their next
// message makes the topic anew.
func TestDeleteDisconnectsConsumers(t *testing.T) {
	d := startDaemon(t)
	producer := d.dial().Pub("t", "1")
	a, b := d.dial().Sub("t", "a"), d.dial().Sub("t", "b")
	d.post("/channel/delete?topic=t&channel=a", "", "")
	a.ExpectClosed()
	d.post("/topic/delete?topic=t", "", "")
	b.ExpectClosed()
	producer.Pub("t", "2")
	s, _ := d.gather("")
	nsqtest.Equal(t, s.Topics[0].Messages, 1)
	nsqtest.Equal(t, len(s.Topics[0].Channels), 0)
}

// An ephemeral topic goes with its last channel.
func TestDeleteLastChannelOfEphemeralTopic(t *testing.T) {
	d := startDaemon(t)
	d.post("/topic/create?topic=t%23ephemeral", "", "")
	d.post("/channel/create?topic=t%23ephemeral&channel=c", "", "")
	d.post("/channel/delete?topic=t%23ephemeral&channel=c", "", "")
	s, _ := d.gather("")
	nsqtest.Equal(t, len(s.Topics), 0)
	nsqtest.Equal(t, d.metadataFile(), `{"topics":null,"version":"1.3.0"}`)
}

// Whatever is done at once to a few topics, nothing panics, hangs or answers
// anything unexpected, and the daemon still stops cleanly.
func TestEverythingAtOnce(t *testing.T) {
	d := startDaemon(t, func(o *Options) { o.MemQueueSize = 5 })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	actions := strings.Fields(`/pub /pub /pub /mpub /mpub /topic/create /topic/delete /topic/empty /topic/pause /topic/unpause
		/channel/create /channel/create /channel/delete /channel/empty /channel/pause /channel/unpause /stats`)
	var all sync.WaitGroup
	for worker := range 4 {
		random := rand.New(rand.NewPCG(seed, uint64(worker)))
		all.Go(func() {
			for range 100 {
				path := actions[random.IntN(len(actions))]
				method := http.MethodPost
				if path == "/stats" {
					method = http.MethodGet
				}
				query := fmt.Sprintf("?topic=t%d&channel=c%d", random.IntN(2), random.IntN(2))
				resp, body := d.request(method, path+query, "a\nb\nc\nd")
				if s := resp.StatusCode; s != 200 && s != 404 && (s != 503 || !strings.HasSuffix(path, "pub")) {
					t.Errorf("%s%s: got %d %q", path, query, s, body)
				}
			}
		})
		all.Go(func() {
			for i := range 20 {
				consumeUntilClosed(d.TCPAddr().String(), fmt.Sprintf("t%d", i%2), fmt.Sprintf("c%d", worker%2))
			}
		})
	}
	all.Wait()
}

// consumeUntilClosed takes messages, and answers none, until nsqd closes the
// connection or has nothing to say for a moment.
func consumeUntilClosed(addr, topic, channel string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "  V2SUB %s %s\nRDY 10\n", topic, channel)
	if c.SetReadDeadline(time.Now().Add(20*time.Millisecond)) == nil {
		_, _ = io.Copy(io.Discard, c)
	}
}
