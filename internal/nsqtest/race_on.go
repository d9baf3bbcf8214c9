//go:build race

package nsqtest

// RaceDetector says whether the test is compiled for the race detector, under which
// everything runs some ten times slower.
const RaceDetector = true
