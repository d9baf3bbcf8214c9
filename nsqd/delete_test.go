package nsqd

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// slowDelete is a storage whose backends wait before they delete.
type slowDelete struct {
	storage
	begin, proceed chan struct{}
}

type slowBackend struct {
	backend
	begin, proceed chan struct{}
}

func (s slowDelete) open(name string, tell events) (backend, error) {
	b, err := s.storage.open(name, tell)
	return slowBackend{b, s.begin, s.proceed}, err
}

func (b slowBackend) Delete() error {
	b.begin <- struct{}{}
	<-b.proceed
	return b.backend.Delete()
}

// A consumer that comes back while its channel is being deleted gets a new
// channel, whose files the deletion does not take away.
func TestChannelComesBackWhileItIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, func(o *Options) { o.MemQueueSize = 0 })
		slow := slowDelete{b.env.storage, make(chan struct{}), make(chan struct{})}
		b.env.storage = slow
		b.connect().Sub("t", "ch")
		p := b.connect().Pub("t", "gone with the channel")
		topic := b.topic("t")
		deleted := make(chan error)
		go func() { deleted <- topic.deleteChannel(b.channel("t", "ch")) }()
		<-slow.begin
		again := b.connect().Command("SUB", "t", "ch")
		p.Pub("t", "kept")
		synctest.Wait()
		nsqtest.Equal(t, topic.existingChannel("ch"), nil)
		close(slow.proceed)
		if err := <-deleted; err != nil {
			t.Error(err)
		}
		nsqtest.Equal(t, again.ExpectOK().Rdy(1).ReadMessage().Body, "kept")
		b.env.storage = slow.storage
	})
}

// What was on its way into a queue when it was deleted leaves no files behind and
// does not make the daemon look ill.
func TestDeletedQueueTakesNothing(t *testing.T) {
	for name, first := range map[string]int{"with a backend": 1, "without": 0} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t, func(o *Options) { o.MemQueueSize = 0 })
			d.post("/topic/create?topic=t", "", "")
			q := d.existingTopic("t").queue
			entries := []entry{newEntry(d.svc.ids, []byte("m"), 0)}
			if _, err := q.put(entries[:first]); err != nil {
				t.Fatal(err)
			}
			d.post("/topic/delete?topic=t", "", "")
			_, err := q.put(entries)
			nsqtest.Equal(t, err, errExiting)
			q.keep(entries)
			nsqtest.Equal(t, q.depth(), 0)
			nsqtest.Equal(t, d.health.String(), "OK")
			files, err := os.ReadDir(d.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if strings.HasPrefix(f.Name(), "t.") {
					t.Errorf("%s is left", f.Name())
				}
			}
		})
	}
}
