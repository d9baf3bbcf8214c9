//go:build race

package nsqd

// raceDetector says that the tests run some ten times slower than the daemon.
const raceDetector = true
