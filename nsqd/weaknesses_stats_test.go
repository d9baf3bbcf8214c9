package nsqd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// The weaknesses of statistics, statsd and readiness that the daemon whose protocol
// this is is known for, in the order of the HTTP and operations spec, section 18, and
// the tests that show them gone.
//
//	no Prometheus endpoint                                TestMetrics, TestMetricsOverHTTP
//	no readiness, sockets accept before topics are loaded TestLoading, TestDrain, TestNotReadyWithoutStorage
//	publishes over HTTP are neither logged nor counted    TestMetrics: nsqd_http_requests_total
//
//	pub_counts has one arbitrary topic                    TestStatsAfterKnownTraffic, TestStatsGolden
//	text shows producers of other topics as consumers     TestProducersOfOtherTopics; that they are listed is contract
//	publishers over HTTP are no producers                 kept: they have no connection to list
//	TLS 1.3 and AEAD suites are unknown                   kept, the names are contract: TestStatsOfLayers
//	locality counters of clients stay 0                   TestTwentyOfTwentyOneMessagesGoToTheZone
//	… and those of channels count without the experiment  TestWithoutTheExperimentPlacesDoNotCount
//	memory statistics stop the world                      readMemory does not; BenchmarkManyTopics
//	clients come in random order                          TestStatsAreStable
//	a slow reader                                         TestSlowReaderOfStats: holds up nobody
//
//	an interval of a second or less crashes               TestStatsdInAHurry
//	0.999 and 1.0 are both _100                           TestPercentName
//	counters go negative                                  TestStatsdOfTopicCreatedAgain
//	lost packets are silent                               TestStatsdOutOfReach
//	a window of 0 spins                                   TestStatisticsOptions
//	changes need a restart                                kept; --metrics-max-topics does not

// A producer is shown as one, whatever topic is asked for.
func TestProducersOfOtherTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, nil)
		b.connect().Pub("a", "m")
		producer := b.connect().Pub("b", "m").Pub("b", "m").LocalAddr()
		text := b.get("/stats?include_mem=0&topic=b")
		_, producers, _ := strings.Cut(text, "\nProducers:\n")
		lines := strings.SplitAfter(producers, "\n")
		if len(lines) != 3 || strings.Contains(producers, "state:") {
			t.Fatalf("got %s", text)
		}
		nsqtest.Equal(t, lines[1], fmt.Sprintf("   [V2 %-21s] msgs: 2        topics: b=2 connected: 0s\n", producer.String()+" "))
	})
}

// A slowWriter takes an answer only when it is released.
type slowWriter struct {
	*httptest.ResponseRecorder
	begun, release chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	close(w.begun)
	<-w.release
	return w.ResponseRecorder.Write(p)
}

// Nothing is held while an answer is on its way: publishing, consuming, and making
// and removing topics and channels go on.
func TestSlowReaderOfStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBubble(t, withLatencies)
		consumer := b.connect().Sub("t", "c").Rdy(1)
		producer := b.connect().Pub("t", "1")
		consumer.Fin(consumer.ReadMessage().ID)
		synctest.Wait()
		for _, path := range []string{"/stats", "/stats?format=json"} {
			w := &slowWriter{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
			go b.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			<-w.begun
			producer.Pub("t", "2").Pub("new", "3")
			consumer.Fin(consumer.ReadMessage().ID)
			b.connect().Sub("t", "d").Close()
			b.expect("POST", "/channel/delete?topic=t&channel=d", "", 200, "")
			b.expect("POST", "/topic/delete?topic=new", "", 200, "")
			close(w.release)
			synctest.Wait()
			if w.Code != 200 || !strings.Contains(w.Body.String(), "t") {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		}
	})
}
