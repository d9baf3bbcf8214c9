package load

import (
	"testing"

	"github.com/nsq-suite/nsq/internal/tool/tooltest"
)

// TestMain lets the test binary be an nsqd, for Start.
func TestMain(m *testing.M) { tooltest.Main(m, "load", func() {}) }
