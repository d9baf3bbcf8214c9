package nsqd

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nsq-suite/nsq/internal/nsqtest"
)

// The weaknesses of HTTP API, configuration and operation that the daemon whose
// protocol this is is known for, in the order of the HTTP and operations spec,
// section 18, and the tests that show them gone. Those of statistics and metrics
// have a list of their own.
//
//	HTTP
//	health is that of the last write                     TestHealthIsThatOfEachQueue
//	no time limits, no limit on connections              TestSlowClients, TestMaxConnections in internal/httpapi
//	administration reads bodies without limit            TestEndlessBodies, TestDiscardBody in internal/httpapi
//	binary /mpub in chunks has no limit                  TestPublishTooMuchInChunks
//	bad requests create topics                           TestPublishLimits, TestBodyThatBreaksOff
//	huge defer values wrap around                        TestPublishLimits
//	the first publish waits for nsqlookupd               kept: it brings the channels; others do not wait, TestWeakness28
//	a failing disk is answered 503 EXITING               kept, the text is contract; /ping, /stats and the log say why, TestDiskFailure
//	/mpub is queued in part                              TestWeakness14
//	/debug/setblockrate and freememory answer 500        TestDebugEndpoints
//	PUT of a list that is half wrong changes it          TestPutConfig
//	addresses are not checked                            TestPutConfig, TestOtherBadOptions
//	what PUT changes is lost with a restart              kept: the file, and SIGHUP, are for what stays, TestReloadOptions
//	concurrent PUTs overwrite each other                 TestConcurrentPuts
//	two options can change, certificates cannot          TestChangesTakeEffect, TestReloadCertificate, TestReloadClientCA
//	no protection of what destroys and reveals           TestGuardedRoutes, TestGuardedByCertificate, TestGuard in internal/httpapi
//	pprof lacks profiles                                 TestRoutes, TestPprof in internal/httpapi
//	HEAD is refused                                      kept, as scripts test it
//	requests are cut at a stop                           TestStopLetsRequestsFinish
//	answers to big bodies are lost in a reset            TestAnswerToUnreadBody in internal/httpapi
//	bad names are 400 here and 404 there                 kept, the answers are contract: TestParameterChecksOfAdminEndpoints
//
//	Command line and configuration
//	unknown keys are ignored                             TestUnknownKeys in internal/config, TestStrictConfig in internal/program
//	ill-typed values become others, or crash             TestIllTypedFileValues in internal/config
//	words end the flags silently                         TestWarnings in cmd/nsqlookupd, TestStrictConfig in internal/program
//	numbers are not checked                              TestOptionRanges
//	an unknown client-auth policy asks for nothing       TestDoubts: a warning, with --strict-config the end
//	TLS 1.0 is the default, ssl3.0 is advertised         kept, and gone
//	unknown experiments are accepted silently            TestDoubts: the same
//	--auth-http-request-method wants lower case          TestQuestion in internal/auth
//	a stale socket blocks the start                      TestStaleUnixSocket
//	--data-path is not created, sockets have no mode     kept: a typing error would begin an empty queue; the umask decides
//	without a port registration fails for ever           TestDoubts
//
//	Lifecycle and logging
//	SIGHUP kills                                         TestSignals in cmd/nsqd, TestReload in internal/program
//	an empty metadata file prevents the start            kept: it is damage; ours is synced before it gets its name
//	deletions come back after a crash                    TestDeletionIsDurableWhenAnswered
//	a pause that is not recorded is answered 200         kept, by contract; it is logged and tried again
//	clients that go are errors                           TestResetConnectionsAreNoErrors
//	one log format                                       TestFormats in internal/logging
//	polling floods the log                               TestAccessLogChoice in internal/httpapi
//	a stop may take for ever                             TestShutdownTimeout in internal/program, TestRemaining

// A request whose body never ends costs no memory, and ends.
func TestEndlessBodies(t *testing.T) {
	d := startDaemon(t)
	for _, path := range []string{"/topic/create?topic=t", "/topic/pause?topic=t", "/channel/create?topic=t&channel=c", "/channel/empty?topic=t&channel=c"} {
		conn, err := net.Dial("tcp", d.HTTPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		chunk := "10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n"
		sent := 0
		for err == nil && sent < 1<<30 {
			var n int
			n, err = io.WriteString(conn, chunk)
			sent += n
		}
		if err == nil {
			t.Errorf("%s: took %d bytes", path, sent)
		}
	}
	nsqtest.Equal(t, d.existingTopic("t").existingChannel("c") != nil, true)
}
