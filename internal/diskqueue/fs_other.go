//go:build !linux

package diskqueue

import "os"

func syncFile(f *os.File) error { return f.Sync() }
