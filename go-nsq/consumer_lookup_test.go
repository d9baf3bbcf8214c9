package nsq

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// lookupd is a nsqlookupd that answers with given nsqds, or 404 without any.
type lookupd struct {
	*httptest.Server
	requests  chan *http.Request
	producers atomic.Pointer[[]string]
}

func startLookupd(t testing.TB, legacy bool, addrs ...string) *lookupd {
	l := &lookupd{requests: make(chan *http.Request, 100)}
	l.producers.Store(&addrs)
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case l.requests <- req:
		default:
		}
		var producers []string
		for _, addr := range *l.producers.Load() {
			host, port, _ := net.SplitHostPort(addr)
			producers = append(producers, fmt.Sprintf(`{"broadcast_address":%q,"tcp_port":%s}`, host, port))
		}
		if len(producers) == 0 {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"TOPIC_NOT_FOUND"}`)
			return
		}
		data := `{"channels":[],"producers":[` + strings.Join(producers, ",") + `]}`
		if legacy {
			data = `{"status_code":200,"status_txt":"OK","data":` + data + `}`
		} else {
			w.Header().Set("X-NSQ-Content-Type", "nsq; version=1.0")
		}
		_, _ = io.WriteString(w, data)
	}))
	t.Cleanup(l.Close)
	return l
}

func TestConsumerLookupdAuthorization(t *testing.T) {
	l := startLookupd(t, false)
	config := testConfig()
	config.AuthSecret = "AuthSecret"
	r := newTestConsumer(t, "auth#ephemeral", config)
	r.AddHandler(HandlerFunc(scriptedHandler))
	if err := r.ConnectToNSQLookupd(l.URL); err != nil {
		t.Fatal(err)
	}
	select {
	case req := <-l.requests:
		if got := req.Header.Get("Authorization"); got != "Bearer AuthSecret" {
			t.Errorf("authorization %q", got)
		}
		if got := req.Header.Get("Accept"); got != "application/vnd.nsq; version=1.0" {
			t.Errorf("accept %q", got)
		}
		if got := req.URL.String(); got != "/lookup?topic=auth%23ephemeral" {
			t.Errorf("URL %q", got)
		}
	default:
		t.Fatal("nsqlookupd was not asked before ConnectToNSQLookupd returned")
	}
	if n := len(l.requests); n != 0 {
		t.Errorf("an unknown topic was asked for %d times more", n)
	}
}

// TestConsumerDiscovery: the nsqds of all nsqlookupds are found in the course
// of several polls, what is not wanted is filtered out, and a lost connection
// is asked for soon.
func TestConsumerDiscovery(t *testing.T) {
	eachKind := []bool{false, true}
	for _, legacy := range eachKind {
		t.Run(fmt.Sprintf("legacy=%t", legacy), func(t *testing.T) {
			a, b, unwanted := startServer(t, nil), startServer(t, nil), startServer(t, nil)
			first := startLookupd(t, legacy, a.tcpAddr(), unwanted.tcpAddr())
			second := startLookupd(t, legacy, b.tcpAddr())
			config := testConfig()
			config.LookupdPollInterval = 10 * time.Millisecond
			r := newTestConsumer(t, "discovery", config)
			r.SetBehaviorDelegate(without(unwanted.tcpAddr()))
			r.AddHandler(HandlerFunc(scriptedHandler))
			if err := r.ConnectToNSQLookupds([]string{first.URL, second.Listener.Addr().String()}); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "two connections", func() bool { return r.Stats().Connections == 2 })
			if unwanted.connections() != 0 {
				t.Error("connected to an nsqd that was filtered out")
			}
			a.dropConnections()
			waitFor(t, "loss", func() bool { return r.Stats().Connections < 2 || a.connections() == 1 })
			waitFor(t, "two connections again", func() bool { return r.Stats().Connections == 2 })

			if err := r.DisconnectFromNSQLookupd("127.0.0.1:1"); err != ErrNotConnected {
				t.Errorf("unknown nsqlookupd: %v", err)
			}
			if err := r.DisconnectFromNSQLookupd(first.URL); err != nil {
				t.Error(err)
			}
			want := "cannot disconnect from only remaining nsqlookupd HTTP address " + second.URL
			if err := r.DisconnectFromNSQLookupd(second.URL); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// without is a DiscoveryFilter that removes one address.
type without string

func (w without) Filter(addrs []string) []string {
	return slices.DeleteFunc(addrs, func(addr string) bool { return addr == string(w) })
}

func TestLookupEndpoint(t *testing.T) {
	for addr, want := range map[string]string{
		"h:1":                           "http://h:1/lookup?topic=t",
		"http://h:1/":                   "http://h:1/lookup?topic=t",
		"http://h:1/custom?x=1":         "http://h:1/custom?topic=t&x=1",
		"https://h:1/lookup?topic=mine": "https://h:1/lookup?topic=mine&topic=t",
	} {
		if got, err := lookupEndpoint(addr, "t"); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", addr, got, err, want)
		}
	}
	if _, err := lookupEndpoint("h", "t"); err == nil || err.Error() != "missing port" {
		t.Errorf("without port: %v", err)
	}
}
