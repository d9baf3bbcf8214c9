//go:build !unix || illumos || solaris || aix

package nsqtofile

import "os"

// Where files cannot be locked, nobody knows to be alone with one.
func lockAlone(*os.File) bool   { return false }
func lockShared(*os.File) error { return nil }
