package nsqd_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
	"github.com/nsq-suite/nsq/internal/suite"
)

// fullDiskPath tells [TestFullDisk] that it runs where it may mount, and where to.
const fullDiskPath = "NSQD_FULL_DISK_PATH"

// TestFullDisk runs nsqd on a file system of one megabyte. It fills up: publishers
// are refused with the reason, /ping tells, consumers go on. When there is room
// again, nsqd finds out by itself, and all that was accepted is delivered.
func TestFullDisk(t *testing.T) {
	dir := os.Getenv(fullDiskPath)
	if dir == "" {
		inOwnMounts(t)
		return
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(killedDataPath, dir)
	t.Setenv(killedMemory, "0")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim, err := suite.Start(t.Context(), self, t.Output(), time.Second, "-test.run=^TestDaemonToBeKilled$")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := victim.Kill(); err != nil {
			t.Error(err)
		}
	}()
	d := diskUser{t: t, nsqd: victim, accepted: make(map[string]bool), missing: make(map[string]bool)}

	consumer := d.subscribe("t")
	producer := nsqtest.Dial(t, victim.TCPAddr)
	for range 100 {
		nsqtest.Equal(t, d.publish(producer, "t"), "OK")
	}
	d.publishUntilFull("alone")
	d.publishUntilFull("t")
	d.expect("POST", "/pub?topic=alone", http.StatusServiceUnavailable, "EXITING")
	d.expect("GET", "/ping", http.StatusInternalServerError, "NOK - ", "no space left on device")
	d.expect("GET", "/stats?format=json", http.StatusOK, `"health":"NOK - `)
	consumer.Rdy(10)
	for range 50 {
		d.finish(consumer)
	}

	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	err = suite.Poll(t.Context(), "/ping to be good again", func() (bool, error) {
		status, _ := d.request("GET", "/ping")
		return status == http.StatusOK, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"alone", "t"} {
		d.publish(nsqtest.Dial(t, victim.TCPAddr), topic)
	}
	alone := d.subscribe("alone").Rdy(10)
	for topic, c := range map[string]*nsqtest.Conn{"alone": alone, "t": consumer} {
		for d.isMissing(topic) { // or ReadMessage gives up
			d.finish(c)
		}
	}
}

// inOwnMounts runs this test again in a process that has mounts of its own.
func inOwnMounts(t *testing.T) {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare(1) to get a file system that may fill up")
	}
	if out, err := exec.Command(unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody mount: %v: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), unshare, "-Urm", self, "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), fullDiskPath+"="+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A diskUser publishes and consumes, and remembers what must still come.
type diskUser struct {
	t        *testing.T
	nsqd     *suite.Daemon
	sent     int
	accepted map[string]bool // messages
	missing  map[string]bool // of these, what was not delivered yet
}

// publish sends one message to topic and returns the answer.
func (d *diskUser) publish(c *nsqtest.Conn, topic string) string {
	d.sent++
	body := fmt.Sprintf("%s %d %s", topic, d.sent, strings.Repeat("x", 1000))
	frame := c.CommandBody(body, "PUB", topic).ReadFrame()
	if string(frame.Data) == "OK" {
		d.accepted[body], d.missing[body] = true, true
	}
	return string(frame.Data)
}

func (d *diskUser) publishUntilFull(topic string) {
	d.t.Helper()
	c := nsqtest.Dial(d.t, d.nsqd.TCPAddr)
	for range 5000 {
		answer := d.publish(c, topic)
		if answer == "OK" {
			continue
		}
		if !strings.HasPrefix(answer, "E_PUB_FAILED PUB failed ") || !strings.HasSuffix(answer, "no space left on device") {
			d.t.Errorf("got %q", answer)
		}
		return
	}
	d.t.Fatalf("topic %s is never full", topic)
}

// subscribe connects a consumer that may take its time.
func (d *diskUser) subscribe(topic string) *nsqtest.Conn {
	c := nsqtest.Dial(d.t, d.nsqd.TCPAddr)
	c.Identify(`{"msg_timeout":60000}`)
	return c.Sub(topic, "ch")
}

// isMissing reports whether messages of topic have still to come.
func (d *diskUser) isMissing(topic string) bool {
	for body := range d.missing {
		if strings.HasPrefix(body, topic+" ") {
			return true
		}
	}
	return false
}

// finish takes one message.
func (d *diskUser) finish(c *nsqtest.Conn) {
	d.t.Helper()
	m := c.ReadMessage()
	c.Fin(m.ID)
	if !d.accepted[m.Body] {
		d.t.Errorf("%.20q was not accepted", m.Body)
	}
	delete(d.missing, m.Body)
}

// expect checks the status of an HTTP answer and what its body holds.
func (d *diskUser) expect(method, path string, status int, parts ...string) {
	d.t.Helper()
	got, body := d.request(method, path)
	for _, part := range parts {
		if got != status || !strings.Contains(body, part) {
			d.t.Errorf("%s %s: got %d %q, want %d and %q", method, path, got, body, status, part)
		}
	}
}

func (d *diskUser) request(method, path string) (status int, body string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.nsqd.HTTPAddr+path, strings.NewReader(strings.Repeat("m", 8<<10)))
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}
