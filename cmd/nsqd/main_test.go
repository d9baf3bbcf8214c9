package main

import (
	"os"
	"testing"
)

// asNSQD, set in the environment, makes this test binary be nsqd.
const asNSQD = "NSQD_OF_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asNSQD) != "" {
		main()
	}
	os.Exit(m.Run())
}
