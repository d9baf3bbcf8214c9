// Package version knows the version of the suite, the same for every program
// in it.
package version

import "runtime"

// Number is the semantic version that the daemons announce to each other, show
// in /info and put into IDENTIFY. Tools parse it strictly as major.minor.patch
// and treat anything else as 0.0.0.
const Number = "1.3.0"

// String returns the line a program prints for --version and logs when it
// starts, without a line break: "nsqd v1.3.0 (built w/go1.26.0)".
func String(program string) string {
	return program + " v" + Number + " (built w/" + runtime.Version() + ")"
}
