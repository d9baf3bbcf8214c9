//go:build !race

package nsqd

// raceDetector says that the tests run as fast as the daemon.
const raceDetector = false
